// Fused layers' adapters out of their parts' and back: the same function, exactly where nothing must be
// folded.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <tiedlora/adapter.hpp>
#include <tiedlora/adapter/fuse.hpp>
#include <vector>

#include "support/errors.hpp"
#include "support/models.hpp"
#include "support/reference.hpp"
#include "support/schemes.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

const Fusion qkv = {.fused = "layers.*.attn.qkv",
                    .parts = {"layers.*.attn.q", "layers.*.attn.k", "layers.*.attn.v"},
                    .out_features = {6, 2, 3}};

// q, k, v 5 → 6, 2, 3 and o 6 → 5 in three layers, and a head. With no label each of q, k, v has an input of
// its own.
ModuleList apart(const std::string& input) {
  ModuleList modules;
  for (int layer = 0; layer < 3; ++layer) {
    const auto add = [&](const char* kind, const std::string& label, Index in, Index out) {
      modules.add({.name = "layers." + std::to_string(layer) + ".attn." + kind,
                   .layer = layer,
                   .input = label,
                   .in_features = in,
                   .out_features = out});
    };
    add("q", input, 5, 6), add("k", input, 5, 2), add("v", input, 5, 3), add("o", "", 6, 5);
  }
  modules.add({.name = "head", .in_features = 5, .out_features = 7});
  return modules;
}

template <class P = float>
Adapter<P> random_adapter(const ModuleList& modules, const Scheme& scheme,
                          const LayoutOptions& options = {.scaling = 0.5}, Index rank = 2) {
  Adapter<P> adapter(Layout(modules, scheme, rank, options));
  Dice dice(70);
  fill_factors(adapter, dice);
  return adapter;
}

// The rows [begin, begin + n) of ΔW of module `name` are module `part` of the other adapter. Each value went
// through `roundings` more than there.
template <class Whole, class Parts>
void expect_rows(const Whole& whole, const std::string& name, Index begin, const Parts& parts,
                 const std::string& part, Index roundings) {
  using Acc = typename Whole::Scalar;
  const auto f = whole.factors(whole.layout().modules().find(name));
  const auto g = parts.factors(parts.layout().modules().find(part));
  const Matrix<double> rows = delta_weight(f).middleRows(begin, g.out_features), exact = delta_weight(g),
                       magnitude = delta_weight(g, 1, true);
  ASSERT_EQ(f.in_features, g.in_features);
  for (Index i = 0; i < exact.size(); ++i)
    EXPECT_NEAR(
        rows.data()[i], exact.data()[i],
        rounding_bound<Acc>(roundings, magnitude.data()[i]) + rounding_bound<double>(64, magnitude.data()[i]))
        << name << " " << part;
}

template <class Fused, class Apart>
void expect_same_function(const Fused& fused, const Apart& adapter, Index roundings) {
  EXPECT_EQ(fused.layout().size(), 7);
  for (int layer = 0; layer < 3; ++layer) {
    const std::string prefix = "layers." + std::to_string(layer) + ".attn.";
    expect_rows(fused, prefix + "qkv", 0, adapter, prefix + "q", roundings);
    expect_rows(fused, prefix + "qkv", 6, adapter, prefix + "k", roundings);
    expect_rows(fused, prefix + "qkv", 8, adapter, prefix + "v", roundings);
    expect_rows(fused, prefix + "o", 0, adapter, prefix + "o", roundings);
  }
  expect_rows(fused, "head", 0, adapter, "head", roundings);
}

constexpr Index folded = 4;  // s · v · B · u

TEST(Fuse, WhatSharesAKeepsSchemeRankAndEveryNumber) {
  for (const Scheme& scheme :
       {schemes::lora_fused(), schemes::tied_lora_ab(), schemes::tied_lora(), schemes::grouped(2)}) {
    const Adapter<float> adapter = random_adapter(apart("x"), scheme);
    const Adapter<float> fused = fuse(adapter, qkv);
    EXPECT_TRUE(fused.layout().scheme() == scheme);
    const Index m = fused.layout().modules().find("layers.1.attn.qkv");
    EXPECT_EQ(fused.layout().rank(m), 2);
    EXPECT_EQ(fused.layout().scaling(m), 0.5);
    EXPECT_EQ(fused.layout().modules()[m].kind, "qkv");
    // No value is lost, none is new.
    EXPECT_EQ(fused.layout().trainable_count(), adapter.layout().trainable_count());
    expect_same_function(fused, adapter, 0);
  }
}

