// finetune train: an adapter for a real model, from data to files.
#pragma once

#include <finetune/distributed/communicator.hpp>

#include "options.hpp"

namespace finetune {

/// Says on stdout what it does. Returns the exit status: 0, or 130 after Ctrl-C; throws what the command line
/// prints. To be called by all processes, which share the batches of each step; the first reads and writes
/// what is in the folder.
int train(TrainOptions options, Communicator& processes = single_process());

}  // namespace finetune
