// The bounds that every comparison of kernels rests on: no right sum misses them, a wrong one does.
#include <gtest/gtest.h>

#include <cmath>
#include <iostream>
#include <tiedlora/eigen.hpp>
#include <tiedlora/verify/tolerance.hpp>
#include <vector>

#include "support/dice.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora::verify;
using tiedlora::Index;

TEST(Tolerance, ARoundingIsHalfTheDistanceOfNeighbours) {
  EXPECT_EQ(unit_roundoff<float>(), 0x1p-24);
  EXPECT_EQ(unit_roundoff<double>(), 0x1p-53);
  // 1 + u is halfway to the next number and rounds to even, back to 1; a little more does not.
  EXPECT_EQ(static_cast<float>(Eigen::half(static_cast<float>(1 + unit_roundoff<Eigen::half>()))), 1);
  EXPECT_GT(static_cast<float>(Eigen::half(static_cast<float>(1 + 1.01 * unit_roundoff<Eigen::half>()))), 1);
  EXPECT_EQ(static_cast<float>(Eigen::bfloat16(static_cast<float>(1 + unit_roundoff<Eigen::bfloat16>()))), 1);
  EXPECT_GT(
      static_cast<float>(Eigen::bfloat16(static_cast<float>(1 + 1.01 * unit_roundoff<Eigen::bfloat16>()))),
      1);
  EXPECT_EQ(static_cast<float>(Eigen::half(static_cast<float>(smallest_roundoff<Eigen::half>()))), 0);
}

TEST(Tolerance, TheWorstCaseOfRoundingsIsReachedAndNotPassed) {
  // Each sum of 1 + u, u, … loses u: n losses for n additions, just what γ_n allows.
  float sum = 1;
  const float u = 0x1p-24f;
  for (int i = 0; i < 1000; ++i) sum += u;
  const double error = 1000 * static_cast<double>(u);
  EXPECT_EQ(sum, 1);
  EXPECT_LE(error, rounding_bound<float>(1000, 1 + error));
  EXPECT_GT(error, rounding_bound<float>(900, 1 + error));
  EXPECT_LE(random_rounding_bound<float>(1000, 1), rounding_bound<float>(1000, 1));
}

TEST(Tolerance, RandomSumsStayWithinTheRandomBoundAndALostTermDoesNot) {
  Dice dice(1);
  std::cout << "seed 1\n";
  for (const Index n : {4, 100, 4000}) {
    for (int round = 0; round < 100; ++round) {
      float sum = 0;
      double exact = 0, magnitude = 0, largest = 0;
      for (Index i = 0; i < n; ++i) {
        const auto a = static_cast<float>(dice.uniform()), b = static_cast<float>(dice.uniform());
        const double term = static_cast<double>(a) * static_cast<double>(b);
        sum += a * b;
        exact += term, magnitude += std::abs(term), largest = std::max(largest, std::abs(term));
      }
      const auto bound = Bound::of<float, float>(n + 1);
      EXPECT_LE(std::abs(static_cast<double>(sum) - exact), bound(exact, magnitude));
      EXPECT_GT(largest, bound(exact, magnitude));
    }
  }
}

TEST(Tolerance, StoringInANarrowTypeRoundsOnceMore) {
  const auto in_float = Bound::of<float, float>(10), in_half = Bound::of<float, Eigen::half>(10);
  EXPECT_EQ(in_float.stored, 0);
  EXPECT_EQ(in_half.stored, 0x1p-11);
  EXPECT_EQ(in_half(0, 0), 0x1p-25);  // subnormal numbers have a fixed distance
  EXPECT_GE(in_half(3, 4), 3 * 0x1p-11 + in_float(3, 4));
}

}  // namespace
}  // namespace tiedlora_test
