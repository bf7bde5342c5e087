// What the commands for real models are told.
#pragma once

#include <cstdint>     // int64_t, uint64_t
#include <filesystem>  // path
#include <optional>    // optional
#include <string>      // string
#include <vector>      // vector

#include <finetune/data/read_data.hpp>  // DataOptions
#include <finetune/settings.hpp>        // all_targets, Index

namespace finetune {

/// The base model and how it is computed.
struct ModelOptions {
  std::filesystem::path path = {};
  bool float_base = false;  ///< products read a copy of the weights as floats
  bool bfloat16 = false;    ///< products with the weights round their operands to bfloat16
  int threads = 1;
};

/// The longest sequence, in tokens, unless told otherwise and where the model can read as much.
inline constexpr Index default_window = 512;

/// The most tokens in a batch.
inline constexpr Index default_batch_tokens = 1024;

/// What is trained on. A window of 0 is the default.
struct TrainingDataOptions {
  std::vector<std::filesystem::path> paths = {}, validation = {};
  DataOptions reading = {.window = 0};
  double held_out = 0.05;  ///< taken off for validation where no file is given; 0: nothing is
  Index batch_tokens = default_batch_tokens;
};

/// Whether there is anything to measure with.
inline bool has_validation(const TrainingDataOptions& data) {
  return data.held_out > 0 || !data.validation.empty();
}

/// How an adapter is trained.
struct TuneOptions {
  std::string scheme = "lora";  ///< smaller ones: docs/choosing.md
  Index rank = 8;
  double scaling = 1;
  std::vector<std::string> targets = all_targets();
  std::vector<Index> layers = {};  ///< empty: all
  /// Else those of the scheme; B's is that of A.
  std::optional<double> rate = std::nullopt, b_rate = std::nullopt, uv_rate = std::nullopt;
  std::string schedule = "cosine";  ///< or "constant"
  double warm_up = 0.05;            ///< of the steps
  double weight_decay = 0.01;
  double clip_norm = 1;
  double dropout = 0;
  Index accumulate = 1;  ///< batches in a step, which the processes of a run share
  std::uint64_t seed = 1;
  bool recompute = false;    ///< Keep::inputs
  bool fast_reduce = false;  ///< Reduction::fast
};

struct TrainOptions {
  ModelOptions model = {};
  TrainingDataOptions data = {};
  TuneOptions tune = {};
  double epochs = 1;
  std::int64_t steps = 0;  ///< instead of epochs
  double minutes = 0;      ///< instead of both: as many steps as fit
  std::int64_t evaluations = 10;
  int patience = 0;
  bool resume = false;
  std::filesystem::path out = {};
  std::string base_name = {};  ///< for the files' notes on their base; empty: what the model calls itself
};

}  // namespace finetune
