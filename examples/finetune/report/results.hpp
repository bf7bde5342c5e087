// The files a comparison leaves: metrics.csv, summary.csv, summary.json and the trained numbers.
#pragma once

#include <algorithm>   // find
#include <cmath>       // isfinite
#include <filesystem>  // path
#include <optional>    // optional
#include <string>      // string
#include <vector>      // vector

#include <fmt/format.h>
#include <finetune/data/files.hpp>        // CsvTable, write_atomically, fnv1a
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
inline void save_metrics(const std::filesystem::path& path, const Comparison& comparison) {
  CsvTable table =
      CsvTable::load(path, {"settings", "scheme", "rank", "seed", "step", "train_bits_per_byte",
                            "select_bits_per_byte", "learning_rate", "gradient_norm", "seconds"});
  for (const RunResult& run : comparison.runs) {
    const CsvTable::Row name = {comparison.id(), run.contender.scheme, std::to_string(run.contender.rank),
                                std::to_string(run.seed)};
    table.remove(name);
    for (const Logged& logged : run.training.log) {
      CsvTable::Row row = name;
      for (const std::string& field :
           {std::to_string(logged.step), csv_number(logged.train_loss), csv_number(logged.select_loss),
            csv_number(logged.rate_factor * run.rates.rate), csv_number(logged.gradient_norm),
            csv_number(logged.seconds)})
        row.push_back(field);
      table.add(row);
    }
  }
  table.save(path);
}

/// One row per run. Rows of the same settings, scheme, rank and seed replace earlier ones; all others stay.
inline void save_summary_csv(const std::filesystem::path& path, const Comparison& comparison) {
  CsvTable table = CsvTable::load(path, {"settings",
                                         "scheme",
                                         "rank",
                                         "seed",
                                         "trained",
                                         "percent_of_lora",
                                         "lora",
                                         "frozen",
                                         "learning_rate",
                                         "uv_multiple",
                                         "steps",
                                         "test_before",
                                         "test_after",
                                         "select_after",
                                         "gain_kept_percent",
                                         "base_test_before",
                                         "base_test_after",
                                         "training_bytes",
                                         "activation_bytes",
                                         "seconds_per_step",
                                         "status"});
  for (const RunResult& run : comparison.runs) {
    CsvTable::Row row = {comparison.id(), run.contender.scheme, std::to_string(run.contender.rank),
                         std::to_string(run.seed)};
    table.remove(row);
    const std::optional<double> kept = comparison.gain_kept(run);
    for (const std::string& field :
         {std::to_string(run.trained),
          csv_number(100.0 * double(run.trained) / double(comparison.reference_count())),
          comparison.reference_name(), std::to_string(run.frozen), csv_number(run.rates.rate),
          csv_number(run.rates.uv_multiple), std::to_string(run.training.steps),
          csv_number(comparison.base_task_loss), csv_number(run.task_loss),
          csv_number(run.training.log.back().select_loss), csv_number(kept ? 100 * *kept : not_measured),
          csv_number(comparison.base_base_loss), csv_number(run.base_loss), std::to_string(run.bytes),
          std::to_string(run.activation_bytes), csv_number(run.training.seconds_per_step),
          std::string(run.status())})
      row.push_back(field);
    table.add(row);
  }
  table.save(path);
}

/// This invocation: settings and runs, with null for what was not measured.
inline void save_summary_json(const std::filesystem::path& path, const Comparison& comparison) {
  const auto number = [](double value) {
    return std::isfinite(value) ? nlohmann::ordered_json(value) : nlohmann::ordered_json();
  };
  nlohmann::ordered_json runs = nlohmann::ordered_json::array();
  for (const RunResult& run : comparison.runs) {
    const std::optional<double> kept = comparison.gain_kept(run);
    runs.push_back({{"scheme", run.contender.scheme},
                    {"rank", run.contender.rank},
                    {"seed", run.seed},
                    {"status", run.status()},
                    {"steps", run.training.steps},
                    {"learning_rate", run.rates.rate},
                    {"uv_multiple", run.rates.uv_multiple},
                    {"trained", run.trained},
                    {"frozen", run.frozen},
                    {"test_bits_per_byte", number(run.task_loss)},
                    {"gain_kept", kept ? number(*kept) : nlohmann::ordered_json()},
                    {"base_test_bits_per_byte", number(run.base_loss)},
                    {"training_bytes", run.bytes},
                    {"activation_bytes", run.activation_bytes},
                    {"seconds_per_step", number(run.training.seconds_per_step)}});
  }
  const nlohmann::ordered_json summary = {
      {"settings_id", comparison.id()},
      {"settings", comparison.key},
      {"reference", {{"name", comparison.reference_name()}, {"trained", comparison.reference_count()}}},
      {"before",
       {{"test_bits_per_byte", comparison.base_task_loss},
        {"base_test_bits_per_byte", comparison.base_base_loss}}},
      {"runs", runs}};
  write_atomically(path, summary.dump(2) + '\n');
}

}  // namespace finetune
