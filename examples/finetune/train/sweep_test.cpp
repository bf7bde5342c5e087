// The search for learning rates.
#include <cmath>
#include <cstdlib>
#include <limits>
#include <set>

#include <gtest/gtest.h>
#include <finetune/test_folder.hpp>

#include "sweep.hpp"

namespace finetune {
namespace {

const auto never = [] { return false; };

TEST(QuarterDecades, AreExact) {
  EXPECT_EQ(to_quarter_decades(0.001), -12);
  EXPECT_DOUBLE_EQ(quarter_decades(-12), 0.001);
  for (int k = -20; k < 12; ++k) EXPECT_EQ(to_quarter_decades(quarter_decades(k)), k);
}

TEST(SearchGrid, FindsAnOptimumFarFromItsStart) {
  for (const int optimum : {-9, -1, 0, 1, 4, 13}) {
    const GridResult found =
        search_grid({0}, 100, [&](const GridPoint& p) { return double(std::abs(p[0] - optimum)); }, never);
    EXPECT_EQ(found.best, GridPoint{optimum});
    EXPECT_TRUE(found.interior);
  }
}

TEST(SearchGrid, FollowsAValleyAcrossTwoDimensions) {
  // Elongated along the diagonal, as a rate and a multiple of it make it.
  const auto valley = [](const GridPoint& p) {
    const double a = p[0] + p[1] - 3, b = p[0] - p[1] + 9;
    return a * a + 0.1 * b * b;
  };
  std::set<GridPoint> seen;
  std::size_t calls = 0;
  const GridResult found = search_grid(
      {0, 0}, 200,
      [&](const GridPoint& p) {
        ++calls;
        seen.insert(p);
        return valley(p);
      },
      never);
  EXPECT_EQ(found.best, (GridPoint{-3, 6}));
  EXPECT_TRUE(found.interior);
  EXPECT_EQ(calls, seen.size());  // nothing is evaluated twice
  EXPECT_EQ(found.evaluations, calls);
  // Interior: all eight neighbours were tried.
  for (const GridPoint& offset : neighbour_offsets(2))
    EXPECT_TRUE(seen.count({-3 + offset[0], 6 + offset[1]}));
}

TEST(SearchGrid, TreatsInfinityAsWorst) {
  const auto cliff = [](const GridPoint& p) {
    return p[0] > 2 ? std::numeric_limits<double>::infinity() : double(-p[0]);
  };
  EXPECT_EQ(search_grid({0}, 100, cliff, never).best, GridPoint{2});
}

TEST(SearchGrid, SaysWhenItEndedTooEarly) {
  const auto slope = [](const GridPoint& p) { return double(p[0]); };
  const GridResult found = search_grid({0}, 10, slope, never);
  EXPECT_FALSE(found.interior);
  EXPECT_LE(found.evaluations, 10u);
}

TEST(SearchGrid, DiscardsARunThatWasCutShort) {
  int calls = 0;
  const GridResult found = search_grid(
      {0}, 100, [&](const GridPoint&) { return ++calls == 3 ? -100.0 : 0.0; }, [&] { return calls >= 3; });
  EXPECT_FALSE(found.interior);
  EXPECT_EQ(found.score, 0);
  // The first: nothing is known.
  const GridResult none = search_grid({0}, 100, [](const GridPoint&) { return -100.0; }, [] { return true; });
  EXPECT_EQ(none.evaluations, 0u);
  EXPECT_GT(none.score, 0);
}

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
