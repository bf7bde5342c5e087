// Trained adapters as files for the world outside.
#pragma once

#include <algorithm>    // find
#include <filesystem>   // path
#include <stdexcept>    // invalid_argument
#include <string>       // string
#include <string_view>  // string_view

#include <finetune/settings.hpp>  // Settings
#include <llama/write_gguf.hpp>
#include <llama/write_hugging_face.hpp>
#include <tiedlora/io/gguf/export.hpp>
#include <tiedlora/io/native.hpp>
#include <tiedlora/io/peft/save.hpp>

#include "base_model.hpp"  // Base
#include "trainee.hpp"     // Trainee

namespace finetune {

inline bool exports(const Settings& settings, std::string_view format) {
  return std::find(settings.exports.begin(), settings.exports.end(), format) != settings.exports.end();
}

/// Throws std::invalid_argument for what cannot be exported: to be called before any work is done.
inline void check_exports(const Settings& settings) {
  if ((exports(settings, "peft") || exports(settings, "gguf")) && settings.model.fused_qkv)
    throw std::invalid_argument(
        "--export peft, gguf: a Llama has no qkv_proj there; adapt q_proj, k_proj and v_proj");
}

/// Writes what every export refers to, the model before fine-tuning: OUT/base for transformers,
/// OUT/base.gguf for llama.cpp.
inline void export_base(const Settings& settings, const Base& base) {
  if (exports(settings, "peft")) llama::save_hugging_face(settings.out / "base", base.weights);
  if (exports(settings, "gguf")) llama::save_gguf(settings.out / "base.gguf", base.weights, base.name);
}

/// Writes OUT/adapters/NAME.safetensors in the native format, or a fully fine-tuned model as a folder that
/// transformers opens, and what --export asks for: OUT/adapters/NAME, a folder of PEFT's, and
/// OUT/adapters/NAME.gguf.
inline void export_run(const Settings& settings, const Base& base, const std::string& name,
                       const Trainee& trainee) {
  const std::filesystem::path stem = settings.out / "adapters" / name;
  const Adapter* adapter = trainee.adapter();
  if (!adapter) return llama::save_hugging_face(stem, trainee.weights());
  std::filesystem::create_directories(stem.parent_path());
  tiedlora::save_adapter(stem.string() + ".safetensors", *adapter, {.base_model = base.name});
  if (exports(settings, "peft"))
    tiedlora::save_peft(
        *adapter, stem,
        {.base_model = std::filesystem::absolute(settings.out / "base").string(), .task_type = "CAUSAL_LM"});
  if (exports(settings, "gguf"))
    tiedlora::export_gguf(*adapter, stem.string() + ".gguf", llama::gguf_naming(settings.model),
                          {.base_model = base.name});
}

}  // namespace finetune
