// Operands with poison around them: every view shows the numbers that were set, and a stray write anywhere
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

constexpr View views[] = {View::dense, View::padded, View::gathered, View::pointers};

Matrix numbered(Index rows, Index columns) {
  Matrix m(rows, columns);
  for (Index t = 0; t < columns; ++t)
    for (Index i = 0; i < rows; ++i) m(i, t) = static_cast<double>(1 + i + 10 * t);
  return m;
}

TYPED_TEST(GuardedMemoryTest, EveryViewShowsWhatWasSet) {
  for (const View view : views) {
    GuardedRows<TypeParam> rows(this->memory, 5, 4, view, 8, this->dice);
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
    GuardedRows<TypeParam> rows(this->memory, 5, 4, view, 8, this->dice);
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
    for (const Index place : {-8, -1, 5}) {  // before a token, and behind one
      GuardedRows<TypeParam> rows(this->memory, 5, 1, view, 8, this->dice);
      rows.set(numbered(5, 1));
      rows.tokens()[0][place] = TypeParam(0);
      rows.fetch();
      EXPECT_FALSE(rows.nothing_else_written()) << place;
    }
  }
}

TYPED_TEST(GuardedMemoryTest, PoisonSpoilsEverySum) {
  const double sum = 1 + 0 * static_cast<double>(poison<TypeParam>());
  EXPECT_NE(sum, sum);
}

}  // namespace
}  // namespace tiedlora_test
