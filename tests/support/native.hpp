// Adapters for files, and comparing them bit by bit.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <string>
#include <tiedlora/adapter.hpp>

#include "support/dice.hpp"
#include "support/models.hpp"
#include "support/schemes.hpp"

namespace tiedlora_test {

template <class T>
bool same_bits(std::span<const T> a, std::span<const T> b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size_bytes()) == 0);
}

template <class P>
void expect_same_adapter(const tiedlora::Adapter<P>& a, const tiedlora::Adapter<P>& b) {
  EXPECT_TRUE(a.layout() == b.layout());
  EXPECT_EQ(a.layout().rank(), b.layout().rank());
  EXPECT_EQ(a.layout().scaling(), b.layout().scaling());
  EXPECT_EQ(a.seed(), b.seed());
  EXPECT_TRUE(same_bits<P>(a.trainable(), b.trainable()));
  EXPECT_TRUE(same_bits<P>(a.frozen(), b.frozen()));
}

/// Any adapter: scheme, modules, ranks and scalings as they come; some of its frozen factors are as
/// initialised.
template <class P>
tiedlora::Adapter<P> random_adapter(Dice& dice) {
  using namespace tiedlora;
  const ModuleList modules = random_modules(dice);
  Scheme scheme = random_scheme(dice);
  // Inits that initialize() would refuse together do not matter for files.
  const auto any_init = [&dice](Factor& factor, bool matrix) {
    const Init inits[] = {init::constant(dice.uniform()), init::kaiming(dice.uniform(0, 2)),
                          init::normal(dice.uniform(0, 2)), init::given(), init::torch_vera(dice.bits())};
    factor.init = inits[dice.integer(0, matrix ? 4 : 3)];
  };
  any_init(scheme.A, true), any_init(scheme.B, true);
  if (scheme.u) any_init(*scheme.u, false);
  if (scheme.v) any_init(*scheme.v, false);
  LayoutOptions options = {.scaling = dice.uniform(-2, 2)};
  for (const Module& module : modules)
    if (dice.coin()) options.scalings.emplace_back(module.name, dice.uniform());
  const Layout layout(modules, scheme, dice.integer(0, 4), options);

  AlignedArray<P> trainable(layout.trainable_count()), frozen(layout.frozen_count());
  dice.fill(trainable), dice.fill(frozen);
  const std::uint64_t seed = dice.bits();
  for (const FactorId id : all_factors) {
    const Factor* factor = layout.scheme().find(id);
    if (factor && !factor->trained && factor->init.kind != Init::Kind::given && dice.coin())
      tiedlora::detail::fill_factor(layout, id, seed, frozen.data());
  }
  Adapter<P> adapter(layout, std::move(trainable), std::move(frozen));
  if (dice.coin()) adapter.set_seed(seed);
  return adapter;
}

}  // namespace tiedlora_test
