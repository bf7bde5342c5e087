// Trained adapters as files for other programs.
#pragma once

#include <string>  // string

#include <finetune/settings.hpp>  // Settings

#include "experiment.hpp"  // Base
#include "trainee.hpp"     // Trainee

namespace finetune {

/// Throws std::invalid_argument for what cannot be exported: to be called before any work is done.
void check_exports(const Settings& settings);

/// Writes what every export refers to, the model before fine-tuning: OUT/base for transformers,
/// OUT/base.gguf for llama.cpp.
void export_base(const Settings& settings, const Base& base);

/// Writes OUT/adapters/NAME.safetensors in the native format, or a fully fine-tuned model as a folder that
/// transformers opens, and what --export asks for: OUT/adapters/NAME, a folder of PEFT's, and
/// OUT/adapters/NAME.gguf.
void export_run(const Settings& settings, const Base& base, const std::string& name, const Trainee& trainee);

}  // namespace finetune
