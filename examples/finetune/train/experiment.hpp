// One fine-tuning run, from a fresh adapter to measured losses, and how many steps of it there is time for.
#pragma once

#include <algorithm>  // max, nth_element
#include <cstdint>    // int64_t, uint64_t
#include <memory>     // unique_ptr
#include <string>     // string
#include <vector>     // vector

#include <fmt/format.h>
#include <finetune/data/text_data.hpp>  // TextData
#include <finetune/settings.hpp>        // Settings, Contender
#include <nlohmann/json.hpp>

#include "base_model.hpp"  // Base
#include "trainer.hpp"     // Trainee, evaluate, train_loop

namespace finetune {

/// Seconds, measured.
struct Costs {
  double base_step = 0;
  double evaluation = 0;      ///< of one batch
  std::vector<double> steps;  ///< by contender

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

/// The median of five steps, after one that warms up.
inline double measure_step(Model& model, Trainee& trainee, const Tokens& tokens) {
  std::vector<double> seconds;
  for (int i = 0; i < 6; ++i) {
    const double begin = seconds_now();
    trainee.learn(model, tokens, 0);
    if (i > 0) seconds.push_back(seconds_now() - begin);
  }
  std::nth_element(seconds.begin(), seconds.begin() + 2, seconds.end());
  return seconds[2];
}

inline Costs measure_costs(Model& model, const Settings& settings, const TextData& data,
                           const std::vector<Contender>& contenders) {
  Weights weights(settings.model);
  weights.initialize(base_seed);
  const Tokens tokens = Sampler(data.base.text(Part::train), settings.batch, settings.length, 0).batch(0);
  Costs costs;
  {
    WeightsTrainee trainee(copy_of(weights), 0);
    costs.base_step = measure_step(model, trainee, tokens);
  }
  for (const Contender& contender : contenders)
    costs.steps.push_back(
        contender.is_full()
            ? costs.base_step
            : measure_step(model, *make_trainee(settings, contender, {}, weights, 0), tokens));
  evaluate(model, weights, nullptr, {tokens});
  const double begin = seconds_now();
  evaluate(model, weights, nullptr, {tokens, tokens, tokens});
  costs.evaluation = (seconds_now() - begin) / 3;
  return costs;
}

/// How many steps of every fine-tuning run fit into `seconds`, evaluations included: a multiple of ten, at
/// least ten.
inline std::int64_t fitting_steps(const Settings& settings, const TextData& data, const Costs& costs,
                                  double seconds) {
  const auto seeds = double(settings.seeds.size());
  double step = 0;
  for (const double one : costs.steps) step += seeds * one;
  const double logs = double((rows_per_run + 1) * std::ssize(data.select));
  const double tests = double(data.test.size() + data.base_test.size());
  const double evaluations = seeds * double(costs.steps.size()) * (logs + tests) * costs.evaluation;
  return std::max<std::int64_t>(10, static_cast<std::int64_t>((seconds - evaluations) / step) / 10 * 10);
}

/// Divides `seconds` among pre-training, two fifths, and all fine-tuning runs, which take equal numbers of
/// steps. Counts that the user gave stay. The base counts as if it had to be made, so that a cached one does
/// not change the comparison.
inline StepCounts plan_steps(const Settings& settings, const TextData& data, const Costs& costs,
                             double seconds) {
  StepCounts counts{settings.base_steps, settings.steps};
  if (counts.base == 0)
    counts.base =
        std::max<std::int64_t>(10, static_cast<std::int64_t>(0.4 * seconds / costs.base_step) / 10 * 10);
  if (counts.task == 0)
    counts.task = fitting_steps(settings, data, costs, seconds - double(counts.base) * costs.base_step);
  return counts;
}

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
