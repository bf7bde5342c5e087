#include <gtest/gtest.h>

#include <limits>
#include <tiedlora/adapter/layout.hpp>

#include "support/errors.hpp"
#include "support/models.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

TEST(Layout, FactorsStandInTheOrderABvuWithoutGaps) {
  // 2 layers, 3 → 5, rank 2: A 6 and B 10 shared, then v 5 + 5, u 2 + 2.
  const Layout layout(one_kind(2, 3, 5), schemes::tied_lora(), 2);
  EXPECT_EQ(layout.segment(FactorId::A).offset, 0);
  EXPECT_EQ(layout.segment(FactorId::B).offset, 6);
  EXPECT_EQ(layout.segment(FactorId::v).offset, 16);
  EXPECT_EQ(layout.segment(FactorId::u).offset, 26);
  EXPECT_EQ(layout.trainable_count(), 30);
  EXPECT_EQ(layout.group(FactorId::v, 1)->offset, 21);
  EXPECT_EQ(layout.group(FactorId::u, 1)->offset, 28);
  EXPECT_EQ(layout.group_index(FactorId::A, 0), 0);
  EXPECT_EQ(layout.group_index(FactorId::A, 1), 0);
  EXPECT_EQ(layout.group_index(FactorId::v, 1), 1);
}

TEST(Layout, TrainedAndFrozenNumbersStandInTwoArrays) {
  Scheme scheme = schemes::tied_lora();
  scheme.A.trained = scheme.v->trained = false;
  const Layout layout(one_kind(2, 3, 5), scheme, 2);
  EXPECT_EQ(layout.segment(FactorId::A).offset, 0);   // frozen
  EXPECT_EQ(layout.segment(FactorId::v).offset, 6);   // frozen
  EXPECT_EQ(layout.segment(FactorId::B).offset, 0);   // trained
  EXPECT_EQ(layout.segment(FactorId::u).offset, 10);  // trained
  EXPECT_EQ(layout.frozen_count(), 16);
  EXPECT_EQ(layout.trainable_count(), 14);
}

TEST(Layout, GroupsStandByTheirFirstModule) {
  // Layers are listed 1, 0: the groups follow the list, not the layer numbers.
  ModuleList modules;
  modules.add({.name = "b", .layer = 1, .kind = "k", .in_features = 3, .out_features = 4});
  modules.add({.name = "a", .layer = 0, .kind = "k", .in_features = 2, .out_features = 4});
  const Layout layout(modules, schemes::lora(), 1);
  EXPECT_EQ(layout.group(FactorId::A, 0)->offset, 0);
  EXPECT_EQ(layout.group(FactorId::A, 1)->offset, 3);
  EXPECT_EQ(layout.group(FactorId::A, 1)->first, 1);
}

TEST(Layout, LayerGroupsGoByTheOrderOfTheLayersPresent) {
  // Layers 0, 4, 8, 12, 16 in groups of 2: {0, 4}, {8, 12}, {16}.
  ModuleList modules;
  for (int layer = 0; layer < 20; layer += 4)
    modules.add({.name = "m" + std::to_string(layer),
                 .layer = layer,
                 .kind = "k",
                 .in_features = 1,
                 .out_features = 1});
  const Layout layout(modules, schemes::grouped(2, schemes::tl5()), 1);
  const Index expected[] = {0, 0, 1, 1, 2};
  for (Index m = 0; m < 5; ++m) EXPECT_EQ(layout.group_index(FactorId::B, m), expected[m]);
}

TEST(Layout, AModuleWithoutALayerIsTiedToNoLayer) {
  ModuleList modules = one_kind(2, 4, 4);
  modules.add({.name = "lm_head", .kind = "proj", .in_features = 4, .out_features = 9});
  const Layout tied(modules, schemes::vera(), 3);
  EXPECT_EQ(tied.group_index(FactorId::B, 0), tied.group_index(FactorId::B, 1));
  EXPECT_NE(tied.group_index(FactorId::B, 0), tied.group_index(FactorId::B, 2));
  EXPECT_EQ(tied.group(FactorId::B, 0)->features, 4);
  EXPECT_EQ(tied.group(FactorId::B, 2)->features, 9);
}

TEST(Layout, TheNthExpertSharesWithTheNthOfOtherLayers) {
  ModuleList modules;
  for (int layer = 0; layer < 2; ++layer)
    for (int expert = 0; expert < 3; ++expert)
      modules.add({.name = std::to_string(layer) + "." + std::to_string(expert),
                   .layer = layer,
                   .kind = "expert",
                   .in_features = 2,
                   .out_features = 2});
  Scheme scheme = schemes::lora();
  scheme.A.tying = {all_layers, Across::module};
  scheme.B.tying = {each_layer, Across::kind};
  const Layout layout(modules, scheme, 1);
  for (Index expert = 0; expert < 3; ++expert) {
    EXPECT_EQ(layout.group_index(FactorId::A, expert), expert);
    EXPECT_EQ(layout.group_index(FactorId::A, 3 + expert), expert);
    EXPECT_EQ(layout.group_index(FactorId::B, expert), 0);
    EXPECT_EQ(layout.group_index(FactorId::B, 3 + expert), 1);
  }
}

