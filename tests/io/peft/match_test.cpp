// Which modules a config means, and with which alpha.
#include <gtest/gtest.h>

#include <string>
#include <tiedlora/io/peft/config.hpp>
#include <tiedlora/io/peft/match.hpp>

#include "support/io_files.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using tiedlora::detail::PeftPatterns;
using tiedlora::detail::PeftTargetMatcher;

Result<PeftConfig> config_of(const std::string& fields) {
  return tiedlora::detail::try_parse_peft_config(R"({"peft_type":"LORA",)" + fields + "}");
}

double alpha(const PeftConfig& config, const char* name) {
  const auto alphas = PeftPatterns<double>::try_make("alpha_pattern", config.alpha_pattern, 20, 1000);
  EXPECT_TRUE(alphas);
  return alphas->of(name, config.alpha);
}

// PEFT: re.match(rf"(.*\.)?({key})$", name), the first key in the order of the file.
TEST(PeftMatch, FindsAlphasAsPeftDoes) {
  const auto config = config_of(
      R"x("lora_alpha":1,"alpha_pattern":{"v.proj":2,"a.q_proj":3,"q_proj":4,"^x.k":5,"m.(o|p)":6})x");
  ASSERT_TRUE(config) << config.error();
  EXPECT_EQ(alpha(*config, "l.0.v_proj"), 2);  // the dot is any character
  EXPECT_EQ(alpha(*config, "l.a.q_proj"), 3);
  EXPECT_EQ(alpha(*config, "l.b.q_proj"), 4);
  EXPECT_EQ(alpha(*config, "l.bq_proj"), 1);
  EXPECT_EQ(alpha(*config, "x.k"), 5);
  EXPECT_EQ(alpha(*config, "l.x.k"), 1);
  EXPECT_EQ(alpha(*config, "l.m.p"), 6);
  EXPECT_EQ(alpha(*config, "q_proj.x"), 1);
}

TEST(PeftMatch, TakesTheFirstAlphaOfTheFileNotOfTheAlphabet) {
  EXPECT_EQ(alpha(*config_of(R"("alpha_pattern":{"q":1,"a.q":2})"), "a.q"), 1);
  EXPECT_EQ(alpha(*config_of(R"("alpha_pattern":{"a.q":2,"q":1})"), "a.q"), 2);
  // Names within other values are not patterns.
  EXPECT_EQ(
      alpha(*config_of(R"("eva_config":{"alpha_pattern":{"a":7}},"alpha_pattern":{"q":1,"a.q":2})"), "a.q"),
      1);
}

TEST(PeftMatch, CountsInBraces) {
  const auto config = config_of(R"("lora_alpha":8,"alpha_pattern":{"model\\.layers\\.\\d{1,2}\\.q":100})");
  ASSERT_TRUE(config) << config.error();
  EXPECT_EQ(alpha(*config, "model.layers.11.q"), 100);
  EXPECT_EQ(alpha(*config, "model.layers.111.q"), 8);
}

TEST(PeftMatch, SaysWhichPatternIsBeyondIt) {
  const auto config = config_of(R"("alpha_pattern":{"(?>x)q":2})");
  ASSERT_TRUE(config);
  expect_failure(PeftPatterns<double>::try_make("alpha_pattern", config->alpha_pattern, 20, 1000),
                 {"alpha_pattern \"(?>x)q\"", "not supported"});
}

// A key as save_peft writes it means one module and nothing else.
TEST(PeftMatch, AKeyForOneModuleIsNoPattern) {
  const auto config =
      config_of(R"("lora_alpha":8,"alpha_pattern":{"^m\\.0\\.q":1,"q":2,"^m\\.1\\.q":3,"^m\\.2.q":4})");
  ASSERT_TRUE(config) << config.error();
  EXPECT_EQ(alpha(*config, "m.0.q"), 1);
  EXPECT_EQ(alpha(*config, "x.m.0.q"), 2);
  EXPECT_EQ(alpha(*config, "m.1.q"), 2) << "the first key counts";
  EXPECT_EQ(alpha(*config, "m.1.v"), 8);
}