TEST(Fuse, DifferentAStackTheirRanks) {
  LayoutOptions options{.scaling = 0.5, .scalings = {{"layers.1.attn.k", -2.0}}};
  for (int layer = 0; layer < 3; ++layer) {
    options.ranks.emplace_back("layers." + std::to_string(layer) + ".attn.k", 3);
    options.ranks.emplace_back("layers." + std::to_string(layer) + ".attn.v", layer == 2 ? 1 : 0);
  }
  const Adapter<float> adapter = random_adapter(apart(""), schemes::lora(), options);
  const Adapter<float> fused = fuse(adapter, qkv);
  EXPECT_TRUE(fused.layout().scheme() == schemes::lora());
  EXPECT_EQ(fused.layout().rank(0), 2 + 3);
  EXPECT_EQ(fused.layout().rank(4), 2 + 3 + 1);
  expect_same_function(fused, adapter, folded);
}

TEST(Fuse, IsTheSameFunctionForEveryScheme) {
  for (const NamedScheme& preset : presets())
    for (const char* input : {"x", ""}) {
      SCOPED_TRACE(preset.name);
      expect_same_function(fuse(random_adapter(apart(input), preset.scheme), qkv),
                           random_adapter(apart(input), preset.scheme), folded);
    }
  Dice dice(71);
  for (int n = 0; n < 40; ++n) {
    const Scheme scheme = random_scheme(dice);
    SCOPED_TRACE(describe(scheme));
    const auto adapter = random_adapter<double>(apart(dice.coin() ? "x" : ""), scheme);
    expect_same_function(fuse(adapter, qkv), adapter, folded);
  }
}

TEST(Fuse, SharedAWithDifferentScalingsDoesNotGrowTheRank) {
  const Adapter<float> adapter =
      random_adapter(apart("x"), schemes::tied_lora(), {.scalings = {{"layers.1.attn.k", -2.0}}});
  const Adapter<float> fused = fuse(adapter, qkv);
  EXPECT_TRUE(fused.layout().scheme() == schemes::lora());
  EXPECT_EQ(fused.layout().rank(fused.layout().modules().find("layers.1.attn.qkv")), 2);
  expect_same_function(fused, adapter, folded);
}

// Of a training run that diverged.
TEST(Fuse, KeepsNotANumber) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const char* input : {"x", ""}) {
    Adapter<float> adapter = random_adapter(apart(input), schemes::tied_lora());
    adapter.trainable().front() = nan;  // of A
    const Adapter<float> fused = fuse(adapter, qkv);
    EXPECT_TRUE(std::isnan(fused.factors(0).A[0])) << input;
    EXPECT_TRUE(std::isnan(split(fused, qkv).factors(0).A[0])) << input;
  }
}

TEST(Fuse, OfNarrowNumbersAndOfAView) {
  const auto adapter = random_adapter<Eigen::bfloat16>(apart("x"), schemes::tied_lora());
  const Adapter<float> fused = fuse(adapter.view(), qkv);
  expect_same_function(fused, adapter, 0);
}

TEST(Fuse, WhatWasFrozenIsNoLongerRandomByItsSeed) {
  Scheme scheme = schemes::lora_fused();
  scheme.A.trained = false;
  const Adapter<float> fused = fuse(random_adapter(apart("x"), schemes::lora_fused()), qkv);
  EXPECT_TRUE(fused.layout().scheme().A.init == init::kaiming());
  Adapter<float> frozen(Layout(apart("x"), scheme, 2));
  frozen.initialize(1);
  EXPECT_TRUE(fuse(frozen, qkv).layout().scheme().A.init == init::given());
}

