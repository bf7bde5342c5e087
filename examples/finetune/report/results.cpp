// What a comparison leaves in files.
#include "results.hpp"

#include <optional>  // optional

#include <fmt/format.h>
#include <finetune/data/files.hpp>  // CsvTable, csv_number, write_atomically
#include <nlohmann/json.hpp>

#include "json_number.hpp"

namespace finetune {

void save_metrics(const std::filesystem::path& path, const Comparison& comparison) {
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

void save_summary_csv(const std::filesystem::path& path, const Comparison& comparison) {
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

void save_summary_json(const std::filesystem::path& path, const Comparison& comparison) {
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
                    {"test_bits_per_byte", json_number(run.task_loss)},
                    {"gain_kept", kept ? json_number(*kept) : nlohmann::ordered_json()},
                    {"base_test_bits_per_byte", json_number(run.base_loss)},
                    {"training_bytes", run.bytes},
                    {"activation_bytes", run.activation_bytes},
                    {"seconds_per_step", json_number(run.training.seconds_per_step)}});
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
