// What a run leaves in its folder: the adapter in three formats, a card for whoever finds it, the results.
#pragma once

#include <cstdint>     // int64_t
#include <filesystem>  // path
#include <string>      // string

#include <finetune/data/read_data.hpp>  // DataReport
#include <finetune/train/trainer.hpp>   // TrainingResult

#include "base.hpp"
#include "options.hpp"

namespace finetune {

/// All that a card says.
struct TuneRecord {
  TrainOptions options = {};
  std::string base_name = {};
  DataReport data = {};
  std::size_t training_examples = 0, validation_examples = 0;
  std::string held_out = {};       ///< "5 % of the examples", "notes/valid.jsonl"
  std::int64_t planned_steps = 0;  ///< that the schedule of the rates is for
  std::int64_t evaluations = 0;    ///< planned, besides the first
  TrainingResult training = {};
  Index trained = 0, frozen = 0;  ///< parameters
  double loss_before = not_measured, loss_after = not_measured;
  int processes = 1;
  bool has_picture = false;  ///< loss.png
  Index estimated_bytes = 0;
  std::int64_t peak_bytes = 0;
  double seconds = 0;
};

/// Writes adapter.safetensors, peft/ and adapter.gguf: one function in the formats of three programs.
void save_adapter_files(const std::filesystem::path& folder, const TuneBase& base, const Adapter& adapter,
                        const std::string& base_name);

/// Writes metrics.csv, loss.png and .svg. Returns what went wrong with the picture, or nothing.
std::string save_metrics(const std::filesystem::path& folder, const TrainingResult& training);

/// Writes run.json and README.md.
void save_record(const std::filesystem::path& folder, const TuneBase& base, const TuneRecord& record);

}  // namespace finetune
