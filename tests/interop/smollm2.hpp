// The linear modules of SmolLM2-135M, the real model of the comparisons beside this file.
#pragma once

#include <string>
#include <tiedlora/adapter/modules.hpp>

/// All seven of each layer, by the names that transformers has for them.
inline tiedlora::ModuleList smollm2() {
  tiedlora::ModuleList modules;
  for (int layer = 0; layer < 30; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    const auto add = [&](const char* name, const char* input, tiedlora::Index in, tiedlora::Index out) {
      modules.add(
          {.name = prefix + name, .layer = layer, .input = input, .in_features = in, .out_features = out});
    };
    add("self_attn.q_proj", "x", 576, 576);
    add("self_attn.k_proj", "x", 576, 192);
    add("self_attn.v_proj", "x", 576, 192);
    add("self_attn.o_proj", "attention", 576, 576);
    add("mlp.gate_proj", "hidden", 576, 1536);
    add("mlp.up_proj", "hidden", 576, 1536);
    add("mlp.down_proj", "product", 1536, 576);
  }
  return modules;
}
