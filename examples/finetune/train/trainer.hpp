// The training loop, what a user sees of it, and measuring the loss.
#pragma once

#include <unistd.h>  // isatty

#include <algorithm>   // clamp
#include <chrono>      // steady_clock
#include <cmath>       // log, isfinite
#include <csignal>     // signal
#include <cstdint>     // int64_t, uint64_t
#include <cstdio>      // stderr
#include <filesystem>  // create_directories
#include <string>      // string
#include <vector>      // vector

#include <fmt/format.h>
#include <finetune/data/text_data.hpp>  // Sampler, Tokens

#include "trainee.hpp"         // Trainee
#include "training_state.hpp"  // Schedule, EarlyStopping, TrainingState

namespace finetune {

inline double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// While one exists, the first Ctrl-C only raises a flag, so that the step in progress ends and its result is
/// kept; a second one ends the program at once.
class Interrupt {
 public:
  Interrupt() { previous_ = std::signal(SIGINT, on_signal); }
  ~Interrupt() { std::signal(SIGINT, previous_); }
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  static bool requested() { return flag_ != 0; }

 private:
  static void on_signal(int) {
    flag_ = 1;
    std::signal(SIGINT, SIG_DFL);
  }
  static inline volatile std::sig_atomic_t flag_ = 0;
  void (*previous_)(int) = SIG_DFL;
};

/// "1:05" or "0:07".
inline std::string clock_text(double seconds) {
  const auto whole = static_cast<std::int64_t>(std::max(0.0, seconds) + 0.5);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

/// One line on stderr: a bar that redraws itself on a terminal, else a plain line every five seconds.
class Progress {
 public:
  /// `begin`: steps that were done before, in another process.
  Progress(std::string title, std::int64_t steps, std::int64_t tokens_per_step, std::int64_t begin)
      : title_(std::move(title)),
        steps_(steps),
        tokens_(tokens_per_step),
        begin_(begin),
        terminal_(isatty(2) != 0) {
    last_ = terminal_ ? 0 : start_;
  }
  ~Progress() {
    if (terminal_) fmt::print(stderr, "\r\033[K");
  }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `loss` in bits per byte.
  void update(std::int64_t done, double loss) {
    const double now = seconds_now();
    if (now - last_ < (terminal_ ? 0.1 : 5.0)) return;
    last_ = now;
    const double spent = now - start_;
    const double left = spent / double(done - begin_) * double(steps_ - done);
    const std::string numbers =
        fmt::format("step {}/{}  loss {:.3f} bits/byte  {:.0f} tokens/s  {} left", done, steps_, loss,
                    double((done - begin_) * tokens_) / spent, clock_text(left));
    if (terminal_) {
      constexpr std::int64_t width = 24;
      const auto full = static_cast<std::size_t>(std::clamp<std::int64_t>(done * width / steps_, 0, width));
      fmt::print(stderr, "\r\033[K{:<9} [{}{}] {}", title_, std::string(full, '#'),
                 std::string(width - full, '.'), numbers);
    } else {
      fmt::print(stderr, "  {:<9} {}\n", title_, numbers);
    }
    std::fflush(stderr);
  }

 private:
  std::string title_;
  std::int64_t steps_, tokens_, begin_;
  bool terminal_;
  double start_ = seconds_now();
  double last_ = 0;
};

inline constexpr std::int64_t rows_per_run = 16;  ///< of the log: evaluations of the select split

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
