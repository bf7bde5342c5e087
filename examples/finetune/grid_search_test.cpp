#include "grid_search.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <limits>
#include <set>

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
}

}  // namespace
}  // namespace finetune
