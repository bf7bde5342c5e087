// Operands with poison around them: every view shows the values that were set, and a stray write anywhere
// else shows.
#include <gtest/gtest.h>

#include <iostream>
#include <tiedlora/eigen.hpp>
#include <tiedlora/verify/guarded_memory.hpp>

namespace tiedlora_test {
namespace {

using namespace tiedlora::verify;
using tiedlora::Index;
using tiedlora::Tokens;

struct Host {};  // a backend without a memory of its own

template <class T>
class GuardedMemoryTest : public ::testing::Test {
 protected:
  GuardedMemoryTest() { std::cout << "seed 7\n"; }
  const Host host = {};
  const Memory memory = memory_of(host);
  Dice dice{7};
};
using Types = ::testing::Types<float, double, Eigen::half, Eigen::bfloat16>;
TYPED_TEST_SUITE(GuardedMemoryTest, Types);

constexpr View views[] = {View::dense, View::padded, View::gathered, View::pointers, View::cut_pointers};

Matrix numbered(Index rows, Index columns) {
  Matrix m(rows, columns);
  for (Index t = 0; t < columns; ++t)
    for (Index i = 0; i < rows; ++i) m(i, t) = static_cast<double>(1 + i + 10 * t);
  return m;
}

TYPED_TEST(GuardedMemoryTest, EveryViewShowsWhatWasSet) {
  for (const View view : views) {
    GuardedRows<TypeParam> rows(this->memory, 5, 4, view, {.margin = 8}, this->dice);
    rows.set(numbered(5, 4));
    const Tokens<TypeParam> tokens = rows.tokens();
    EXPECT_EQ(tokens.width, 5);
    EXPECT_EQ(tokens.count, 4);
    for (Index t = 0; t < 4; ++t)
      for (Index i = 0; i < 5; ++i)
        EXPECT_EQ(static_cast<double>(tokens[t][i]), static_cast<double>(1 + i + 10 * t));
    rows.fetch();
    EXPECT_TRUE(rows.unchanged());
    EXPECT_TRUE(rows.nothing_else_written());
  }
}

TYPED_TEST(GuardedMemoryTest, WritesIntoTheRowsAreNoStrays) {
  for (const View view : views) {
    GuardedRows<TypeParam> rows(this->memory, 5, 4, view, {.margin = 8}, this->dice);
    rows.set(numbered(5, 4));
    rows.tokens()[3][4] = TypeParam(0);
    rows.fetch();
    EXPECT_FALSE(rows.unchanged());
    EXPECT_TRUE(rows.nothing_else_written());
    EXPECT_EQ(rows.values()(4, 3), 0);
    rows.restore();
    rows.fetch();
    EXPECT_TRUE(rows.unchanged());
  }
}

TYPED_TEST(GuardedMemoryTest, StrayWritesShow) {
  for (const View view : views) {
    for (const Index place : {-8, -1, 5}) {  // before a token, and after one
      GuardedRows<TypeParam> rows(this->memory, 5, 1, view, {.margin = 8}, this->dice);
      rows.set(numbered(5, 1));
      rows.tokens()[0][place] = TypeParam(0);
      rows.fetch();
      EXPECT_FALSE(rows.nothing_else_written()) << place;
    }
  }
}

TYPED_TEST(GuardedMemoryTest, AStrayWriteIsSaidWhere) {
  const auto stray_at = [&](Index place) {
    GuardedRows<TypeParam> rows(this->memory, 5, 3, View::padded, {.margin = 16}, this->dice);
    rows.tokens()[1][place] = TypeParam(0);
    rows.fetch();
    return rows.first_stray();
  };
  EXPECT_EQ(stray_at(4), "");
  EXPECT_EQ(stray_at(5), "1 after the end of slot 1, in the gap before the next");
  GuardedRows<TypeParam> rows(this->memory, 5, 3, View::dense, {.margin = 16}, this->dice);
  rows.data()[16] = TypeParam(0);
  rows.fetch();
  EXPECT_EQ(rows.first_stray(), "2 after its last element");
  rows.restore();
  rows.data()[-3] = TypeParam(0);
  rows.fetch();
  EXPECT_EQ(rows.first_stray(), "3 before its first element");
}

TYPED_TEST(GuardedMemoryTest, WhatWasNotWrittenIsTold) {
  for (const View view : views) {
    GuardedRows<TypeParam> rows(this->memory, 5, 2, view, {.margin = 16}, this->dice);
    rows.tokens()[1][2] = TypeParam(1);
    rows.fetch();
    for (Index i = 0; i < 5; ++i) {
      EXPECT_TRUE(rows.is_unwritten(i, 0)) << i;
      EXPECT_EQ(rows.is_unwritten(i, 1), i != 2) << i;
    }
    // Read, and stored again: no longer that.
    TypeParam* const y = rows.tokens()[0];
    y[0] = static_cast<TypeParam>(static_cast<float>(y[0]) + 1);
    rows.fetch();
    EXPECT_FALSE(rows.is_unwritten(0, 0));
    EXPECT_NE(rows.values()(0, 0), rows.values()(0, 0));
  }
}

TYPED_TEST(GuardedMemoryTest, AWrongStrideLeadsToPoison) {
  GuardedRows<TypeParam> rows(this->memory, 5, 3, View::dense, {.margin = 16, .rows = 7, .stride = 100},
                              this->dice);
  rows.data()[6 * 100 + 99] = TypeParam(0);
  rows.fetch();
  EXPECT_FALSE(rows.nothing_else_written());
}

TYPED_TEST(GuardedMemoryTest, PoisonSpoilsEverySum) {
  const double sum = 1 + 0 * static_cast<double>(Poison<TypeParam>::outside());
  EXPECT_NE(sum, sum);
}

}  // namespace
}  // namespace tiedlora_test
