#include <gtest/gtest.h>

#include <limits>
#include <tiedlora/adapter/modules.hpp>

#include "support/errors.hpp"

namespace tiedlora_test {
namespace {

using tiedlora::Index;
using tiedlora::Module;
using tiedlora::ModuleList;

Module named(const std::string& name, Index in = 4, Index out = 6) {
  return {.name = name, .layer = 0, .in_features = in, .out_features = out};
}

TEST(ModuleList, AddReturnsTheIndexAndFindFindsIt) {
  ModuleList modules;
  EXPECT_EQ(modules.size(), 0);
  EXPECT_EQ(modules.add(named("model.layers.0.q_proj")), 0);
  EXPECT_EQ(modules.add(named("model.layers.0.k_proj")), 1);
  EXPECT_EQ(modules.size(), 2);
  EXPECT_EQ(modules.find("model.layers.0.k_proj"), 1);
  EXPECT_EQ(modules.try_find("model.layers.0.q_proj"), 0);
  EXPECT_EQ(modules.try_find("q_proj"), std::nullopt);
  EXPECT_EQ(modules[1].name, "model.layers.0.k_proj");
  Index seen = 0;
  for (const Module& module : modules) seen += module.out_features;
  EXPECT_EQ(seen, 12);
}

TEST(ModuleList, KindIsTheLastComponentOfTheNameByDefault) {
  ModuleList modules;
  modules.add(named("model.layers.0.self_attn.q_proj"));
  modules.add(named("lm_head"));
  Module other = named("model.layers.0.self_attn.k_proj");
  other.kind = "key";
  modules.add(other);
  EXPECT_EQ(modules[0].kind, "q_proj");
  EXPECT_EQ(modules[1].kind, "lm_head");
  EXPECT_EQ(modules[2].kind, "key");
}

TEST(ModuleList, FindNamesWhatIsMissing) {
  ModuleList modules;
  expect_error([&] { (void)modules.find("q"); }, {"no module is named \"q\"", "in this list of 0"});
  modules.add(named("layers.0.q_proj"));
  expect_error([&] { (void)modules.find("layers.1.q_proj"); },
               {"\"layers.1.q_proj\"", "in this list of 1", "the first is \"layers.0.q_proj\""});
}

TEST(ModuleList, RefusesBadModulesByName) {
  ModuleList modules;
  modules.add(named("a"));
  expect_error([&] { modules.add(named("")); }, {"empty name"});
  expect_error([&] { modules.add(named("a")); }, {"\"a\" was already added"});
  expect_error([&] { modules.add(named("zero_in", 0, 6)); }, {"\"zero_in\"", "6x0", "must be positive"});
  expect_error([&] { modules.add(named("zero_out", 4, 0)); }, {"\"zero_out\"", "0x4", "must be positive"});
  expect_error([&] { modules.add(named("negative", -4, 6)); }, {"\"negative\"", "6x-4"});
  constexpr Index largest = std::numeric_limits<Index>::max();
  expect_error([&] { modules.add(named("huge", largest / 2, 3)); }, {"\"huge\"", "overflows"});
  Module below = named("below");
  below.layer = -2;
  expect_error([&] { modules.add(below); }, {"\"below\"", "layer -2", "use -1"});
  // The product may fill the index type exactly.
  EXPECT_EQ(modules.add(named("largest", largest, 1)), 1);
}

TEST(ModuleList, TryAddReturnsTheIndexOrTheReason) {
  ModuleList modules;
  const auto added = modules.try_add(named("a"));
  ASSERT_TRUE(added);
  EXPECT_EQ(*added, 0);
  const auto refused = modules.try_add(named("a"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error(), "module \"a\" was already added; names must be unique");
  EXPECT_EQ(modules.size(), 1);
}

TEST(ModuleList, ARefusedModuleLeavesTheListAsItWas) {
  ModuleList modules;
  modules.add(named("a"));
  expect_error([&] { modules.add(named("b", 0, 6)); }, {"\"b\""});
  EXPECT_EQ(modules.size(), 1);
  EXPECT_EQ(modules.try_find("b"), std::nullopt);
  EXPECT_EQ(modules.add(named("b")), 1);
  EXPECT_EQ(modules.labels(1).occurrence, 0);
}

TEST(ModuleList, ModulesOfOneLayerThatReadOneInputMustAgreeInItsWidth) {
  ModuleList modules;
  Module q = named("layers.0.q", 4), k = named("layers.0.k", 5);
  q.input = k.input = "x";
  modules.add(q);
  expect_error([&] { modules.add(k); }, {"\"layers.0.k\"", "5 in_features", "same input of layer 0",
                                         "\"layers.0.q\"", "with 4", "input label"});
  k.in_features = 4;
  modules.add(k);

  // In another layer the same label is another input.
  Module wide = named("layers.1.q", 7);
  wide.layer = 1;
  wide.input = "x";
  modules.add(wide);
  EXPECT_NE(modules.labels(2).first_reader, modules.labels(0).first_reader);
}

TEST(ModuleList, ExpertsOfOneKindReadOneInputUnlessLabelled) {
  ModuleList modules;
  Module expert = named("layers.0.experts.0", 4);
  expert.kind = "expert";
  modules.add(expert);
  expert.name = "layers.0.experts.1";
  modules.add(expert);
  expert.name = "layers.0.experts.2";
  expert.in_features = 5;
  expect_error([&] { modules.add(expert); }, {"\"layers.0.experts.2\"", "\"layers.0.experts.0\""});
  expert.input = "another";
  modules.add(expert);
  EXPECT_EQ(modules.labels(0).occurrence, 0);
  EXPECT_EQ(modules.labels(1).occurrence, 1);
  EXPECT_EQ(modules.labels(2).occurrence, 2);
  EXPECT_EQ(modules.labels(1).first_reader, 0);
  EXPECT_EQ(modules.labels(2).first_reader, 2);
}

TEST(ModuleList, ALabelIsNeverTakenForADefaultOne) {
  // The label "k" that a user wrote and the label private to the kind "k" are two inputs, so their widths may
  // differ.
  ModuleList modules;
  Module k = named("layers.0.k", 4), q = named("layers.0.q", 5);
  q.input = "k";
  modules.add(k);
  modules.add(q);
  EXPECT_NE(modules.labels(0).input, modules.labels(1).input);
  EXPECT_EQ(modules.labels(1).first_reader, 1);
}

TEST(ModuleList, LabelsAreIndependentOfTheLayer) {
  ModuleList modules;
  for (int layer = 0; layer < 2; ++layer)
    for (const char* kind : {"q", "k"}) {
      Module module = named("layers." + std::to_string(layer) + "." + kind);
      module.layer = layer;
      module.input = "x";
      modules.add(module);
    }
  EXPECT_EQ(modules.labels(0).kind, modules.labels(2).kind);
  EXPECT_EQ(modules.labels(0).input, modules.labels(3).input);
  EXPECT_NE(modules.labels(0).kind, modules.labels(1).kind);
  EXPECT_EQ(modules.labels(2).occurrence, 0);
}

}  // namespace
}  // namespace tiedlora_test
