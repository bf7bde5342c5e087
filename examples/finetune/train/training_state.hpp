// Where a training run stands: its learning rate, whether it ends early, and what --resume goes on from.
#pragma once

#include <algorithm>   // max, min
#include <cmath>       // cos, isfinite
#include <cstdint>     // int64_t
#include <filesystem>  // path, exists
#include <limits>      // numeric_limits
#include <string>      // string
#include <vector>      // vector

#include <nlohmann/json.hpp>
#include <tiedlora/io/safetensors.hpp>
#include <tiedlora/views/error.hpp>

#include "trainee.hpp"  // Trainee, StepResult

namespace finetune {

/// Linear warm-up to 1 over the first `warm_up` steps, then half a cosine down to `floor`, reached at the
/// last step. Multiplies every factor's learning rate alike.
struct Schedule {
  std::int64_t steps = 1;
  std::int64_t warm_up = 0;
  double floor = 0;

  double operator()(std::int64_t step) const {
    if (step < warm_up) return double(step + 1) / double(warm_up + 1);
    const std::int64_t span = std::max<std::int64_t>(steps - 1 - warm_up, 1);
    const double progress = std::min(1.0, double(step - warm_up) / double(span));
    constexpr double pi = 3.14159265358979323846;
    return floor + (1 - floor) * 0.5 * (1 + std::cos(pi * progress));
  }
};

/// Warm-up over a twentieth of the steps, down to a tenth of the peak.
inline Schedule default_schedule(std::int64_t steps) { return {steps, steps / 20, 0.1}; }

/// Ends a run when the loss on the select split has not fallen for `patience` evaluations; 0 means never.
class EarlyStopping {
 public:
  explicit EarlyStopping(int patience) : patience_(patience) {}

  /// Returns true if this is the lowest loss so far. NaN never is.
  bool improves(double loss) {
    const bool better = loss < best_;
    if (better) best_ = loss;
    waited_ = better ? 0 : waited_ + 1;
    return better;
  }
  bool stop() const { return patience_ > 0 && waited_ >= patience_; }
  double best() const { return best_; }
  int waited() const { return waited_; }
  /// Goes on where another one stood.
  void resume(double best, int waited) { best_ = best, waited_ = waited; }

 private:
  int patience_;
  int waited_ = 0;
  double best_ = std::numeric_limits<double>::infinity();
};

inline constexpr double not_measured = std::numeric_limits<double>::quiet_NaN();

/// One row of metrics.csv.
struct Logged {
  std::int64_t step = 0;              ///< steps done
  double train_loss = not_measured;   ///< bits per byte: mean over the steps since the last row
  double select_loss = not_measured;  ///< bits per byte
  double rate_factor = 0;             ///< of the schedule, in the last step
  double gradient_norm = 0;           ///< in the last step
  double seconds = 0;                 ///< spent in steps so far, without evaluations
};

/// Where checkpoints of a run go.
struct CheckpointPlan {
  std::filesystem::path path = {};  ///< empty: there are none
  std::string key = {};  ///< everything the run depends on: a checkpoint with another one is refused
  bool resume = false;   ///< go on from `path`, if it is there
};

/// All that train_loop knows between two steps.
struct TrainingState {
  std::vector<Logged> log = {};
  std::int64_t steps = 0;   ///< done
  double spent = 0;         ///< seconds in steps
  double sum = 0;           ///< of the losses since the last row of the log, in nats
  std::int64_t summed = 0;  ///< how many those are
  double smooth = 0;        ///< running mean of the loss, for the eye
  StepResult last = {};
  Index activation_bytes = 0;  ///< that a step keeps for backward
  EarlyStopping stopping;
  std::vector<float> best = {};  ///< with patience: the values that had the lowest select loss

  explicit TrainingState(int patience) : stopping(patience) {}
};

namespace detail {

/// JSON has no NaN and no infinity: null stands for what is not finite.
inline nlohmann::json finite(double number) {
  return std::isfinite(number) ? nlohmann::json(number) : nlohmann::json();
}
inline double number_or(const nlohmann::json& json, double otherwise) {
  return json.is_number() ? json.get<double>() : otherwise;
}

}  // namespace detail

/// The file beside a checkpoint that holds TrainingState::best.
inline std::filesystem::path best_path(const CheckpointPlan& plan) { return plan.path.string() + ".best"; }

/// To be called before the next checkpoint where `best` has changed. The run is deterministic, so it may be
/// newer than the checkpoint: going on from there makes the same one again.
inline void save_best(const CheckpointPlan& plan, const std::vector<float>& best) {
  tiedlora::safetensors::save(
      best_path(plan),
      {{.name = "values", .shape = {static_cast<tiedlora::Index>(best.size())}, .data = best.data()}});
}

inline void save_state(const CheckpointPlan& plan, const Trainee& trainee, const TrainingState& state) {
  using detail::finite;
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
                               {"gradient_norm", finite(state.last.gradient_norm)},
                               {"activation_bytes", state.activation_bytes},
                               {"best", finite(state.stopping.best())},
                               {"waited", state.stopping.waited()},
                               {"has_best", !state.best.empty()}};
  std::filesystem::create_directories(plan.path.parent_path());
  trainee.save(plan.path, {.step = state.steps, .data = json.dump()});
}

/// Reads the checkpoint into the trainee and the state. Returns false if there is none; throws
/// tiedlora::Error if it belongs to a run with other settings or is damaged.
inline bool resume_state(const CheckpointPlan& plan, Trainee& trainee, TrainingState& state) {
  using detail::number_or;
  if (!plan.resume || !std::filesystem::exists(plan.path)) return false;
  const tiedlora::TrainingPosition position = trainee.resume(plan.path);
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
    state.last.gradient_norm = number_or(json.at("gradient_norm"), not_measured);
    state.activation_bytes = json.at("activation_bytes").get<Index>();
    state.stopping.resume(number_or(json.at("best"), std::numeric_limits<double>::infinity()),
                          json.at("waited").get<int>());
    if (state.log.empty()) throw tiedlora::Error(plan.path.string() + " is damaged: its log is empty");
    if (json.at("has_best").get<bool>()) {
      const auto file = tiedlora::safetensors::open(best_path(plan));
      state.best.resize(trainee.values().size());
      const auto* values = file.find("values");
      if (!values || !tiedlora::safetensors::try_read(*values, std::span(state.best)))
        throw tiedlora::Error(best_path(plan).string() + " does not hold this run's best values");
    }
  } catch (const nlohmann::json::exception& error) {
    throw tiedlora::Error(plan.path.string() + " is damaged: " + error.what());
  }
  return true;
}

}  // namespace finetune