TEST(PeftMatch, RefusesPatternsThatWouldTakeMinutes) {
  const auto config = config_of(R"("alpha_pattern":{"(?:.?){60000}":2},"target_modules":"(?:.?){60000}")");
  ASSERT_TRUE(config) << config.error();
  EXPECT_TRUE(PeftTargetMatcher::try_make(*config, 5000));
  expect_failure(PeftTargetMatcher::try_make(*config, 3'000'000),
                 {"the regular expression \"(?:.?){60000}\"", "too large to match", "list their names"});
  expect_failure(PeftPatterns<double>::try_make("alpha_pattern", config->alpha_pattern, 50'000, 3'000'000),
                 {"in alpha_pattern", "50000 modules, from the key \"(?:.?){60000}\" on", "after a '^'"});
}

// A key of plain characters is compared with the end of each name, however long that is: it costs its own
// characters.
TEST(PeftMatch, KeysWithoutPatternsCostTheirCharacters) {
  PeftPatterns<double>::Entries entries;
  for (int i = 0; i < 1000; ++i)
    entries.emplace_back("layers." + std::to_string(1000 + i) + ".mlp.down_proj", 2);  // 25 characters
  EXPECT_TRUE(PeftPatterns<double>::try_make("alpha_pattern", entries, 80'000, 80'000 * 1000));
  // 26 steps for each key and module: the 2^31st is of the 826th key.
  expect_failure(PeftPatterns<double>::try_make("alpha_pattern", entries, 100'000, 100'000 * 1000),
                 {"100000 modules, from the key \"layers.1825.mlp.down_proj\" on"});
}

bool targets(const Result<PeftConfig>& config, const char* name) {
  EXPECT_TRUE(config) << config.error();
  const auto matcher = PeftTargetMatcher::try_make(*config, 1000);
  EXPECT_TRUE(matcher) << matcher.error();
  return (*matcher)(name);
}

TEST(PeftMatch, KnowsTheTargets) {
  const auto list = config_of(R"("target_modules":["q","a.v"])");
  EXPECT_TRUE(targets(list, "q") && targets(list, "x.q") && targets(list, "x.a.v"));
  EXPECT_FALSE(targets(list, "x.bq") || targets(list, "v") || targets(list, "q.x"));
  const auto regex = config_of(R"x("target_modules":".*\\.(q|v)")x");
  EXPECT_TRUE(targets(regex, "x.q"));
  EXPECT_FALSE(targets(regex, "q"));
  const auto all = config_of(R"("target_modules":"All-Linear","exclude_modules":["up"])");
  EXPECT_TRUE(targets(all, "x.q"));
  EXPECT_FALSE(targets(all, "lm_head") || targets(all, "x.up"));
  const auto layers = config_of(R"("target_modules":["q"],"layers_to_transform":[1,3])");
  EXPECT_TRUE(targets(layers, "m.layers.1.q") && targets(layers, "m.layers.3.experts.0.q"));
  EXPECT_FALSE(targets(layers, "m.layers.0.q") || targets(layers, "m.layers.0.experts.1.q") ||
               targets(layers, "layers.1.q"));  // PEFT wants something before "layers"
  const auto pattern =
      config_of(R"("target_modules":["q"],"layers_to_transform":1,"layers_pattern":["h","layers"])");
  EXPECT_TRUE(targets(pattern, "h.1.q") && targets(pattern, "m.layers.1.q"));
  EXPECT_FALSE(targets(pattern, "m.blocks.1.q") || targets(pattern, "h.0.q"));
}

TEST(PeftMatch, FindsTheLayerBehindTheFirstNumberOrAPattern) {
  const auto layer = [](const char* name, std::vector<std::string> patterns = {}) {
    return tiedlora::detail::peft_layer(name, patterns);
  };
  EXPECT_EQ(layer("model.layers.12.q"), 12);
  EXPECT_EQ(layer("layers.1.q"), -1) << "two components stand before it";
  EXPECT_EQ(layer("a.b.q"), -1);
  EXPECT_EQ(layer("a.b.7"), -1) << "the last component is no layer";
  EXPECT_EQ(layer("h.3.q", {"h"}), 3);
  EXPECT_EQ(layer("model.blocks.4.experts.5.q", {"experts"}), 5);
  EXPECT_EQ(layer("model.layers.1.q", {"h"}), -1);
}

}  // namespace
}  // namespace tiedlora_test
