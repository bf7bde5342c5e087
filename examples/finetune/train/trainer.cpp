// The training loop, what a user sees of it, and what --resume continues from.
#include "trainer.hpp"

#include "progress.hpp"        // Progress
#include "training_state.hpp"  // TrainingState

#include <algorithm>   // copy, max, min
#include <cstdio>      // fflush
#include <filesystem>  // create_directories
#include <optional>    // optional
#include <span>        // span

#include <fmt/format.h>
#include <finetune/distributed/agreement.hpp>  // check_same_parameters

namespace finetune {

namespace {

/// How many steps the running mean of the loss is over.
constexpr std::int64_t smoothed_steps = 20;

/// Whether the mean loss is by plan.explosion above that which the same steps have without training. That is
/// looked at where the loss has risen over that of the first step, which says little of the others: its
/// examples may have been easy.
bool explodes(Trainable& trainable, TrainingState& state, double explosion) {
  if (!(state.smooth > state.first + explosion)) return false;
  const std::int64_t count = std::min(state.steps, smoothed_steps);
  double sum = 0;
  for (std::int64_t step = state.steps - count; step < state.steps; ++step) sum += trainable.start_loss(step);
  state.first = std::max(state.first, sum / double(count));
  return state.smooth > state.first + explosion;
}

/// Besides those at each row of the log.
constexpr double seconds_between_checkpoints = 20;

/// Besides those at each row of the log: how often processes compare their parameters.
constexpr std::int64_t steps_between_comparisons = 100;

}  // namespace

double evaluate(Model& model, const Weights& weights, const Adapter* adapter, std::span<const Tokens> batches,
                Communicator& processes) {
  const auto batch = [&](Index i) -> const Tokens& { return batches[static_cast<std::size_t>(i)]; };
  return bits(mean_by_all(
      processes, std::ssize(batches), [&](Index i) { return batch(i).count(); },
      [&](Index i) { return model.evaluate(weights, adapter, view(batch(i))); }));
}

TrainingResult train_loop(Trainable& trainable, const TrainingPlan& plan, Communicator& processes) {
  const Schedule schedule = plan.schedule.value_or(default_schedule(plan.steps));
  const bool saves = !plan.checkpoint.path.empty() && processes.is_first();
  const bool keeps_best = plan.patience > 0 || plan.keeps_best;
  TrainingState state(plan.patience);
  TrainingResult result;
  double saved = seconds_now();

  const auto log = [&](std::int64_t step, bool goes_on_from_here) {
    check_same_parameters(processes, trainable.values(), step);
    Logged row{step,
               state.summed > 0 ? state.sum / double(state.summed) / plan.unit.nats : not_measured,
               trainable.select_loss(),
               step > 0 ? schedule(step - 1) : 0,
               state.last.gradient_norm,
               state.spent};
    state.log.push_back(row);
    state.sum = 0;
    state.summed = 0;
    if (keeps_best && goes_on_from_here && state.stopping.improves(row.select_loss)) {
      state.best.assign(trainable.values().begin(), trainable.values().end());
      state.best_step = step;
      state.best_loss = row.select_loss;
      if (saves) save_best(plan.checkpoint, state);
    }
  };
  const auto save = [&] {
    if (saves) save_state(plan.checkpoint, trainable, state), result.saved_step = state.steps;
    saved = seconds_now();
  };

  if (saves) std::filesystem::create_directories(plan.checkpoint.path.parent_path());
  if (resume_state(plan.checkpoint, processes, trainable, state)) {
    fmt::print("{:<17} continues after {} of {} steps\n", plan.title, state.steps, plan.steps);
    std::fflush(stdout);  // before the steps, which go to stderr
    result.saved_step = state.steps;
  } else {
    log(0, true);
  }
  const std::int64_t end = std::min(plan.steps, plan.pause_at);
  std::optional<Progress> progress;
  if (processes.is_first()) progress.emplace(plan.title, end, state.steps, plan.unit);
  while (state.steps < end && !state.stopping.stop()) {
    if (processes.any(Interrupt::requested())) {
      result.interrupted = true;
      break;
    }
    const double begin = seconds_now();
    state.last = trainable.learn(state.steps, schedule(state.steps));
    state.spent += seconds_now() - begin;
    state.activation_bytes = trainable.activation_bytes();
    if (!state.last.finite) {
      result.diverged = true;
      break;
    }
    ++state.steps;
    state.sum += state.last.loss;
    ++state.summed;
    if (state.steps == 1) state.first = state.last.loss;
    state.smooth += (state.last.loss - state.smooth) / double(std::min(state.steps, smoothed_steps));
    if (explodes(trainable, state, plan.explosion)) {
      result.diverged = true;
      break;
    }
    const bool row =
        state.steps * plan.log_rows / plan.steps > (state.steps - 1) * plan.log_rows / plan.steps;
    if (row)
      log(state.steps, true);
    else if (state.steps % steps_between_comparisons == 0)
      check_same_parameters(processes, trainable.values(), state.steps);
    if (row || seconds_now() - saved > seconds_between_checkpoints) save();
    if (progress) progress->update(state.steps, state.smooth, state.last.tokens);
  }
  const bool pauses = !result.diverged && (result.interrupted || state.steps == plan.pause_at);
  if (pauses) save();
  // Ended early. What is resumed has not seen this row: the best values that it continues with are those of
  // the checkpoint.
  result.best_step = state.best_step;
  result.best_loss = state.best_loss;
  if (state.log.back().step != state.steps) log(state.steps, !pauses && !result.diverged);
  if (pauses && state.log.back().select_loss < result.best_loss) {
    result.best_step = state.steps;
    result.best_loss = state.log.back().select_loss;
  } else if (!state.best.empty()) {
    result.best_step = state.best_step;
    result.best_loss = state.best_loss;
    std::copy(state.best.begin(), state.best.end(), trainable.values().begin());
  }
  result.log = std::move(state.log);
  result.steps = state.steps;
  result.activation_bytes = state.activation_bytes;
  result.seconds_per_step = state.steps > 0 ? state.spent / double(state.steps) : 0;
  return result;
}

namespace {

/// A trainee of the toy on its batches.
class OnBytes final : public Trainable {
 public:
  OnBytes(Model& model, Trainee& trainee, const BytesData& data, Communicator& processes)
      : model_(model), trainee_(trainee), data_(data), sum_(processes) {}

