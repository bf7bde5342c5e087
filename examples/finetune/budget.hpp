// How many steps fit into the minutes that the user gives.
#pragma once

#include <algorithm>  // max, nth_element
#include <cstdint>    // int64_t
#include <vector>     // vector

#include "settings.hpp"   // Settings, Contender
#include "text_data.hpp"  // TextData
#include "trainer.hpp"    // Trainee, evaluate

namespace finetune {

inline constexpr std::int64_t rows_per_run = 16;  ///< of the log: evaluations of the select split

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

}  // namespace finetune
