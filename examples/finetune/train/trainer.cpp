// The training loop, what a user sees of it, and what --resume goes on from.
#include "trainer.hpp"

#include "checked_file.hpp"  // open_checked, save_checked
#include "resident.hpp"      // resident_bytes

#include <unistd.h>  // isatty

#include <algorithm>   // clamp, copy
#include <cstdio>      // stderr
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
  double first = 0;         ///< loss of the first step, in nats
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
    throw tiedlora::Error(
        plan.path.string() +
        " belongs to a run with other settings; give the same ones, another --out, or leave "
        "out --resume to start anew");
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

/// "1:05" or "0:07".
std::string clock_text(double seconds) {
  const auto whole = static_cast<std::int64_t>(std::max(0.0, seconds) + 0.5);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

/// One line on stderr: a bar that redraws itself on a terminal, else a plain line every five seconds.
class Progress {
 public:
  /// `begin`: steps that were done before, in another process.
  Progress(std::string title, std::int64_t steps, std::int64_t begin, LossUnit unit)
      : title_(std::move(title)), steps_(steps), begin_(begin), unit_(unit), terminal_(isatty(2) != 0) {
    last_ = terminal_ ? 0 : start_;
  }
  ~Progress() {
    if (terminal_) fmt::print(stderr, "\r\033[K");
  }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// After a step with so many tokens. `loss` in nats.
  void update(std::int64_t done, double loss, Index tokens) {
    tokens_ += tokens;
    const double now = seconds_now();
    if (now - last_ < (terminal_ ? 0.1 : 5.0)) return;
    last_ = now;
    const double spent = now - start_;
    const double left = spent / double(done - begin_) * double(steps_ - done);
    const std::string numbers = fmt::format("step {}/{}  loss {:.3f} {}  {:.0f} tokens/s  {}  {} left", done,
                                            steps_, loss / unit_.nats, unit_.name, double(tokens_) / spent,
                                            size_text(double(resident_bytes())), clock_text(left));
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
  std::int64_t steps_, begin_;
  LossUnit unit_;
  Index tokens_ = 0;
  bool terminal_;
  double start_ = seconds_now();
  double last_ = 0;
};

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
    if (saves) save_state(plan.checkpoint, trainable, state);
    saved = seconds_now();
  };

  if (saves) std::filesystem::create_directories(plan.checkpoint.path.parent_path());
  if (resume_state(plan.checkpoint, trainable, state))
    fmt::print("{:<17} goes on after {} of {} steps\n", plan.title, state.steps, plan.steps);
  else
    log(0, true);
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
    if (state.steps == 1) state.first = state.smooth = state.last.loss;
    state.smooth = 0.95 * state.smooth + 0.05 * state.last.loss;
    if (state.smooth > state.first + plan.explosion) {
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
