// Schemes to sweep over: every preset by name, and random ones out of all that a scheme can say.
#pragma once

#include <optional>
#include <string>
#include <tiedlora/adapter/scheme.hpp>
#include <vector>

#include "support/dice.hpp"

namespace tiedlora_test {

struct NamedScheme {
  std::string name;
  tiedlora::Scheme scheme;
};

inline std::vector<NamedScheme> presets() {
  using namespace tiedlora::schemes;
  return {{"lora", lora()},
          {"lora_fused", lora_fused()},
          {"vera", vera(7)},
          {"tied_lora_ab", tied_lora_ab()},
          {"tied_lora", tied_lora()},
          {"lora_fa", lora_fa()},
          {"share_lora_a", share_lora_a()},
          {"share_lora_b", share_lora_b()},
          {"share_lora_ab", share_lora_ab()},
          {"grouped(2, tied_lora)", grouped(2)},
          {"grouped(2, vera)", grouped(2, vera(7))}};
}

inline std::string describe(const tiedlora::Scheme& scheme) {
  constexpr const char* across[] = {"module", "kind", "input", "model"};
  std::string text;
  for (const tiedlora::FactorId id : tiedlora::all_factors) {
    const tiedlora::Factor* factor = scheme.find(id);
    text += std::string(to_string(id)) + ": ";
    if (!factor) {
      text += "absent; ";
      continue;
    }
    text += factor->tying.layers == tiedlora::all_layers ? "all" : std::to_string(factor->tying.layers);
    text += std::string(" x ") + across[static_cast<int>(factor->tying.modules)] +
            (factor->trained ? ", trained; " : ", frozen; ");
  }
  return text;
}

inline constexpr tiedlora::Index layer_tyings[] = {tiedlora::each_layer, 2, 3, tiedlora::all_layers};
inline constexpr tiedlora::Across module_tyings[] = {tiedlora::Across::module, tiedlora::Across::kind,
                                                     tiedlora::Across::input, tiedlora::Across::model};

/// Any tying, trained or frozen.
inline tiedlora::Factor random_factor(Dice& dice) {
  return {{dice.pick(layer_tyings), dice.pick(module_tyings)}, dice.coin(), tiedlora::init::normal(1)};
}

/// Any scheme; u and v each absent one time in three.
inline tiedlora::Scheme random_scheme(Dice& dice) {
  tiedlora::Scheme scheme = {.A = random_factor(dice), .B = random_factor(dice)};
  if (dice.integer(0, 2) > 0) scheme.u = random_factor(dice);
  if (dice.integer(0, 2) > 0) scheme.v = random_factor(dice);
  return scheme;
}

}  // namespace tiedlora_test
