// The model before fine-tuning, how many steps there is time for, and one run from a fresh adapter to
// measured losses.
#pragma once

#include <cstdint>     // int64_t, uint64_t
#include <cstring>     // memcpy
#include <filesystem>  // path, exists
#include <memory>      // unique_ptr
#include <optional>    // optional
#include <span>        // span
#include <string>      // string
#include <vector>      // vector

#include <fmt/format.h>
#include <finetune/data/files.hpp>      // read_file, write_atomically, fnv1a
#include <finetune/data/text_data.hpp>  // TextData
#include <finetune/settings.hpp>        // Settings, Contender
#include <nlohmann/json.hpp>

#include "trainer.hpp"  // train_loop

namespace finetune {

/// A file of float32 values under a name that is the hash of what they depend on. Format: one line of JSON
/// (key, notes, count, checksum), a newline, the values as they lie in memory.
class BaseCache {
 public:
  /// `key`: everything the values depend on.
  BaseCache(const std::filesystem::path& folder, nlohmann::ordered_json key)
      : key_(std::move(key)), path_(folder / fmt::format("base-{:016x}.f32", fnv1a(key_.dump()))) {}

  const std::filesystem::path& path() const { return path_; }

  /// Fills `values` and returns the notes saved with them; nothing, and values untouched, if there is no such
  /// file or it is damaged (then `problem` says how).
  std::optional<nlohmann::ordered_json> load(std::span<float> values, std::string& problem) const {
    problem.clear();
    if (!std::filesystem::exists(path_)) return std::nullopt;
    const std::string bytes = read_file(path_);
    const std::size_t newline = bytes.find('\n');
    const auto header =
        nlohmann::ordered_json::parse(bytes.substr(0, newline), nullptr, /*allow_exceptions=*/false);
    if (newline == std::string::npos || !header.contains("key") || header["key"] != key_) {
      problem = "its header is not the expected one";
      return std::nullopt;
    }
    const std::string_view payload = std::string_view(bytes).substr(newline + 1);
    if (payload.size() != values.size_bytes()) {
      problem = fmt::format("it holds {} bytes of values instead of {}", payload.size(), values.size_bytes());
      return std::nullopt;
    }
    if (!header.contains("checksum") || header["checksum"] != checksum(payload)) {
      problem = "its checksum does not match its values";
      return std::nullopt;
    }
    std::memcpy(values.data(), payload.data(), payload.size());
    return header.contains("notes") ? header["notes"] : nlohmann::ordered_json::object();
  }

  void save(std::span<const float> values, const nlohmann::ordered_json& notes) const {
    const std::string_view payload(reinterpret_cast<const char*>(values.data()), values.size_bytes());
    const nlohmann::ordered_json header = {
        {"key", key_}, {"notes", notes}, {"count", values.size()}, {"checksum", checksum(payload)}};
    write_atomically(path_, header.dump() + '\n' + std::string(payload));
  }

 private:
  static std::string checksum(std::string_view payload) { return fmt::format("{:016x}", fnv1a(payload)); }

  nlohmann::ordered_json key_;
  std::filesystem::path path_;
};

struct Base {
  Weights weights;
  std::string name = {};  ///< tells it from bases made otherwise
  std::int64_t steps = 0;
  double task_loss = 0;  ///< on the task's test split, in bits per byte
  double base_loss = 0;  ///< on the base's test split
  bool from_cache = false;
  double seconds_per_step = 0;  ///< of pre-training, if it was made now
  bool interrupted = false;     ///< Ctrl-C during pre-training: weights are only of use to continue from
};

/// Reads the base from the cache, or pre-trains it for `steps` steps and saves it there. Says on stdout what
/// it does.
Base obtain_base(Model& model, const Settings& settings, const TextData& data, std::int64_t steps,
                 Communicator& processes = single_process());

/// Seconds, measured.
struct Costs {
  double base_step = 0;
  double evaluation = 0;      ///< of one batch
  std::vector<double> steps;  ///< by contender

  /// For steps of `accumulate` batches that the processes share.
  void share(Index accumulate, int processes) {
    const auto most = static_cast<double>(share_of(accumulate, processes - 1, processes).size());
    base_step *= most;
    for (double& step : steps) step *= most;
    evaluation /= processes;
  }
  /// For a machine that has become `factor` times slower; one that has become faster is not trusted.
  void slow_down(double factor) {
    if (!(factor > 1)) return;
    base_step *= factor;
    evaluation *= factor;
    for (double& step : steps) step *= factor;
  }
};

struct StepCounts {
  std::int64_t base = 0, task = 0;
};

Costs measure_costs(Model& model, const Settings& settings, const TextData& data,
                    const std::vector<Contender>& contenders);

/// How many steps of every fine-tuning run fit into `seconds`, evaluations included: a multiple of ten, at
/// least ten.
std::int64_t fitting_steps(const Settings& settings, const TextData& data, const Costs& costs,
                           double seconds);

/// Divides `seconds` among pre-training, two fifths, and all fine-tuning runs, which take equal numbers of
/// steps. Counts that the user gave stay. The base counts as if it had to be made, so that a cached one does
/// not change the comparison.
StepCounts plan_steps(const Settings& settings, const TextData& data, const Costs& costs, double seconds);

/// Losses in bits per byte.
struct RunResult {
  Contender contender;
  std::uint64_t seed = 0;
  Rates rates;
  TrainingResult training;
  Index trained = 0, frozen = 0;    ///< parameters
  Index bytes = 0;                  ///< parameters, gradients and optimiser state
  Index activation_bytes = 0;       ///< kept for backward
  double task_loss = not_measured;  ///< on the task's test split, afterwards
  double base_loss = not_measured;  ///< on the base's test split, afterwards

  const char* status() const {
    return training.diverged ? "diverged" : training.interrupted ? "interrupted" : "done";
  }
  /// What a table says after the results: nothing, unless the run ended early.
  std::string note() const {
    return training.diverged || training.interrupted
               ? fmt::format("  {} after {} steps", status(), training.steps)
               : std::string();
  }
};

/// Everything that runs must share to be compared, apart from scheme, rank and seed.
nlohmann::ordered_json comparison_key(const Settings& settings, const TextData& data, const Base& base,
                                      std::int64_t steps);

/// What a run leaves behind: the results, and the trained model.
struct RunAndTrainee {
  RunResult run;
  std::unique_ptr<Trainee> trainee;
};

inline std::string run_name(const Contender& contender, std::uint64_t seed) {
  return fmt::format("{}-seed{}", contender.slug(), seed);
}

/// Trains one contender on the task text. The data order depends on the seed alone, so it is the same for
/// every contender. With `log`, rows are kept for metrics.csv, and checkpoints are saved.
RunAndTrainee train_run(Model& model, const Settings& settings, const TextData& data, const Base& base,
                        const Contender& contender, std::uint64_t seed, const Rates& rates,
                        std::int64_t steps, bool log, Communicator& processes = single_process());

void measure_run(Model& model, const TextData& data, RunAndTrainee& result,
                 Communicator& processes = single_process());

}  // namespace finetune
