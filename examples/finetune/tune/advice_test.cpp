// What a comparison makes of its figures.
#include <gtest/gtest.h>

#include <cmath>
#include <optional>

#include "compare.hpp"

namespace finetune {
namespace {

Candidate candidate(const std::string& name, Index trained, const std::vector<double>& losses,
                    std::int64_t steps = 10) {
  Candidate c = {.name = name, .trained = trained, .steps = steps, .losses = losses};
  for (const double loss : losses) c.loss += loss / static_cast<double>(losses.size());
  return c;
}

TEST(Candidates, AreParsed) {
  EXPECT_EQ(parse_candidate("tl6:32", {}).rank, 32);
  EXPECT_EQ(parse_candidate("lora:8:0.002", {}).rate, 0.002);
  EXPECT_EQ(parse_candidate("lora:8", {.targets = {"q_proj"}}).targets, std::vector<std::string>{"q_proj"});
  const TuneOptions some = parse_candidate("lora:1:0.01@v_proj+q_proj", {.targets = {"k_proj"}});
  EXPECT_EQ(some.targets, (std::vector<std::string>{"v_proj", "q_proj"}));
  EXPECT_EQ(some.rate, 0.01);
  EXPECT_EQ(some.b_rate, std::nullopt);
  const TuneOptions both = parse_candidate("share_lora_a:3:0.01:0.03@v_proj", {});
  EXPECT_EQ(both.rate, 0.01);
  EXPECT_EQ(both.b_rate, 0.03);
  EXPECT_EQ(both.targets, std::vector<std::string>{"v_proj"});
  for (const char* wrong :
       {"lora:1@", "lora:1@v", "lora:1@v_proj+", "lora:1@v_proj+v_proj", "@v_proj", "lora@v_proj"})
    EXPECT_THROW(parse_candidate(wrong, {}), std::invalid_argument) << wrong;
  for (const char* wrong :
       {"lora", "lora:", "loar:8", "lora:0", "lora:8x", "lora:8:", "lora:8:nan", "lora:8:-1", "lora:8:inf",
        ":8", "lora:8::0.1", "lora:8:0.1:", "lora:8:0.1:nan", "lora:8:0.1:-1", "lora:8:0.1:0.1:0.1"})
    EXPECT_THROW(parse_candidate(wrong, {}), std::invalid_argument) << wrong;
}

// As finetune train --b-rate: A or B alone has one rate.
TEST(Candidates, HaveARateOfBWhereAAndBAreTrained) {
  for (const auto& [name, scheme] : named_schemes()) {
    const std::string candidate = name + ":8:0.1:0.2";
    if (scheme.A.trained && scheme.B.trained) {
      EXPECT_EQ(parse_candidate(candidate, {}).b_rate, 0.2) << name;
      continue;
    }
    try {
      parse_candidate(candidate, {});
      ADD_FAILURE() << candidate << " was not refused";
    } catch (const std::invalid_argument& error) {
      const std::string text = error.what();
      EXPECT_NE(text.find("--candidates: \"" + candidate + "\" has a rate of B, but the scheme " + name +
                          " does not train both A and B; write SCHEME:RANK"),
                text.npos)
          << text;
    }
  }
}

TEST(Candidates, TakePartInRoundsOfHalves) {
  EXPECT_EQ(rounds_of(8), (std::vector<std::size_t>{8, 4, 2}));
  EXPECT_EQ(rounds_of(5), (std::vector<std::size_t>{5, 3, 2}));
  EXPECT_EQ(rounds_of(2), (std::vector<std::size_t>{2}));
}

// Fewer parameters count too: what no smaller one beats continues before what has a lower loss.
TEST(Candidates, OfTheFrontierGoOn) {
  const std::vector<Candidate> all = {candidate("large", 1000, {1.0}), candidate("larger", 1100, {1.1}),
                                      candidate("small", 10, {2.0}), candidate("middle", 500, {2.5})};
  EXPECT_EQ(survivors(all, 2), (std::vector<std::size_t>{0, 2}));
  EXPECT_EQ(survivors(all, 3), (std::vector<std::size_t>{0, 1, 2}));
  std::vector<Candidate> diverged = all;
  diverged[0].diverged = true;
  EXPECT_EQ(survivors(diverged, 2), (std::vector<std::size_t>{1, 2}));
}

// Each is better than the smaller ones, so that all are on the frontier: by loss alone the small ones would
// never reach the end.
TEST(Candidates, OfALargeFrontierLieEvenly) {
  const std::vector<Candidate> all = {candidate("10", 10, {2.0}), candidate("20", 20, {1.9}),
                                      candidate("100", 100, {1.5}), candidate("900", 900, {1.2}),
                                      candidate("1000", 1000, {1.1})};
  EXPECT_EQ(survivors(all, 3), (std::vector<std::size_t>{4, 2, 0}));
  EXPECT_EQ(survivors(all, 2), (std::vector<std::size_t>{4, 0}));
}

// SCHEME:RANK:RATE: one size with several rates, in whatever order they are given.
TEST(Candidates, OfEqualSizesTheBetterIsTaken) {
  const std::vector<double> weights(4, 1.0);
  const Candidate bad = candidate("lora:1:1", 10, {2.0, 2.1, 1.9, 2.0}),
                  good = candidate("lora:1:0.01", 10, {1.0, 1.1, 0.9, 1.01});
  for (const std::vector<Candidate>& all : {std::vector{bad, good}, std::vector{good, bad}}) {
    const std::string text = advice(all, weights);
    EXPECT_NE(text.find("Take lora:1:0.01 (10 parameters, loss 1.0025)."), text.npos) << text;
    EXPECT_NE(text.find("lora:1:1 has as many parameters and is worse"), text.npos) << text;
  }
}

// By hand: differences 1, 2, 3 of equal weight have the mean 2 and the standard error sqrt(1 / 3).
TEST(Candidates, DifferInPairs) {
  const std::vector<double> weights = {2, 2, 2};
  const PairedDifference difference =
      paired_difference(candidate("a", 1, {2, 4, 6}), candidate("b", 1, {1, 2, 3}), weights);
  EXPECT_NEAR(difference.mean, 2, 1e-14);
  EXPECT_NEAR(difference.error, std::sqrt(1.0 / 3), 1e-14);
  EXPECT_TRUE(difference.is_clear());
  EXPECT_FALSE(
      paired_difference(candidate("a", 1, {2}), candidate("b", 1, {1}), std::vector<double>{1}).is_clear());
}

TEST(Candidates, AreRecommendedWhereTheEvidenceIsClear) {
  const std::vector<double> weights(4, 1.0);
  const std::vector<Candidate> all = {
      candidate("small", 10, {2.0, 2.1, 1.9, 2.0}), candidate("large", 1000, {1.0, 1.1, 0.9, 1.01}),
      candidate("noisy", 2000, {0.1, 1.9, 1.0, 0.9}), candidate("dropped", 50, {0.1, 0.1, 0.1, 0.1}, 3)};
  const std::string text = advice(all, weights);
  EXPECT_NE(text.find("Take small (10 parameters"), std::string::npos) << text;
  EXPECT_NE(text.find("or large if 1000 parameters"), std::string::npos) << text;
  EXPECT_NE(text.find("large and noisy differ by"), std::string::npos) << text;
  EXPECT_EQ(text.find("dropped"), std::string::npos) << text;
  EXPECT_NE(text.find("4 validation examples are few"), std::string::npos) << text;
}

}  // namespace
}  // namespace finetune
