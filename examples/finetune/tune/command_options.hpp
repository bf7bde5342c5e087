// Options that several commands for real models have.
#pragma once

#include <string>  // string

#include <CLI/CLI.hpp>
#include <finetune/distributed/communicator.hpp>  // Communicator

#include "options.hpp"

namespace finetune {

/// The words of two options.
struct Products {
  std::string base_type = "as-is", numbers = "f32";

  void say(ModelOptions& model) const {
    model.float_base = base_type == "f32";
    model.bfloat16 = numbers == "bf16";
  }
};

/// `processes` share the machine's cores.
void add_model(CLI::App& app, ModelOptions& model, Products& products,
               const Communicator& processes = single_process());
void add_reading(CLI::App& app, DataOptions& reading);
void add_training_data(CLI::App& app, TrainingDataOptions& data);
/// `one_scheme`: with what a comparison has by candidate.
void add_tune(CLI::App& app, TuneOptions& tune, bool one_scheme);

}  // namespace finetune
