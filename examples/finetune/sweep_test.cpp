#include "sweep.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "test_folder.hpp"

namespace finetune {
namespace {

// A loss whose optimum lies where rate = 10^-2 and the rate of u, v = 10^-1.
double made_up_loss(const Rates& rates) {
  const double a = std::log10(rates.rate) + 2, b = std::log10(rates.rate * rates.uv_multiple) + 1;
  return 2 + a * a + (rates.uv_multiple == 1 ? 0 : b * b);
}

TEST(Sweep, HasASecondRateWhereUAndVAreTrainedBesideAOrB) {
  EXPECT_TRUE(has_uv_rate({"tl6", 4}));
  EXPECT_FALSE(has_uv_rate({"lora", 4}));
  EXPECT_FALSE(has_uv_rate({"vera", 4}));
  EXPECT_FALSE(has_uv_rate({"full", 0}));
}

TEST(Sweep, SkipsFinishedRunsWhenItIsResumed) {
  const TestFolder folder;
  const auto path = folder.path() / "sweep.csv";
  Settings settings;
  settings.seeds = {1, 2};
  settings.rates = {{"tl6", {1e-3, 1e1}}, {"lora", {1e-1, 1}}};
  const auto sweep_all = [&](int interrupt_after, int& runs) {
    SweepLog log(path, "id");
    std::vector<SweepResult> results;
    for (const Contender& contender : {Contender{"lora", 4}, Contender{"tl6", 4}}) {
      results.push_back(sweep_contender(settings, contender, log,
                                        [&](const Contender& one, std::uint64_t seed, const Rates& rates) {
                                          if (runs == interrupt_after)
                                            throw std::runtime_error("the machine stopped");
                                          ++runs;
                                          const double loss = made_up_loss(rates);
                                          log.add(one, seed, rates, loss, TrainingResult());
                                          return loss;
                                        }));
    }
    return results;
  };

  int whole = 0;
  const std::vector<SweepResult> expected = sweep_all(-1, whole);
  EXPECT_TRUE(expected[0].search.interior);
  EXPECT_TRUE(expected[1].search.interior);
  EXPECT_NEAR(expected[0].rates.rate, 1e-2, 1e-9);
  EXPECT_NEAR(expected[1].rates.rate, 1e-2, 1e-9);
  EXPECT_NEAR(expected[1].rates.uv_multiple, 10, 1e-6);

  int again = 0;  // everything is there
  EXPECT_EQ(sweep_all(-1, again)[1].rates, expected[1].rates);
  EXPECT_EQ(again, 0);

  std::filesystem::remove(path);
  int first = 0, second = 0;
  EXPECT_THROW(sweep_all(7, first), std::runtime_error);
  EXPECT_EQ(first, 7);
  EXPECT_EQ(sweep_all(-1, second)[1].rates, expected[1].rates);
  EXPECT_EQ(first + second, whole);
}

TEST(SweepLog, KeepsSettingsApartAndRemembersDivergence) {
  const TestFolder folder;
  const auto path = folder.path() / "sweep.csv";
  SweepLog(path, "one")
      .add({"lora", 4}, 1, {1e-2, 1}, std::numeric_limits<double>::infinity(), TrainingResult());
  EXPECT_FALSE(SweepLog(path, "two").find({"lora", 4}, 1, {1e-2, 1}));
  EXPECT_FALSE(SweepLog(path, "one").find({"lora", 4}, 2, {1e-2, 1}));
  EXPECT_EQ(SweepLog(path, "one").find({"lora", 4}, 1, {1e-2, 1}), std::numeric_limits<double>::infinity());
}

TEST(SweepTable, SaysWhereNoOptimumWasFound) {
  SweepResult result{{"tl6", 4}, {1e-2, 10}, {{-8, 4}, 2.0, false, 80}};
  EXPECT_NE(sweep_table({result}).find("NOT INTERIOR"), std::string::npos);
  result.search.interior = true;
  EXPECT_EQ(sweep_table({result}).find("NOT INTERIOR"), std::string::npos);
}

}  // namespace
}  // namespace finetune
