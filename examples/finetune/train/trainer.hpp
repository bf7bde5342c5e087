// The training loop and what it depends on: learning rate, early stopping, checkpoints, Ctrl-C.
#pragma once

#include <algorithm>   // max, min
#include <chrono>      // steady_clock
#include <cmath>       // cos, log
#include <cstdint>     // int64_t
#include <filesystem>  // path
#include <limits>      // numeric_limits
#include <optional>    // optional
#include <span>        // span
#include <string>      // string
#include <vector>      // vector

#include <finetune/data/text_data.hpp>            // Sampler, Tokens
#include <finetune/distributed/communicator.hpp>  // Communicator
#include <finetune/train/interrupt.hpp>

#include "trainee.hpp"  // Trainee

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

/// Ends a run when the loss on the select split has not fallen for `patience` evaluations; 0 means never. A
/// loss that is not measured has not fallen: without a select split only 0 makes sense.
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
  /// Continues from the state of another one.
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
  /// How to begin without the checkpoint, for the error of a run with other settings.
  std::string start_anew = "to start over, leave out --resume, or give another --out";
  bool resume = false;  ///< go on from `path`, if it is there
};

inline double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

inline constexpr std::int64_t rows_per_run = 16;  ///< of the log: evaluations of the select split

inline double bits(double nats) { return nats / std::log(2.0); }

/// Mean loss over fixed windows, in bits per byte.
double evaluate(Model& model, const Weights& weights, const Adapter* adapter, std::span<const Tokens> batches,
                Communicator& processes = single_process());

/// What the loop trains, with all that a step needs. Where there are several processes, each calls learn(),
/// select_loss() and start_loss() alike, and all get the same.
class Trainable {
 public:
  virtual ~Trainable() = default;

  /// Step number `step`; rates are multiplied by `rate_factor`. Depends on the number, not on earlier calls,
  /// except for what they trained.
  virtual StepResult learn(std::int64_t step, double rate_factor) = 0;
  /// In the unit of the log; not_measured where there is no select split.
  virtual double select_loss() = 0;
  /// What the loss of step `step` would be, in nats, if nothing had been trained.
  virtual double start_loss(std::int64_t) { return not_measured; }
  virtual std::span<float> values() = 0;  ///< what is trained
  virtual Index activation_bytes() const = 0;
  /// Writes all that learn() continues from, and where training stands; `resume` reads it. Both throw
  /// tiedlora::Error where they cannot.
  virtual void save(const std::filesystem::path& path, const tiedlora::TrainingPosition& position) const = 0;
  virtual tiedlora::TrainingPosition resume(const std::filesystem::path& path) = 0;
  /// Gives every process what resume() has read in the first.
  virtual void share(Communicator& processes) = 0;
};

/// What losses are logged in.
struct LossUnit {
  const char* name = "bits/byte";
  double nats = std::log(2.0);
};

struct TrainingPlan {
  std::string title;
  std::int64_t steps = 0;
  std::int64_t log_rows =
      1;  ///< of the log after the first, evenly spread; the select split is evaluated for each
  int patience = 0;
  CheckpointPlan checkpoint = {};
  LossUnit unit = {};
  std::optional<Schedule> schedule = std::nullopt;  ///< else default_schedule(steps)
  bool keeps_best = false;  ///< ends with the values of the lowest select loss, also without patience
  /// A run has gone wrong if its mean loss exceeds what it would be without training by more nats than this;
  /// not for what has no start_loss().
  double explosion = std::numeric_limits<double>::infinity();
  std::int64_t pause_at = std::numeric_limits<std::int64_t>::max();  ///< saves there and returns
};

struct TrainingResult {
  std::vector<Logged> log;
  std::int64_t steps = 0;      ///< done
  std::int64_t best_step = 0;  ///< that the values are of, where the best ones are kept
  double best_loss = not_measured;
  std::int64_t saved_step = 0;  ///< that the checkpoint is of; 0: there is none, or it is of the start
  double seconds_per_step = 0;
  Index activation_bytes = 0;  ///< that a step kept for backward
  bool diverged = false;       ///< a loss or a gradient was not finite, or the loss exploded; the run ended
  bool interrupted = false;    ///< Ctrl-C; what was trained until then is in the trainee
};

/// Trains. With patience or keeps_best, what is trained ends with the values that had the lowest select loss,
/// else with the last ones. A run that continues from a checkpoint ends with the same bits as one that was
/// never interrupted. Of several processes the first alone reads and writes files, and all stop at the same
/// step; throws AgreedError where their parameters are no longer the same.
TrainingResult train_loop(Trainable& trainable, const TrainingPlan& plan,
                          Communicator& processes = single_process());

/// Batches of bytes.
struct BytesData {
  const Sampler& sampler;
  Index accumulate = 1;                 ///< batches in a step
  std::span<const Tokens> select = {};  ///< may be empty: then nothing is evaluated
};

/// The same for a trainee on such data.
TrainingResult train_loop(Model& model, Trainee& trainee, const BytesData& data, const TrainingPlan& plan,
                          Communicator& processes = single_process());

}  // namespace finetune
