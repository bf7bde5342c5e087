// The program behind the command line.
#pragma once

#include <finetune/distributed/communicator.hpp>

#include "settings.hpp"  // Settings

namespace finetune {

/// The whole program. Says on stdout and stderr what it does. Returns the exit status: 0, 130 after Ctrl-C, 1
/// if a sweep found no interior optimum; throws what main() prints. To be called by all processes, which
/// share the batches of each step; the first reads and writes what is in the folders.
int run_program(Settings settings, Communicator& processes = single_process());

}  // namespace finetune
