#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <string_view>
#include <tiedlora/adapter/recommended_scheme.hpp>
#include <tiedlora/adapter/scheme_names.hpp>  // named

#include "support/io_files.hpp"  // expect_failure

namespace tiedlora_test {
namespace {

using namespace tiedlora;

/// q, k and v of SmolLM2-135M, as the study adapts them.
ModuleList grouped_queries() {
  ModuleList modules;
  for (int layer = 0; layer < 30; ++layer)
    for (const char* kind : {"q", "k", "v"})
      modules.add({.name = std::to_string(layer) + "." + kind,
                   .layer = layer,
                   .kind = kind,
                   .input = "attention",
                   .in_features = 576,
                   .out_features = std::string(kind) == "q" ? 576 : 192});
  return modules;
}

/// One module in each layer.
ModuleList one_kind(int layers, const std::string& kind, Index in, Index out) {
  ModuleList modules;
  for (int layer = 0; layer < layers; ++layer)
    modules.add({.name = std::to_string(layer) + "." + kind,
                 .layer = layer,
                 .kind = kind,
                 .in_features = in,
                 .out_features = out});
  return modules;
}

// Of rank 1, by hand: LoRA 30 (3 * 576 + 960), share_lora_a 3 * 576 + 30 * 960, lora_fused 30 (576 + 960),
// TL5 576 + 960.
TEST(RecommendedScheme, GoesByWhatFits) {
  const ModuleList modules = grouped_queries();
  const auto expect = [&](Index budget, std::string_view name, Index rank, Index trainable) {
    const RecommendedScheme found = recommended_scheme(modules, budget);
    EXPECT_EQ(found.name, name) << budget;
    EXPECT_EQ(found.rank, rank) << budget;
    EXPECT_EQ(found.trainable, trainable) << budget;
    EXPECT_EQ(Layout(modules, found.scheme, found.rank).trainable_count(), trainable);
    EXPECT_TRUE(found.scheme == *schemes::named(name));
  };
  expect(8 * 80'640, "lora", 8, 8 * 80'640);
  expect(8 * 80'640 - 1, "lora", 7, 7 * 80'640);
  expect(80'640, "lora", 1, 80'640);
  expect(80'639, "share_lora_a", 2, 61'056);
  expect(61'056, "share_lora_a", 2, 61'056);
  expect(61'055, "lora_fused", 1, 46'080);
  expect(46'079, "share_lora_a", 1, 30'528);
  expect(30'527, "tl5", 19, 19 * 1'536);
  expect(1'536, "tl5", 1, 1'536);
  expect(std::numeric_limits<Index>::max(), "lora", 576, 576 * 80'640);  // what q can have
}

// A fused qkv is wider than its input: share_lora_a of rank 2 is larger than LoRA of rank 1.
TEST(RecommendedScheme, CountsTheModelAtHand) {
  const ModuleList modules = one_kind(32, "qkv", 4096, 3 * 4096);
  EXPECT_EQ(recommended_scheme(modules, 524'288).name, "lora");
  const RecommendedScheme below = recommended_scheme(modules, 524'287);
  EXPECT_EQ(below.name, "share_lora_a");
  EXPECT_EQ(below.rank, 1);
}

// v alone: 576 + 30 * 192 of rank 1 with A shared.
TEST(RecommendedScheme, SharesAAtLargerRanksToo) {
  const ModuleList modules = one_kind(30, "v", 576, 192);
  const RecommendedScheme found = recommended_scheme(modules, 30 * (576 + 192) - 1);
  EXPECT_EQ(found.name, "share_lora_a");
  EXPECT_EQ(found.rank, 3);
  EXPECT_EQ(found.trainable, 3 * 6'336);
}

// A narrow module, such as a router, does not keep the others' ranks down.
TEST(RecommendedScheme, RanksAreThoseOfTheWidestModule) {
  ModuleList modules = grouped_queries();
  modules.add({.name = "router", .layer = -1, .in_features = 576, .out_features = 2});
  EXPECT_EQ(recommended_scheme(modules, 8 * (80'640 + 578)).rank, 8);
}

TEST(RecommendedScheme, SaysWhatTheLeastIs) {
  for (const Index budget : {Index{1'535}, Index{0}, Index{-5}})
    expect_failure(
        try_recommended_scheme(grouped_queries(), budget),
        {std::to_string(budget) + " trainable parameters", "1536", "adapt fewer kinds of modules"});
  expect_failure(try_recommended_scheme(ModuleList(), 1'000), {"there are no modules to adapt"});
}

}  // namespace
}  // namespace tiedlora_test
