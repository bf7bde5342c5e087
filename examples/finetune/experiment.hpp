// One fine-tuning run, from a fresh adapter to measured losses.
#pragma once

#include <cstdint>  // int64_t, uint64_t
#include <memory>   // unique_ptr
#include <string>   // string

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base_model.hpp"  // Base
#include "budget.hpp"      // rows_per_run
#include "settings.hpp"    // Settings, Contender
#include "text_data.hpp"   // TextData
#include "trainer.hpp"     // train_loop

namespace finetune {

/// Losses in bits per byte.
struct RunResult {
  Contender contender;
  std::uint64_t seed = 0;
  Rates rates;
  TrainingResult training;
  Index trained = 0, frozen = 0;    ///< numbers
  Index bytes = 0;                  ///< parameters, gradients and optimiser state
  Index activation_bytes = 0;       ///< kept for backward
  double task_loss = not_measured;  ///< on the task's test split, afterwards
  double base_loss = not_measured;  ///< on the base's test split, afterwards

  const char* status() const {
    return training.diverged ? "diverged" : training.interrupted ? "interrupted" : "done";
  }
  /// What a table says behind the numbers: nothing, unless the run ended early.
  std::string note() const {
    return training.diverged || training.interrupted
               ? fmt::format("  {} after {} steps", status(), training.steps)
               : std::string();
  }
};

/// Everything that runs must share to be compared, apart from scheme, rank and seed.
inline nlohmann::ordered_json comparison_key(const Settings& settings, const TextData& data, const Base& base,
                                             std::int64_t steps) {
  nlohmann::ordered_json rates;
  for (const auto& [name, rate] : settings.rates) rates[name] = {rate.rate, rate.uv_multiple};
  return {{"base", base_key(settings, data)},
          {"base_steps", base.steps},
          {"task_text", fmt::format("{:016x}", data.task.hash)},
          {"targets", settings.targets},
          {"steps", steps},
          {"learning_rates", rates},
          {"patience", settings.patience},
          {"windows", settings.windows}};
}

/// What a run leaves behind: the numbers, and the trained model.
struct RunAndTrainee {
  RunResult run;
  std::unique_ptr<Trainee> trainee;
};

inline std::string run_name(const Contender& contender, std::uint64_t seed) {
  return fmt::format("{}-seed{}", contender.slug(), seed);
}

/// Trains one contender on the task text. The data order depends on the seed alone, so it is the same for
/// every contender. With `log`, rows are kept for metrics.csv, and checkpoints are saved.
inline RunAndTrainee train_run(Model& model, const Settings& settings, const TextData& data, const Base& base,
                               const Contender& contender, std::uint64_t seed, const Rates& rates,
                               std::int64_t steps, bool log) {
  RunAndTrainee result;
  RunResult& run = result.run;
  run.contender = contender;
  run.seed = seed;
  run.rates = rates;
  result.trainee = make_trainee(settings, contender, rates, base.weights, seed);
  run.trained = result.trainee->trained_count();
  run.frozen = result.trainee->frozen_count();
  run.bytes = result.trainee->bytes();
  const Sampler sampler(data.task.text(Part::train), settings.batch, settings.length, mix(seed));
  TrainingPlan plan{contender.label(), steps, rows_per_run, settings.patience};
  if (log)
    plan.checkpoint = {
        .path = settings.out / "checkpoints" / (run_name(contender, seed) + ".safetensors"),
        .key = run_name(contender, seed) + " " + comparison_key(settings, data, base, steps).dump(),
        .resume = settings.resume};
  run.training = train_loop(model, *result.trainee, sampler, log ? data.select : std::vector<Tokens>(), plan);
  run.activation_bytes = run.training.activation_bytes;
  return result;
}

inline void measure_run(Model& model, const TextData& data, RunAndTrainee& result) {
  if (result.run.training.diverged) return;
  const Trainee& trainee = *result.trainee;
  result.run.task_loss = evaluate(model, trainee.weights(), trainee.adapter(), data.test);
  result.run.base_loss = evaluate(model, trainee.weights(), trainee.adapter(), data.base_test);
}

}  // namespace finetune
