// What the names of modules tell.
#include <gtest/gtest.h>

#include <string>
#include <tiedlora/io/module_names.hpp>

#include "support/io_files.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using tiedlora::detail::module_of_name;
using tiedlora::detail::natural_less;

TEST(ModuleNames, NumbersInThemAreComparedAsNumbers) {
  const char* const in_order[] = {"", "a", "a.1.x", "a.2.x", "a.02.y", "a.10.a", "a.10.b", "a.b", "b"};
  for (std::size_t i = 0; i < std::size(in_order); ++i)
    for (std::size_t j = 0; j < std::size(in_order); ++j)
      EXPECT_EQ(natural_less(in_order[i], in_order[j]), i < j) << in_order[i] << " and " << in_order[j];
}

TEST(ModuleNames, DifferInLeadingZerosAtLast) {
  EXPECT_NE(natural_less("a.01", "a.1"), natural_less("a.1", "a.01"));
  EXPECT_TRUE(natural_less("99999999999999999999", "100000000000000000000")) << "of any length";
}

TEST(ModuleNames, TellLayerAndKind) {
  const Module module = module_of_name("model.layers.7.mlp.experts.3.up_proj");
  EXPECT_EQ(module.name, "model.layers.7.mlp.experts.3.up_proj");
  EXPECT_EQ(module.layer, 7);
  EXPECT_EQ(module.kind, "up_proj");
  EXPECT_EQ(module_of_name("lm_head").layer, -1);
  EXPECT_EQ(module_of_name("lm_head").kind, "lm_head");
  EXPECT_EQ(module_of_name("a.1b.12.q").layer, 12);
  EXPECT_EQ(module_of_name("a.1234567890.q").layer, -1) << "that is not a layer number";
}

TEST(ModuleNames, OfOneKindAndLayerWithOtherWidthsAreInputsOfTheirOwn) {
  Module a = module_of_name("encoder.0.q"), b = module_of_name("decoder.0.q");
  a.in_features = 2, b.in_features = 3;
  a.out_features = b.out_features = 2;
  const auto modules = tiedlora::detail::try_list_of({a, b});
  ASSERT_TRUE(modules) << modules.error();
  EXPECT_EQ((*modules)[0].input, "");
  EXPECT_EQ((*modules)[1].input, "decoder.0.q");
  expect_failure(tiedlora::detail::try_list_of({a, a}), {"encoder.0.q"});
}

}  // namespace
}  // namespace tiedlora_test
