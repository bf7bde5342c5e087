// Module lists of the models that the tests speak of.
#pragma once

#include <string>
#include <tiedlora/adapter/modules.hpp>

#include "support/dice.hpp"

namespace tiedlora_test {

/// One module named "proj" in each layer.
inline tiedlora::ModuleList one_kind(int layers, Index in, Index out) {
  tiedlora::ModuleList modules;
  for (int layer = 0; layer < layers; ++layer)
    modules.add({.name = "layers." + std::to_string(layer) + ".proj",
                 .layer = layer,
                 .in_features = in,
                 .out_features = out});
  return modules;
}

/// A transformer's fused qkv: d → 3d.
inline tiedlora::ModuleList fused_qkv(int layers, Index d) { return one_kind(layers, d, 3 * d); }

/// Some square projections of one x per layer, d → d. With an empty label each kind is its own input.
inline tiedlora::ModuleList projections(int layers, std::initializer_list<const char*> kinds, Index d,
                                        const std::string& input) {
  tiedlora::ModuleList modules;
  for (int layer = 0; layer < layers; ++layer)
    for (const char* kind : kinds)
      modules.add({.name = "layers." + std::to_string(layer) + ".attention." + kind,
                   .layer = layer,
                   .input = input,
                   .in_features = d,
                   .out_features = d});
  return modules;
}

/// Three layers of unequal modules: q 6 → 6 and k 6 → k_width, which read one x, and down 9 → 6.
inline tiedlora::ModuleList unequal_layers(Index k_width) {
  tiedlora::ModuleList modules;
  for (int layer = 0; layer < 3; ++layer) {
    const auto add = [&](const char* kind, const char* input, Index in, Index out) {
      modules.add({.name = "layers." + std::to_string(layer) + "." + kind,
                   .layer = layer,
                   .input = input,
                   .in_features = in,
                   .out_features = out});
    };
    add("q", "x", 6, 6), add("k", "x", 6, k_width), add("down", "", 9, 6);
  }
  return modules;
}

/// Layers, kinds, inputs, experts and modules without a layer as they come, in any order; never a clash of
/// inputs.
inline tiedlora::ModuleList random_modules(Dice& dice, Index most_features = 6) {
  const char* const kinds[] = {"q", "k", "up", "expert"};
  const char* const inputs[] = {"", "x", "z"};
  // One width per input label or kind makes every list valid; where the width belongs to the label, a kind
  // can still read different inputs.
  Index widths[8];
  for (Index& width : widths) width = dice.integer(1, most_features);
  tiedlora::ModuleList modules;
  const Index count = dice.integer(1, 12);
  for (Index n = 0; n < count; ++n) {
    const Index kind = dice.integer(0, 3), input = dice.integer(0, 2), layer = dice.integer(-1, 4);
    modules.add({.name = "m" + std::to_string(n),
                 .layer = layer < 0 ? -1 : static_cast<int>(3 * layer),  // numbers may skip
                 .kind = kinds[kind],
                 .input = inputs[input],
                 .in_features = widths[input == 0 ? kind : 4 + input],
                 .out_features = dice.integer(1, most_features)});
  }
  return modules;
}

}  // namespace tiedlora_test
