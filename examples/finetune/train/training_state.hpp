// All that the training loop knows between two steps, and the files that --resume reads it from.
#pragma once

#include <cstdint>  // int64_t
#include <limits>   // numeric_limits
#include <vector>   // vector

#include "trainer.hpp"

namespace finetune {

struct TrainingState {
  std::vector<Logged> log = {};
  std::int64_t steps = 0;   ///< done
  double spent = 0;         ///< seconds in steps
  double sum = 0;           ///< of the losses since the last row of the log, in nats
  std::int64_t summed = 0;  ///< how many those are
  double smooth = 0;        ///< running mean of the loss, for the eye
  double first = 0;         ///< what `smooth` is compared with: the loss of the first step, then explodes()
  StepResult last = {};
  Index activation_bytes = 0;  ///< that a step keeps for backward
  EarlyStopping stopping;
  std::vector<float> best = {};  ///< where they are kept: the values that had the lowest select loss
  std::int64_t best_step = 0;    ///< that `best` is of
  double best_loss = std::numeric_limits<double>::infinity();  ///< that `best` has

  explicit TrainingState(int patience) : stopping(patience) {}
};

/// Writes `best`, with its step and loss. To be called before the next checkpoint where it has changed. The
/// run is deterministic, so it may be newer than the checkpoint: continuing from there makes the same one
/// again.
void save_best(const CheckpointPlan& plan, const TrainingState& state);

void save_state(const CheckpointPlan& plan, const Trainable& trainable, const TrainingState& state);

/// The first process reads the checkpoint; trainee and state of all become what it says. Returns false if
/// there is none; throws tiedlora::Error if it belongs to a run with other settings or is damaged.
bool resume_state(const CheckpointPlan& plan, Communicator& processes, Trainable& trainable,
                  TrainingState& state);

}  // namespace finetune
