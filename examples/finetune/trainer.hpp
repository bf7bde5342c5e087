// The training loop, and measuring the loss.
#pragma once

#include <cmath>       // log, isfinite
#include <cstdint>     // int64_t, uint64_t
#include <filesystem>  // create_directories
#include <string>      // string
#include <vector>      // vector

#include "progress.hpp"        // Progress, Interrupt
#include "sampler.hpp"         // Sampler, Tokens
#include "schedule.hpp"        // Schedule, EarlyStopping
#include "trainee.hpp"         // Trainee
#include "training_state.hpp"  // TrainingState

namespace finetune {

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

struct TrainingPlan {
  std::string title;
  std::int64_t steps = 0;
  std::int64_t log_rows =
      1;  ///< of the log after the first, evenly spread: as often is the select split evaluated
  int patience = 0;
  CheckpointPlan checkpoint = {};
};

/// Besides those at each row of the log.
inline constexpr double seconds_between_checkpoints = 20;

struct TrainingResult {
  std::vector<Logged> log;
  std::int64_t steps = 0;  ///< done
  double seconds_per_step = 0;
  Index activation_bytes = 0;  ///< that a step kept for backward
  bool diverged = false;       ///< a loss or a gradient was not finite; the run ended there
  bool interrupted = false;    ///< Ctrl-C; what was trained until then is in the trainee
};

/// Trains. `select` may be empty: then nothing is evaluated. With patience, the trainee ends with the values
/// that had the lowest select loss, else with the last ones. A run that goes on from a checkpoint ends with
/// the same bits as one that was never interrupted.
inline TrainingResult train_loop(Model& model, Trainee& trainee, const Sampler& sampler,
                                 const std::vector<Tokens>& select, const TrainingPlan& plan) {
  const Schedule schedule = default_schedule(plan.steps);
  const bool saves = !plan.checkpoint.path.empty();
  TrainingState state(plan.patience);
  TrainingResult result;
  double saved = seconds_now();

  const auto log = [&](std::int64_t step) {
    Logged row{step,
               state.summed > 0 ? bits(state.sum / double(state.summed)) : not_measured,
               not_measured,
               step > 0 ? schedule(step - 1) : 0,
               state.last.gradient_norm,
               state.spent};
    if (!select.empty()) row.select_loss = evaluate(model, trainee.weights(), trainee.adapter(), select);
    state.log.push_back(row);
    state.sum = 0;
    state.summed = 0;
    if (plan.patience > 0 && state.stopping.improves(row.select_loss)) {
      state.best.assign(trainee.values().begin(), trainee.values().end());
      if (saves) save_best(plan.checkpoint, state.best);
    }
  };
  const auto save = [&] {
    if (saves) save_state(plan.checkpoint, trainee, state);
    saved = seconds_now();
  };

  if (saves) std::filesystem::create_directories(plan.checkpoint.path.parent_path());
  if (resume_state(plan.checkpoint, trainee, state))
    fmt::print("{:<17} goes on after {} of {} steps\n", plan.title, state.steps, plan.steps);
  else
    log(0);
  Progress progress(plan.title, plan.steps, sampler.batch(0).count(), state.steps);
  while (state.steps < plan.steps && !state.stopping.stop()) {
    if (Interrupt::requested()) {
      result.interrupted = true;
      save();
      break;
    }
    const double begin = seconds_now();
    state.last =
        trainee.learn(model, sampler.batch(static_cast<std::uint64_t>(state.steps)), schedule(state.steps));
    state.spent += seconds_now() - begin;
    state.activation_bytes = model.activation_bytes();
    if (!state.last.finite) {
      result.diverged = true;
      break;
    }
    ++state.steps;
    state.sum += state.last.loss;
    ++state.summed;
    state.smooth = state.steps == 1 ? state.last.loss : 0.95 * state.smooth + 0.05 * state.last.loss;
    const bool row =
        state.steps * plan.log_rows / plan.steps > (state.steps - 1) * plan.log_rows / plan.steps;
    if (row) log(state.steps);
    if (row || seconds_now() - saved > seconds_between_checkpoints) save();
    progress.update(state.steps, bits(state.smooth));
  }
  if (state.log.back().step != state.steps) log(state.steps);  // ended early
  if (!state.best.empty()) std::copy(state.best.begin(), state.best.end(), trainee.values().begin());
  result.log = std::move(state.log);
  result.steps = state.steps;
  result.activation_bytes = state.activation_bytes;
  result.seconds_per_step = state.steps > 0 ? state.spent / double(state.steps) : 0;
  return result;
}

}  // namespace finetune