TEST(Split, UndoesFuse) {
  for (const NamedScheme& preset : presets()) {
    SCOPED_TRACE(preset.name);
    const Adapter<float> adapter = random_adapter(apart("qkv"), preset.scheme);
    const Adapter<float> fused = fuse(adapter, qkv);
    const Adapter<float> back = split(fused, qkv);
    EXPECT_EQ(back.layout().size(), adapter.layout().size());
    expect_same_function(fused, back, folded);
    // Where the scheme stayed, down to the last bit.
    if (!(fused.layout().scheme() == schemes::lora())) {
      EXPECT_TRUE(std::ranges::equal(back.trainable(), adapter.trainable()));
    }
  }
}

TEST(Split, PartsShareAAndTakeTheirRowsOfBAndV) {
  const ModuleList fused_modules = fuse(random_adapter(apart(""), schemes::lora()), qkv).layout().modules();
  const Adapter<float> fused = random_adapter(fused_modules, schemes::tied_lora());
  const Adapter<float> parts = split(fused, qkv);
  EXPECT_TRUE(parts.layout().scheme() == schemes::tied_lora());
  EXPECT_EQ(parts.layout().trainable_count(), fused.layout().trainable_count());
  EXPECT_EQ(parts.factors(0).A, parts.factors(2).A);
  EXPECT_EQ(parts.factors(0).u, parts.factors(1).u);
  EXPECT_EQ(parts.layout().modules()[1].name, "layers.0.attn.k");
  expect_same_function(fused, parts, 0);
  // VeRA's parts would all take the first rows of B: it becomes LoRA.
  const Adapter<float> vera = random_adapter(fused_modules, schemes::vera());
  expect_same_function(vera, split(vera, qkv), folded);
}

TEST(Fuse, Refuses) {
  const Adapter<float> adapter = random_adapter(apart("x"), schemes::tied_lora());
  const Adapter<float> fused = fuse(adapter, qkv);
  expect_error([&] { (void)fuse(adapter, {.fused = "layers.*.qkv"}); }, {"no parts"});
  expect_error(
      [&] { (void)fuse(adapter, {.fused = "f.*", .parts = {"layers.*.attn.q", "layers.*.attn.w"}}); },
      {"\"layers.0.attn.w\""});
  expect_error([&] { (void)fuse(adapter, {.fused = "f.*", .parts = {"blocks.*.q"}}); }, {"\"blocks.*.q\""});
  ModuleList lacking;  // layer 3 has k, but no q
  for (const Module& module : adapter.layout().modules()) lacking.add(module);
  lacking.add({.name = "layers.3.attn.k", .layer = 3, .in_features = 5, .out_features = 2});
  expect_error([&] { (void)fuse(Adapter<float>(Layout(lacking, schemes::lora(), 2)), qkv); },
               {"\"layers.3.attn.q\""});
  expect_error(
      [&] { (void)fuse(adapter, {.fused = "f.*", .parts = {"layers.*.attn.q", "layers.*.attn.o"}}); },
      {"\"layers.0.attn.q\" and \"layers.0.attn.o\"", "in_features"});
  expect_error(
      [&] { (void)fuse(adapter, {.fused = "f.*", .parts = {"layers.*.attn.q", "layers.1.attn.k"}}); },
      {"\"layers.0.attn.q\" and \"layers.1.attn.k\"", "layer"});
  expect_error([&] { (void)split(fused, {.fused = "layers.*.attn.qkv", .parts = {"a.*", "b.*"}}); },
               {"2 parts and 0 sizes"});
  for (const std::vector<Index>& sizes : {std::vector<Index>{6, 2, 2}, {6, 2, 4}, {6, 12, -7}, {11, 0, 0}})
    expect_error([&] { (void)split(fused, {.fused = qkv.fused, .parts = qkv.parts, .out_features = sizes}); },
                 {"\"layers.0.attn."});
  expect_error([&] { (void)split(adapter, qkv); }, {"\"layers.*.attn.qkv\""});
}

}  // namespace
}  // namespace tiedlora_test
