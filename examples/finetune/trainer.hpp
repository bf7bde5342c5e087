// The training loop, and measuring the loss.
#pragma once

#include <cmath>     // log, isfinite
#include <cstdint>   // int64_t, uint64_t
#include <limits>    // numeric_limits
#include <optional>  // optional
#include <span>      // span
#include <string>    // string
#include <vector>    // vector

#include "progress.hpp"  // Progress, Interrupt
#include "sampler.hpp"   // Sampler, Tokens
#include "schedule.hpp"  // Schedule, EarlyStopping
#include "trainee.hpp"   // Trainee

namespace finetune {

inline constexpr double not_measured = std::numeric_limits<double>::quiet_NaN();
inline double bits(double nats) { return nats / std::log(2.0); }

/// Mean loss over fixed windows, in bits per byte.
inline double evaluate(Model& model, const Weights& weights, const Adapter* adapter,
                       const std::vector<Tokens>& batches) {
  double sum = 0, count = 0;
  for (const Tokens& tokens : batches) {
    const auto bytes = static_cast<double>(tokens.count());
    sum += model.evaluate(weights, adapter, view(tokens)) * bytes;
    count += bytes;
  }
  return bits(sum / count);
}

/// One row of metrics.csv.
struct Logged {
  std::int64_t step = 0;              ///< steps done
  double train_loss = not_measured;   ///< bits per byte: mean over the steps since the last row
  double select_loss = not_measured;  ///< bits per byte
  double rate_factor = 0;             ///< of the schedule, in the last step
  double gradient_norm = 0;           ///< in the last step
  double seconds = 0;                 ///< spent in steps so far, without evaluations
};

struct TrainingPlan {
  std::string title;
  std::int64_t steps = 0;
  std::int64_t log_rows =
      1;  ///< of the log after the first, evenly spread: as often is the select split evaluated
  int patience = 0;
};

struct TrainingResult {
  std::vector<Logged> log;
  std::int64_t steps = 0;  ///< done
  double seconds_per_step = 0;
  bool diverged = false;     ///< a loss or a gradient was not finite; the run ended there
  bool interrupted = false;  ///< Ctrl-C; what was trained until then is in the trainee
};

/// Trains. `select` may be empty: then nothing is evaluated. With patience, the trainee ends with the values
/// that had the lowest select loss, else with the last ones.
inline TrainingResult train_loop(Model& model, Trainee& trainee, const Sampler& sampler,
                                 const std::vector<Tokens>& select, const TrainingPlan& plan) {
  const Schedule schedule = default_schedule(plan.steps);
  EarlyStopping stopping(plan.patience);
  std::vector<float> best;
  TrainingResult result;
  double spent = 0, sum = 0, smooth = 0;
  std::int64_t summed = 0;
  StepResult last;

  const auto log = [&](std::int64_t step) {
    Logged row{step,
               summed > 0 ? bits(sum / double(summed)) : not_measured,
               not_measured,
               step > 0 ? schedule(step - 1) : 0,
               last.gradient_norm,
               spent};
    if (!select.empty()) row.select_loss = evaluate(model, trainee.weights(), trainee.adapter(), select);
    result.log.push_back(row);
    sum = 0;
    summed = 0;
    if (plan.patience > 0 && stopping.improves(row.select_loss))
      best.assign(trainee.values().begin(), trainee.values().end());
  };

  log(0);
  Progress progress(plan.title, plan.steps, sampler.batch(0).count());
  while (result.steps < plan.steps && !stopping.stop()) {
    if (Interrupt::requested()) {
      result.interrupted = true;
      break;
    }
    const double begin = seconds_now();
    last =
        trainee.learn(model, sampler.batch(static_cast<std::uint64_t>(result.steps)), schedule(result.steps));
    spent += seconds_now() - begin;
    if (!last.finite) {
      result.diverged = true;
      break;
    }
    ++result.steps;
    sum += last.loss;
    ++summed;
    smooth = result.steps == 1 ? last.loss : 0.95 * smooth + 0.05 * last.loss;
    if (result.steps * plan.log_rows / plan.steps > (result.steps - 1) * plan.log_rows / plan.steps)
      log(result.steps);
    progress.update(result.steps, bits(smooth));
  }
  if (result.log.back().step != result.steps) log(result.steps);  // ended early
  if (!best.empty()) std::copy(best.begin(), best.end(), trainee.values().begin());
  result.seconds_per_step = result.steps > 0 ? spent / double(result.steps) : 0;
  return result;
}

}  // namespace finetune
