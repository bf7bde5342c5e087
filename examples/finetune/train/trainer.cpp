// The training loop, what a user sees of it, and what --resume goes on from.
#include "trainer.hpp"

#include "checked_file.hpp"  // open_checked, save_checked
#include "progress.hpp"      // Progress

#include <algorithm>   // copy, max, min
#include <filesystem>  // create_directories, exists
#include <span>        // span

#include <fmt/format.h>
#include <finetune/report/json_number.hpp>
#include <nlohmann/json.hpp>

namespace finetune {

namespace {

/// All that train_loop knows between two steps.
struct TrainingState {
  std::vector<Logged> log = {};
  std::int64_t steps = 0;   ///< done
  double spent = 0;         ///< seconds in steps
  double sum = 0;           ///< of the losses since the last row of the log, in nats
  std::int64_t summed = 0;  ///< how many those are
  double smooth = 0;        ///< running mean of the loss, for the eye
  double first = 0;         ///< what `smooth` is compared with: the loss of the first step, then explodes()
  std::int64_t best_step = 0;
  StepResult last = {};
  Index activation_bytes = 0;  ///< that a step keeps for backward
  EarlyStopping stopping;
  std::vector<float> best = {};  ///< where they are kept: the values that had the lowest select loss

  explicit TrainingState(int patience) : stopping(patience) {}
};

nlohmann::json finite(double number) { return json_number<nlohmann::json>(number); }
double number_or(const nlohmann::json& json, double otherwise) {
  return json.is_number() ? json.get<double>() : otherwise;
}

/// The file beside a checkpoint that holds TrainingState::best.
std::filesystem::path best_path(const CheckpointPlan& plan) { return plan.path.string() + ".best"; }

/// To be called before the next checkpoint where `best` has changed. The run is deterministic, so it may be
/// newer than the checkpoint: going on from there makes the same one again.
void save_best(const CheckpointPlan& plan, const std::vector<float>& best) {
  save_checked(best_path(plan), {{"values", best}});
}

void save_state(const CheckpointPlan& plan, const Trainable& trainable, const TrainingState& state) {
  nlohmann::json log = nlohmann::json::array();
  for (const Logged& row : state.log)
    log.push_back({row.step, finite(row.train_loss), finite(row.select_loss), finite(row.rate_factor),
                   finite(row.gradient_norm), finite(row.seconds)});
  const nlohmann::json json = {{"key", plan.key},
                               {"log", log},
                               {"spent", state.spent},
                               {"sum", finite(state.sum)},
                               {"summed", state.summed},
                               {"smooth", finite(state.smooth)},
                               {"first", finite(state.first)},
                               {"best_step", state.best_step},
                               {"gradient_norm", finite(state.last.gradient_norm)},
                               {"activation_bytes", state.activation_bytes},
                               {"best", finite(state.stopping.best())},
                               {"waited", state.stopping.waited()},
                               {"has_best", !state.best.empty()}};
  std::filesystem::create_directories(plan.path.parent_path());
  trainable.save(plan.path, {.step = state.steps, .data = json.dump()});
}

/// Reads the checkpoint into the trainee and the state. Returns false if there is none; throws
/// tiedlora::Error if it belongs to a run with other settings or is damaged.
bool resume_state(const CheckpointPlan& plan, Trainable& trainable, TrainingState& state) {
  if (!plan.resume || !std::filesystem::exists(plan.path)) return false;
  const tiedlora::TrainingPosition position = trainable.resume(plan.path);
  const auto json = nlohmann::json::parse(position.data, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || json.value("key", std::string()) != plan.key)
    throw tiedlora::Error(fmt::format("{} belongs to a run with other settings; give the same ones; {}",
                                      plan.path.string(), plan.start_anew));
  try {
    state.steps = position.step;
    for (const nlohmann::json& row : json.at("log"))
      state.log.push_back({row.at(0).get<std::int64_t>(), number_or(row.at(1), not_measured),
                           number_or(row.at(2), not_measured), number_or(row.at(3), not_measured),
                           number_or(row.at(4), not_measured), number_or(row.at(5), not_measured)});
    state.spent = json.at("spent").get<double>();
    state.sum = number_or(json.at("sum"), not_measured);
    state.summed = json.at("summed").get<std::int64_t>();
    state.smooth = number_or(json.at("smooth"), not_measured);
    state.first = number_or(json.at("first"), not_measured);
    state.best_step = json.at("best_step").get<std::int64_t>();
    state.last.gradient_norm = number_or(json.at("gradient_norm"), not_measured);
    state.activation_bytes = json.at("activation_bytes").get<Index>();
    state.stopping.resume(number_or(json.at("best"), std::numeric_limits<double>::infinity()),
                          json.at("waited").get<int>());
    if (state.log.empty()) throw tiedlora::Error(plan.path.string() + " is damaged: its log is empty");
    if (json.at("has_best").get<bool>()) {
      const auto file = open_checked(best_path(plan));
      state.best.resize(trainable.values().size());
      const auto* values = file.find("values");
      if (!values || !tiedlora::safetensors::try_read(*values, std::span(state.best)))
        throw tiedlora::Error(best_path(plan).string() + " does not hold this run's best values");
    }
  } catch (const nlohmann::json::exception& error) {
    throw tiedlora::Error(plan.path.string() + " is damaged: " + error.what());
  }
  return true;
}

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

}  // namespace

double evaluate(Model& model, const Weights& weights, const Adapter* adapter,
                const std::vector<Tokens>& batches) {
  double sum = 0, count = 0;
  for (const Tokens& tokens : batches) {
    const auto bytes = static_cast<double>(tokens.count());
    sum += model.evaluate(weights, adapter, view(tokens)) * bytes;
    count += bytes;
  }
  return bits(sum / count);
}

TrainingResult train_loop(Trainable& trainable, const TrainingPlan& plan) {
  const Schedule schedule = plan.schedule.value_or(default_schedule(plan.steps));
  const bool saves = !plan.checkpoint.path.empty(), keeps_best = plan.patience > 0 || plan.keeps_best;
  TrainingState state(plan.patience);
  TrainingResult result;
  double saved = seconds_now();

  const auto log = [&](std::int64_t step, bool goes_on_from_here) {
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
      if (saves) save_best(plan.checkpoint, state.best);
    }
  };
  const auto save = [&] {
    if (saves) save_state(plan.checkpoint, trainable, state), result.saved_step = state.steps;
    saved = seconds_now();
  };

