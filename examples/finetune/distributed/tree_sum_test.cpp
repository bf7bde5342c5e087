// The order of additions; what several processes make of it is processes_check.cpp.
#include <gtest/gtest.h>

#include <vector>

#include "tree_sum.hpp"

namespace finetune {
namespace {

TEST(TreeSum, ConsecutiveBatchesAreSubtrees) {
  EXPECT_EQ(subtrees_of({0, 8}, 8), (std::vector<Subtree>{{0, 8}}));
  EXPECT_EQ(subtrees_of({0, 3}, 8), (std::vector<Subtree>{{0, 2}, {2, 1}}));
  EXPECT_EQ(subtrees_of({3, 8}, 8), (std::vector<Subtree>{{3, 1}, {4, 4}}));
  EXPECT_EQ(subtrees_of({1, 7}, 8), (std::vector<Subtree>{{1, 1}, {2, 2}, {4, 2}, {6, 1}}));
  EXPECT_EQ(subtrees_of({0, 5}, 5), (std::vector<Subtree>{{0, 8}}));
  EXPECT_EQ(subtrees_of({4, 5}, 5), (std::vector<Subtree>{{4, 4}}));  // which has no sibling on its way up
  EXPECT_EQ(subtrees_of({2, 2}, 4), std::vector<Subtree>{});
}

TEST(TreeSum, SharesCoverAllOnce) {
  for (const Index count : {0, 1, 2, 5, 16, 1000})
    for (const Index unit : {1, 16})
      for (int nth = 1; nth < 6; ++nth) {
        Index end = 0;
        for (int ith = 0; ith < nth; ++ith) {
          const Share share = share_of(count, ith, nth, unit);
          EXPECT_EQ(share.begin, end);
          end = share.end;
        }
        EXPECT_EQ(end, count);
      }
}

/// The sum of gradients of one element each.
float sum_of(const std::vector<float>& batches) {
  TreeSum sum(single_process());
  float gradient = 0;
  sum.step(std::ssize(batches), {&gradient, 1}, [&](Index i) {
    gradient += batches[static_cast<std::size_t>(i)];
    return 0.0;
  });
  return gradient;
}

TEST(TreeSum, AddsPairsFirst) {
  constexpr float big = 16777216, one = 1;  // 2²⁴ + 1 is not a float; it becomes 2²⁴
  EXPECT_EQ(sum_of({}), 0);
  EXPECT_EQ(sum_of({one}), 1);
  EXPECT_EQ(sum_of({big, one, one}), big);              // (big + 1) + 1
  EXPECT_EQ(sum_of({big, 0, one, one}), big + 2);       // (big + 0) + (1 + 1)
  EXPECT_EQ(sum_of({big, 0, one, one, one}), big + 4);  // and then the fifth, of which half an ulp counts
}

TEST(TreeSum, SaysItsMemory) {
  EXPECT_EQ(TreeSum::bytes(1000, 1, 1), 0);
  EXPECT_EQ(TreeSum::bytes(1000, 2, 1), 4000);      // the first waits for the second
  EXPECT_EQ(TreeSum::bytes(1000, 8, 1), 3 * 4000);  // one of each size wait
  EXPECT_EQ(TreeSum::bytes(1000, 2, 2), 2 * 4000);  // its own, and half of two
}

}  // namespace
}  // namespace finetune