TEST(Layout, RankZeroMeansNotAdapted) {
  const Layout layout(one_kind(3, 4, 5), schemes::tied_lora(), 2, {.ranks = {{"layers.1.proj", 0}}});
  EXPECT_EQ(layout.rank(), 2);
  EXPECT_EQ(layout.rank(0), 2);
  EXPECT_EQ(layout.rank(1), 0);
  for (const FactorId id : all_factors) {
    EXPECT_EQ(layout.group_index(id, 1), -1);
    EXPECT_EQ(layout.group(id, 1), nullptr);
  }
  EXPECT_EQ(layout.trainable_count(), 2 * 4 + 2 * 5 + 2 * 5 + 2 * 2);
  EXPECT_EQ(layout.trainable_count(Index{1}), 0);
  EXPECT_FALSE(layout.backward_needs_x(1));
  EXPECT_FALSE(layout.share_trained(0, 1));
  EXPECT_FALSE(layout.share_trained(1, 1));
  EXPECT_EQ(Layout(one_kind(3, 4, 5), schemes::tied_lora(), 0).trainable_count(), 0);
  EXPECT_EQ(Layout(ModuleList(), schemes::tied_lora(), 4).trainable_count(), 0);
}

TEST(Layout, ScalingHasOverridesToo) {
  const Layout layout(one_kind(2, 4, 5), schemes::tied_lora(), 2,
                      {.scaling = 0.5, .scalings = {{"layers.1.proj", 3.0}}});
  EXPECT_EQ(layout.scaling(), 0.5);
  EXPECT_EQ(layout.scaling(0), 0.5);
  EXPECT_EQ(layout.scaling(1), 3.0);
}

TEST(Layout, BackwardNeedsXWhereAIsTrained) {
  const ModuleList modules = one_kind(2, 4, 5);
  EXPECT_TRUE(Layout(modules, schemes::tied_lora(), 2).backward_needs_x(0));
  EXPECT_FALSE(Layout(modules, schemes::vera(), 2).backward_needs_x(0));
  EXPECT_FALSE(Layout(modules, schemes::lora_fa(), 2).backward_needs_x(0));
}

TEST(Layout, ShareTrainedLooksAtTrainedFactorsOnly) {
  const ModuleList modules = one_kind(2, 4, 5);
  EXPECT_TRUE(Layout(modules, schemes::tied_lora(), 2).share_trained(0, 1));
  EXPECT_FALSE(Layout(modules, schemes::lora(), 2).share_trained(0, 1));
  EXPECT_FALSE(Layout(modules, schemes::vera(), 2).share_trained(0, 1));  // A, B are shared but frozen
  EXPECT_TRUE(Layout(modules, schemes::vera(), 2).share_trained(1, 1));
}

TEST(Layout, InputIdsTellInputsApart) {
  const ModuleList together = projections(2, {"q", "k"}, 4, "x"), apart = projections(2, {"q", "k"}, 4, "");
  const Layout a(together, schemes::lora(), 1), b(apart, schemes::lora(), 1);
  EXPECT_EQ(a.input_id(0), a.input_id(1));
  EXPECT_EQ(a.input_id(2), a.input_id(3));
  EXPECT_NE(a.input_id(0), a.input_id(2));  // the same label in another layer is another input
  EXPECT_NE(b.input_id(0), b.input_id(1));
}

TEST(Layout, EqualityIsThatOfTheNumbersMeaning) {
  const ModuleList modules = one_kind(2, 4, 5);
  const Layout layout(modules, schemes::tied_lora(), 2);
  EXPECT_TRUE(layout == layout);
  EXPECT_TRUE(layout == Layout(layout));
  EXPECT_TRUE(layout == Layout(modules, schemes::tied_lora(), 2));
  // The same ranks, said in another way.
  EXPECT_TRUE(layout == Layout(modules, schemes::tied_lora(), 3,
                               {.ranks = {{"layers.0.proj", 2}, {"layers.1.proj", 2}}}));
  EXPECT_FALSE(layout == Layout(modules, schemes::tied_lora(), 3));
  EXPECT_FALSE(layout == Layout(modules, schemes::tied_lora_ab(), 2));
  EXPECT_FALSE(layout == Layout(modules, schemes::tied_lora(), 2, {.scaling = 2}));
  EXPECT_FALSE(layout == Layout(one_kind(2, 4, 6), schemes::tied_lora(), 2));
  EXPECT_FALSE(layout == Layout(one_kind(3, 4, 5), schemes::tied_lora(), 2));
}

