// Random adapters for one host model: of many schemes and ranks, some of them tenants over one frozen array.
#pragma once

#include <string>
#include <tiedlora/serving.hpp>
#include <vector>

#include "support/deck.hpp"
#include "support/reference.hpp"

namespace tiedlora_test {

/// Two layers of q and k, which read one x, and of down, which reads another.
inline tiedlora::ModuleList host_modules(Index in, Index out) {
  tiedlora::ModuleList modules;
  for (int layer = 0; layer < 2; ++layer)
    for (const char* kind : {"q", "k", "down"})
      modules.add({.name = "layers." + std::to_string(layer) + "." + kind,
                   .layer = layer,
                   .input = kind == std::string("down") ? "" : "x",
                   .in_features = in,
                   .out_features = kind == std::string("k") ? out + 3 : out});
  return modules;
}

/// A scheme with some of the factors, tied over the layers, some of them frozen.
inline tiedlora::Scheme scheme_of(const std::string& present, const std::string& frozen) {
  using namespace tiedlora;
  const auto factor = [&](char letter, Tying tying) {
    return Factor{tying, frozen.find(letter) == std::string::npos, init::normal(1)};
  };
  Scheme scheme = {.A = factor('A', {all_layers, Across::input}),
                   .B = factor('B', {all_layers, Across::kind})};
  if (present.find('u') != std::string::npos) scheme.u = factor('u', {each_layer, Across::input});
  if (present.find('v') != std::string::npos) scheme.v = factor('v', {each_layer, Across::module});
  return scheme;
}

/// A family of adapters: one layout, for all of the host's modules or some, and one frozen array.
template <class P>
std::vector<tiedlora::AdapterId> add_family(tiedlora::AdapterSet<P>& set, const tiedlora::Scheme& scheme,
                                            Index rank, Index count, Dice& dice) {
  using namespace tiedlora;
  ModuleList modules;
  while (modules.size() == 0)
    for (const Module& module : set.modules())
      if (dice.integer(0, 4) > 0) modules.add(module);
  const Layout layout(modules, scheme, rank, {.scaling = dice.uniform(0.5, 2)});
  Adapter<P> base(layout);
  fill_factors(base, dice);
  const auto frozen = base.share_frozen();
  std::vector<AdapterId> ids;
  for (Index n = 0; n < count; ++n) {
    Adapter<P> adapter(layout, frozen);
    dice.fill(adapter.trainable());
    ids.push_back(set.add(std::move(adapter)));
  }
  return ids;
}

}  // namespace tiedlora_test
