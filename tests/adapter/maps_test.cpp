// Factors as Eigen maps: A by rows, B by columns, strides and absent factors.
#include <gtest/gtest.h>

#include <tiedlora/adapter/maps.hpp>

#include "support/dice.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

// Rank 2, 3 → 4, in rows of 5 and columns of 6 values: 0, 1, … and 100, 101, ….
struct Numbers {
  Numbers() {
    for (int i = 0; i < 12; ++i) a[i] = static_cast<float>(i), b[i] = static_cast<float>(100 + i);
  }
  Factors<float> factors() {
    return {.A = a,
            .a_stride = 5,
            .B = b,
            .b_stride = 6,
            .u = u,
            .v = v,
            .rank = 2,
            .in_features = 3,
            .out_features = 4};
  }
  float a[12], b[12], u[2] = {1, 2}, v[4] = {3, 4, 5, 6};
};

TEST(Maps, HonourStrides) {
  Numbers numbers;
  const Factors<float> f = numbers.factors();
  Matrix<float> A(2, 3), B(4, 2);
  A << 0, 1, 2, 5, 6, 7;
  B << 100, 106, 101, 107, 102, 108, 103, 109;
  EXPECT_EQ(Matrix<float>(map_A(f)), A);
  EXPECT_EQ(Matrix<float>(map_B(f)), B);
  EXPECT_EQ(map_u(f)(1), 2);
  EXPECT_EQ(map_v(f)(3), 6);
}

TEST(Maps, WriteThrough) {
  Numbers numbers;
  const Factors<float> f = numbers.factors();
  map_A(f)(1, 2) = -1;
  map_B(f)(3, 1) = -2;
  map_u(f)(0) = -3;
  EXPECT_EQ(numbers.a[7], -1);
  EXPECT_EQ(numbers.b[9], -2);
  EXPECT_EQ(numbers.u[0], -3);
  static_assert(!std::is_assignable_v<decltype(map_A(Factors<const float>())(0, 0)), float>);
}

TEST(Maps, AreEmptyWhereAFactorIsAbsent) {
  const Factors<float> f = {.rank = 2, .in_features = 3, .out_features = 4};
  EXPECT_EQ(map_A(f).size(), 0);
  EXPECT_EQ(map_B(f).size(), 0);
  EXPECT_EQ(map_u(f).size(), 0);
  EXPECT_EQ(map_v(f).size(), 0);
}

}  // namespace
}  // namespace tiedlora_test
