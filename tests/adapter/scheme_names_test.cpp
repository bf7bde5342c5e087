#include <gtest/gtest.h>

#include <string>
#include <tiedlora/adapter/scheme_names.hpp>

namespace tiedlora_test {
namespace {

using namespace tiedlora;

TEST(SchemeNames, EachIsThatOfItsFunction) {
  ASSERT_EQ(schemes::all_named().size(), 10u);
  for (const auto& [name, scheme] : schemes::all_named()) EXPECT_TRUE(schemes::named(name) == scheme) << name;
  EXPECT_TRUE(schemes::named("lora_fa") == schemes::lora_fa());
  EXPECT_TRUE(schemes::named("tl6") == schemes::tied_lora());
  EXPECT_TRUE(schemes::named("share_lora_b") == schemes::share_lora_b());
  EXPECT_TRUE(schemes::named("grouped:4") == schemes::grouped(4));
  EXPECT_FALSE(schemes::named("grouped:4") == schemes::grouped(5));
}

TEST(SchemeNames, AreListed) {
  EXPECT_EQ(schemes::names(),
            "lora, lora_fused, vera, tl5, tl6, tl6_v0, lora_fa, share_lora_a, share_lora_b, share_lora_ab or "
            "grouped:G");
}

TEST(SchemeNames, OthersAreNone) {
  for (const char* name : {"", "LoRA", "tl7", "lora_", "grouped", "grouped:", "grouped:0", "grouped:-2",
                           "grouped:4x", "grouped: 4", "grouped:9999999999999999999"})
    EXPECT_FALSE(schemes::named(name)) << name;
}

}  // namespace
}  // namespace tiedlora_test
