// finetune train: an adapter for a real model, from data to files.
#pragma once

#include "options.hpp"

namespace finetune {

/// Says on stdout what it does. Returns the exit status: 0, or 130 after Ctrl-C; throws what the command line
/// prints.
int train(TrainOptions options);

}  // namespace finetune
