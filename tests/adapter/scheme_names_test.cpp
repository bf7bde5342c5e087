#include <gtest/gtest.h>

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
}

TEST(SchemeNames, OthersAreNone) {
  for (const char* name : {"", "LoRA", "tl7", "lora_", "grouped"}) EXPECT_FALSE(schemes::named(name)) << name;
}

}  // namespace
}  // namespace tiedlora_test
