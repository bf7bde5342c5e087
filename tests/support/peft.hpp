// The models of tests/golden/peft_variants.py as module lists, and its folders.
#pragma once

#include <filesystem>
#include <string>
#include <tiedlora/adapter/modules.hpp>
#include <tiedlora/io/peft.hpp>
#include <utility>

namespace tiedlora_test {

/// Hugging Face's Llama of three layers: width 16, 8 for k and v, feed-forward 24.
inline tiedlora::ModuleList llama_modules(tiedlora::Index width = 16) {
  using tiedlora::Index;
  struct Linear {
    const char *name, *input;
    Index in, out;
  };
  const Linear linears[] = {{"self_attn.q_proj", "x", width, width}, {"self_attn.k_proj", "x", width, 8},
                            {"self_attn.v_proj", "x", width, 8},     {"self_attn.o_proj", "", width, width},
                            {"mlp.gate_proj", "y", width, 24},       {"mlp.up_proj", "y", width, 24},
                            {"mlp.down_proj", "", 24, width}};
  tiedlora::ModuleList modules;
  for (int layer = 0; layer < 3; ++layer)
    for (const Linear& linear : linears)
      modules.add({.name = "model.layers." + std::to_string(layer) + "." + linear.name,
                   .layer = layer,
                   .input = linear.input,
                   .in_features = linear.in,
                   .out_features = linear.out});
  return modules;
}

/// GPT-2 of two layers and width 12.
inline tiedlora::ModuleList gpt2_modules() {
  tiedlora::ModuleList modules;
  for (int layer = 0; layer < 2; ++layer)
    for (const auto& [name, in, out] : {std::tuple("attn.c_attn", 12, 36),
                                        {"attn.c_proj", 12, 12},
                                        {"mlp.c_fc", 12, 48},
                                        {"mlp.c_proj", 48, 12}}) {
      const std::string path = "transformer.h." + std::to_string(layer) + "." + name;
      modules.add({.name = path, .layer = layer, .input = path, .in_features = in, .out_features = out});
    }
  return modules;
}

inline std::filesystem::path peft_folder(const std::string& variant) {
  return std::filesystem::path(TIEDLORA_GOLDEN_DIR) / "peft" / variant;
}
inline tiedlora::ModuleList modules_of(const std::string& variant) {
  return variant.ends_with("gpt2") ? gpt2_modules() : llama_modules();
}

}  // namespace tiedlora_test
