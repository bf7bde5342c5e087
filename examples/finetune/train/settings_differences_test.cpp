#include "settings_differences.hpp"

#include <gtest/gtest.h>

#include <string>

namespace finetune {
namespace {

TEST(SettingsDifferences, NameWhatDiffers) {
  EXPECT_EQ(list_differences({{"rate", 0.002}, {"seed", 1}}, {{"rate", 0.002}, {"seed", 1}}), "");
  EXPECT_EQ(list_differences({{"rate", 0.002}, {"seed", 1}}, {{"rate", 0.001}, {"seed", 2}}),
            " (rate: 0.002 there, 0.001 here; seed: 1 there, 2 here)");
  EXPECT_EQ(list_differences({{"layers", {1, 2}}}, {{"scheme", "tl6"}}),
            " (layers: [1,2] there, none here; scheme: none there, tl6 here)");
}

// Six digits of them are the same.
TEST(SettingsDifferences, ShowNumbersInFull) {
  EXPECT_EQ(list_differences({{"rate", 0.0012345678}}, {{"rate", 0.0012345679}}),
            " (rate: 0.0012345678 there, 0.0012345679 here)");
}

TEST(SettingsDifferences, ShowNoHashesAndNoLongTexts) {
  EXPECT_EQ(list_differences({{"data", "0123456789abcdef"}}, {{"data", "fedcba9876543210"}}), " (data)");
  EXPECT_EQ(list_differences({{"seed", 1234567890123456}}, {{"seed", 1}}),
            " (seed: 1234567890123456 there, 1 here)");
  EXPECT_EQ(list_differences({{"system", std::string(70, 'a')}}, {{"system", ""}}),
            " (system: \"" + std::string(60, 'a') + "...\" there, \"\" here)");
}

TEST(SettingsDifferences, AreOfObjectsAlone) {
  EXPECT_EQ(list_differences(nlohmann::json::array(), {{"seed", 1}}), "");
  EXPECT_EQ(list_differences(nullptr, {{"seed", 1}}), "");
}

}  // namespace
}  // namespace finetune