  if (saves) std::filesystem::create_directories(plan.checkpoint.path.parent_path());
  if (resume_state(plan.checkpoint, trainable, state)) {
    fmt::print("{:<17} goes on after {} of {} steps\n", plan.title, state.steps, plan.steps);
    result.saved_step = state.steps;
  } else {
    log(0, true);
  }
  Progress progress(plan.title, plan.steps, state.steps, plan.unit);
  const std::int64_t end = std::min(plan.steps, plan.pause_at);
  while (state.steps < end && !state.stopping.stop()) {
    if (Interrupt::requested()) {
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
    if (row) log(state.steps, true);
    if (row || seconds_now() - saved > seconds_between_checkpoints) save();
    progress.update(state.steps, state.smooth, state.last.tokens);
  }
  const bool pauses = !result.diverged && (result.interrupted || state.steps == plan.pause_at);
  if (pauses) save();
  // Ended early. What is resumed has not seen this row: the best values that it goes on with are those of the
  // checkpoint.
  result.best_step = state.best_step;
  result.best_loss = state.stopping.best();
  if (state.log.back().step != state.steps) log(state.steps, !pauses && !result.diverged);
  if (pauses && state.log.back().select_loss < result.best_loss) {
    result.best_step = state.steps;
    result.best_loss = state.log.back().select_loss;
  } else if (!state.best.empty()) {
    result.best_step = state.best_step;
    result.best_loss = state.stopping.best();
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
  OnBytes(Model& model, Trainee& trainee, const Sampler& sampler, const std::vector<Tokens>& select)
      : model_(model), trainee_(trainee), sampler_(sampler), select_(select) {}

  StepResult learn(std::int64_t step, double rate_factor) override {
    return trainee_.learn(model_, sampler_.batch(static_cast<std::uint64_t>(step)), rate_factor);
  }
  double select_loss() override {
    return select_.empty() ? not_measured : evaluate(model_, trainee_.weights(), trainee_.adapter(), select_);
  }
  std::span<float> values() override { return trainee_.values(); }
  Index activation_bytes() const override { return model_.activation_bytes(); }
  void save(const std::filesystem::path& path, const tiedlora::TrainingPosition& position) const override {
    trainee_.save(path, position);
  }
  tiedlora::TrainingPosition resume(const std::filesystem::path& path) override {
    return trainee_.resume(path);
  }

 private:
  Model& model_;
  Trainee& trainee_;
  const Sampler& sampler_;
  const std::vector<Tokens>& select_;
};

}  // namespace

TrainingResult train_loop(Model& model, Trainee& trainee, const Sampler& sampler,
                          const std::vector<Tokens>& select, const TrainingPlan& plan) {
  OnBytes trainable(model, trainee, sampler, select);
  return train_loop(trainable, plan);
}

}  // namespace finetune
