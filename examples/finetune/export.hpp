// Trained adapters as files for the world outside.
#pragma once

#include <filesystem>  // path
#include <string>      // string

#include <tiedlora/io/native.hpp>

#include "model_files.hpp"  // save_model
#include "settings.hpp"     // Settings
#include "trainee.hpp"      // Trainee

namespace finetune {

/// Writes OUT/adapters/NAME.safetensors in the native format, or a fully fine-tuned model as a folder that
/// transformers opens, and what --export asks for.
inline void export_run(const Settings& settings, const std::string& name, const Trainee& trainee) {
  const std::filesystem::path stem = settings.out / "adapters" / name;
  const Adapter* adapter = trainee.adapter();
  if (!adapter) return save_model(stem, trainee.weights());
  std::filesystem::create_directories(stem.parent_path());
  tiedlora::save_adapter(stem.string() + ".safetensors", *adapter, {.base_model = "finetune-base"});
}

}  // namespace finetune
