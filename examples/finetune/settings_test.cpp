#include "settings.hpp"

#include <gtest/gtest.h>

namespace finetune {
namespace {

Settings with(const std::vector<std::string>& schemes, const std::vector<Index>& ranks) {
  Settings settings;
  settings.schemes = schemes;
  settings.ranks = ranks;
  return settings;
}

TEST(Contenders, AreTheProductOfSchemesAndRanks) {
  EXPECT_EQ(contenders(with({"lora", "tl6"}, {4, 8})),
            (std::vector<Contender>{{"lora", 4}, {"lora", 8}, {"tl6", 4}, {"tl6", 8}}));
  // Full fine-tuning has no rank, a rank of one's own wins, repetitions are one.
  EXPECT_EQ(contenders(with({"full", "lora:1", "lora", "lora:4"}, {4, 8})),
            (std::vector<Contender>{{"full", 0}, {"lora", 1}, {"lora", 4}, {"lora", 8}}));
}

TEST(Contenders, RefuseWhatTheyDoNotKnow) {
  EXPECT_THROW(contenders(with({"loar"}, {4})), std::invalid_argument);
  EXPECT_THROW(contenders(with({"loar:2"}, {4})), std::invalid_argument);
  EXPECT_THROW(contenders(with({"lora:"}, {4})), std::invalid_argument);
  EXPECT_THROW(contenders(with({"lora:2x"}, {4})), std::invalid_argument);
  EXPECT_THROW(contenders(with({"lora:0"}, {4})), std::invalid_argument);
  EXPECT_THROW(contenders(with({"lora"}, {-1})), std::invalid_argument);
}

TEST(Rates, AreOverriddenByNameAndFactor) {
  std::map<std::string, Rates> rates = {{"lora", {1e-3, 1}}, {"tl6", {1e-3, 30}}};
  override_rate(rates, "lora=0.5");
  EXPECT_EQ(rates["lora"], (Rates{0.5, 1}));
  override_rate(rates, "tl6=2e-3");  // u and v go along
  EXPECT_EQ(rates["tl6"], (Rates{2e-3, 30}));
  override_rate(rates, "tl6.uv=0.1");
  EXPECT_EQ(rates["tl6"].rate, 2e-3);
  EXPECT_DOUBLE_EQ(rates["tl6"].rate * rates["tl6"].uv_multiple, 0.1);
  override_rate(rates, "lora:1=0.7");
  Settings settings;
  settings.rates = rates;
  EXPECT_EQ(rates_of(settings, {"lora", 1}).rate, 0.7);
  EXPECT_EQ(rates_of(settings, {"lora", 2}).rate, 0.5);
  for (const char* wrong :
       {"lora", "lora=", "lora=x", "lora=0.1x", "lora=-1", "lora=0", "loar=1", "lora.uv=1", "tl6.ab=1", "=1"})
    EXPECT_THROW(override_rate(rates, wrong), std::invalid_argument) << wrong;
}

TEST(Rates, HaveADefaultForEveryScheme) {
  const std::map<std::string, Rates> rates = default_rates();
  EXPECT_TRUE(rates.count("base"));
  for (const Contender& contender : contenders(Settings()))
    EXPECT_TRUE(rates.count(contender.scheme)) << contender.scheme;
}

}  // namespace
}  // namespace finetune