  StepResult learn(std::int64_t step, double rate_factor) override {
    std::vector<Tokens> batches;
    for (Index i = 0; i < data_.accumulate; ++i)
      batches.push_back(data_.sampler.batch(static_cast<std::uint64_t>(step * data_.accumulate + i)));
    return trainee_.learn(model_, batches, rate_factor, sum_);
  }
  double select_loss() override {
    return data_.select.empty()
               ? not_measured
               : evaluate(model_, trainee_.weights(), trainee_.adapter(), data_.select, sum_.processes());
  }
  std::span<float> values() override { return trainee_.values(); }
  Index activation_bytes() const override { return model_.activation_bytes(); }
  void save(const std::filesystem::path& path, const tiedlora::TrainingPosition& position) const override {
    trainee_.save(path, position);
  }
  tiedlora::TrainingPosition resume(const std::filesystem::path& path) override {
    return trainee_.resume(path);
  }
  void share(Communicator& processes) override { trainee_.share(processes); }

 private:
  Model& model_;
  Trainee& trainee_;
  const BytesData& data_;
  TreeSum sum_;
};

}  // namespace

TrainingResult train_loop(Model& model, Trainee& trainee, const BytesData& data, const TrainingPlan& plan,
                          Communicator& processes) {
  OnBytes trainable(model, trainee, data, processes);
  return train_loop(trainable, plan, processes);
}

}  // namespace finetune
