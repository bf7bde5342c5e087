// The commands for real models: train, eval, generate, compare.
#pragma once

#include <string>       // string
#include <string_view>  // string_view

#include <finetune/distributed/communicator.hpp>

namespace finetune {

bool is_command(std::string_view name);

/// "train, eval, …"
std::string command_names();

/// argv[1] is a command. Returns the exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted. To be
/// called by all processes.
int run_command(int argc, char** argv, Communicator& processes);

}  // namespace finetune
