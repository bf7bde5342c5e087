// The program behind the command line.
#pragma once

#include "settings.hpp"  // Settings

namespace finetune {

/// The whole program. Says on stdout and stderr what it does. Returns the exit status: 0, 130 after Ctrl-C, 1
/// if a sweep found no interior optimum; throws what main() prints.
int run_program(Settings settings);

}  // namespace finetune
