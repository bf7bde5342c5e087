// The files a comparison leaves: metrics.csv, summary.csv, summary.json and the trained adapters.
#pragma once

#include <algorithm>   // find
#include <cmath>       // isfinite
#include <filesystem>  // path
#include <optional>    // optional
#include <string>      // string
#include <vector>      // vector

#include <fmt/format.h>
#include <finetune/data/files.hpp>        // fnv1a
#include <finetune/train/experiment.hpp>  // RunResult
#include <nlohmann/json.hpp>

namespace finetune {

/// All runs of one invocation, and what they are measured against.
struct Comparison {
  Settings settings;
  nlohmann::ordered_json key;                     ///< comparison_key
  double base_task_loss = 0, base_base_loss = 0;  ///< before fine-tuning, in bits per byte
  std::int64_t base_steps = 0, steps = 0;
  std::vector<RunResult> runs;

  /// Names the settings in CSV rows: rows with one id may be compared.
  std::string id() const { return fmt::format("{:08x}", fnv1a(key.dump()) & 0xffffffffu); }

  /// The LoRA that percentages refer to: at the first of --ranks, on the same modules.
  Contender reference() const { return {"lora", settings.ranks.front()}; }
  std::string reference_name() const {
    std::string targets;
    for (const std::string& target : settings.targets)
      targets += (targets.empty() ? "" : ",") + target.substr(0, target.rfind("_proj"));
    return fmt::format("LoRA r={} on {}, untied", reference().rank, targets);
  }
  Index reference_count() const { return layout_of(settings, "lora", reference().rank).trainable_count(); }

  /// Each contender once, in the order in which they were run.
  std::vector<Contender> contenders() const {
    std::vector<Contender> distinct;
    for (const RunResult& run : runs)
      if (std::find(distinct.begin(), distinct.end(), run.contender) == distinct.end())
        distinct.push_back(run.contender);
    return distinct;
  }

  /// The mean of value(run) over the seeds of one contender; NaN if one has none.
  template <class Value>
  double mean(const Contender& contender, Value value) const {
    double sum = 0, count = 0;
    for (const RunResult& run : runs)
      if (run.contender == contender) {
        sum += value(run);
        ++count;
      }
    return sum / count;
  }

  /// How much of the reference's fall of the test loss, on the same seed, the run reaches; 1 is all of it.
  /// Nothing if the reference was not run or gained nothing.
  std::optional<double> gain_kept(const RunResult& run) const {
    for (const RunResult& other : runs) {
      if (!(other.contender == reference()) || other.seed != run.seed) continue;
      const double gain = base_task_loss - other.task_loss;
      if (gain > 0 && std::isfinite(run.task_loss)) return (base_task_loss - run.task_loss) / gain;
    }
    return std::nullopt;
  }
};

/// One row per logged step. Rows of the same settings, scheme, rank and seed replace earlier ones.
void save_metrics(const std::filesystem::path& path, const Comparison& comparison);

/// One row per run. Rows of the same settings, scheme, rank and seed replace earlier ones; all others stay.
void save_summary_csv(const std::filesystem::path& path, const Comparison& comparison);

/// This invocation: settings and runs, with null for what was not measured.
void save_summary_json(const std::filesystem::path& path, const Comparison& comparison);

}  // namespace finetune
