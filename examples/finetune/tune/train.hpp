// finetune train: an adapter for a real model, from data to files.
#pragma once

#include <cstdint>  // int64_t

#include <finetune/distributed/communicator.hpp>

#include "options.hpp"
#include "tuner.hpp"  // StepCost

namespace finetune {

/// How far a run goes, and how often the validation loss is measured on the way, besides before the first
/// step.
struct RunLength {
  std::int64_t steps = 0, evaluations = 0;
};

/// What fits into `seconds`: `asked` evaluations or as many as take a quarter of them, and steps in the rest;
/// of both at least one. An evaluation costs nothing where nothing is measured.
RunLength length_in(double seconds, const StepCost& cost, std::int64_t asked);

/// Says on stdout what it does. Returns the exit status: 0, or 130 after Ctrl-C; throws what the command line
/// prints. To be called by all processes, which share the batches of each step; the first reads and writes
/// what is in the folder.
int train(TrainOptions options, Communicator& processes = single_process());

}  // namespace finetune