TEST(Layout, WithSchemeKeepsRanksAndScalings) {
  const Layout layout(
      one_kind(2, 4, 5), schemes::lora(), 2,
      {.scaling = 0.5, .ranks = {{"layers.1.proj", 3}}, .scalings = {{"layers.0.proj", 7.0}}});
  const Layout other = layout.with_scheme(schemes::lora_fa());
  EXPECT_TRUE(other.scheme() == schemes::lora_fa());
  EXPECT_EQ(other.rank(1), 3);
  EXPECT_EQ(other.scaling(0), 7.0);
  EXPECT_EQ(other.scaling(1), 0.5);
}

TEST(Layout, CopiesTheModuleList) {
  ModuleList modules = one_kind(1, 4, 5);
  const Layout layout(modules, schemes::lora(), 2);
  modules.add({.name = "later", .in_features = 1, .out_features = 1});
  EXPECT_EQ(layout.size(), 1);
  EXPECT_EQ(layout.modules().try_find("later"), std::nullopt);
}

TEST(LayoutErrors, NameTheModule) {
  const ModuleList modules = one_kind(2, 4, 5);
  const Scheme tied = schemes::tied_lora();
  expect_error([&] { Layout(modules, tied, -1); }, {"\"layers.0.proj\"", "rank -1", "use 0"});
  expect_error([&] { Layout(modules, tied, 2, {.ranks = {{"layers.1.proj", -3}}}); },
               {"\"layers.1.proj\"", "rank -3"});
  expect_error([&] { Layout(modules, tied, 2, {.ranks = {{"layers.7.proj", 3}}}); },
               {"no module is named \"layers.7.proj\""});
  expect_error([&] { Layout(modules, tied, 2, {.scalings = {{"q_proj", 3.0}}}); },
               {"no module is named \"q_proj\""});
  expect_error([&] { Layout(modules, tied, 2, {.scaling = std::numeric_limits<double>::infinity()}); },
               {"\"layers.0.proj\"", "scaling", "not finite"});
  const double nan = std::numeric_limits<double>::quiet_NaN();
  expect_error([&] { Layout(modules, tied, 2, {.scalings = {{"layers.1.proj", nan}}}); },
               {"\"layers.1.proj\"", "not finite"});
}

TEST(LayoutErrors, UnequalRanksOnASharedFactor) {
  const LayoutOptions options = {.ranks = {{"layers.1.proj", 3}}};
  expect_error(
      [&] { Layout(one_kind(2, 4, 5), schemes::tied_lora(), 2, options); },
      {"\"layers.1.proj\" has rank 3", "factor A", "\"layers.0.proj\" of rank 2", "must have the same rank"});
  expect_error([&] { Layout(one_kind(2, 4, 5), schemes::share_lora_b(), 2, options); }, {"factor B"});
  // Where each has its own factors, ranks may differ.
  EXPECT_EQ(Layout(one_kind(2, 4, 5), schemes::lora(), 2, options).trainable_count(), (2 + 3) * (4 + 5));
}

TEST(LayoutErrors, ATyingOverNoLayers) {
  expect_error([] { Layout(one_kind(2, 4, 5), schemes::grouped(0), 2); }, {"factor A", "groups of 0"});
  Scheme scheme = schemes::tied_lora();
  scheme.v->tying.layers = -1;
  expect_error([&] { Layout(one_kind(2, 4, 5), scheme, 2); }, {"factor v", "groups of -1"});
}

TEST(LayoutErrors, TryMakeGivesTheReason) {
  const auto layout = Layout::try_make(one_kind(2, 4, 5), schemes::tied_lora(), 2);
  ASSERT_TRUE(layout);
  EXPECT_EQ(*layout, Layout(one_kind(2, 4, 5), schemes::tied_lora(), 2));
  const auto refused = Layout::try_make(one_kind(2, 4, 5), schemes::grouped(0), 2);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error(),
            "factor A is tied over groups of 0 layers; use each_layer, a positive number or all_layers");
}

TEST(LayoutErrors, SizesThatOverflow) {
  constexpr Index largest = std::numeric_limits<Index>::max();
  expect_error([] { Layout(one_kind(1, 4, 5), schemes::lora(), largest / 2); },
               {"\"layers.0.proj\"", "factor A", "overflows"});
  expect_error([] { Layout(one_kind(1, 1, 5), schemes::lora(), largest / 2); },
               {"\"layers.0.proj\"", "factor B", "overflows"});
  // Each factor fits, their sum does not.
  expect_error([] { Layout(one_kind(3, 1, 1), schemes::lora(), largest / 4); },
               {"\"layers.1.proj\"", "adapter's size overflows"});
}

}  // namespace
}  // namespace tiedlora_test
