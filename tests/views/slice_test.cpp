// How slices share the work of a stage: all of it, once, in order.
#include <gtest/gtest.h>

#include <tiedlora/views/slice.hpp>

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using detail::Range;

template <class Part>
void expect_cover(Index n, Index unit, Index nth, const Part& part) {
  Index end = 0, smallest = n, largest = 0;
  for (Index ith = 0; ith < nth; ++ith) {
    const Range range = part(Slice{ith, nth});
    EXPECT_EQ(range.begin, end) << n << " in " << nth;
    EXPECT_TRUE(range.begin % unit == 0 || range.begin == n);
    end = range.end;
    smallest = std::min(smallest, range.end - range.begin),
    largest = std::max(largest, range.end - range.begin);
  }
  EXPECT_EQ(end, n) << n << " in " << nth;
  EXPECT_LE(largest - smallest, unit == 1 ? 1 : 2 * unit - 1) << n << " in " << nth;
}

TEST(Slice, PartsCoverAllThingsEvenly) {
  for (const Index n : {0, 1, 5, 16, 100})
    for (const Index nth : {1, 2, 3, 7, 30}) {
      expect_cover(n, 1, nth, [n](const Slice& slice) { return detail::part_of(n, slice); });
      expect_cover(n, 4, nth, [n](const Slice& slice) { return detail::part_in_units(n, 4, slice); });
      expect_cover(n, 32, nth, [n](const Slice& slice) { return detail::part_of_features(n, slice); });
    }
}

TEST(Slice, OfTheLargestNumbersDoNotOverflow) {
  const Index most = PTRDIFF_MAX;
  EXPECT_EQ(detail::part_of(most, {2, 3}).end, most);
}

TEST(Slice, ShrinkIsCutByTokensOrElseByFourRanks) {
  for (Index ith = 0; ith < 3; ++ith) {
    const auto many = detail::shares_of_shrink(30, 8, {ith, 3});
    EXPECT_EQ(many.tokens.begin, 10 * ith);
    EXPECT_EQ(many.tokens.end, 10 * ith + 10);
    EXPECT_EQ(many.ranks.end - many.ranks.begin, 8);
    const auto few = detail::shares_of_shrink(2, 12, {ith, 3});
    EXPECT_EQ(few.tokens.end - few.tokens.begin, 2);
    EXPECT_EQ(few.ranks.begin, 4 * ith);
    EXPECT_EQ(few.ranks.end, 4 * ith + 4);
  }
}

TEST(Slice, ExpandIsCutByFeaturesOrElseByTokens) {
  const auto few = detail::shares_of_expand(16, 96, {1, 3});
  EXPECT_EQ(few.tokens.end - few.tokens.begin, 16);
  EXPECT_EQ(few.features.begin, 32);
  EXPECT_EQ(few.features.end, 64);
  const auto many = detail::shares_of_expand(18, 96, {1, 3});
  EXPECT_EQ(many.tokens.begin, 6);
  EXPECT_EQ(many.tokens.end, 12);
  EXPECT_EQ(many.features.end - many.features.begin, 96);
}

}  // namespace
}  // namespace tiedlora_test
