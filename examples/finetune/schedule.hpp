// How the learning rate runs over the steps of a training run, and when it ends early.
#pragma once

#include <algorithm>  // max, min
#include <cmath>      // cos
#include <cstdint>    // int64_t
#include <limits>     // numeric_limits

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

}  // namespace finetune
