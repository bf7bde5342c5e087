// Random numbers: the same bits on every compiler, and distributed as they should be.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <set>
#include <tiedlora/adapter/random.hpp>

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using detail::normal, detail::random_bits, detail::random_key, detail::uniform;

constexpr std::uint64_t n = 200000;

TEST(Random, BitsDependOnKeyAndCounter) {
  std::set<std::uint64_t> seen;
  for (std::uint64_t key = 0; key < 100; ++key)
    for (std::uint64_t counter = 0; counter < 100; ++counter) seen.insert(random_bits(key, counter));
  EXPECT_EQ(seen.size(), 10000u);
  seen.clear();
  for (std::uint64_t seed = 0; seed < 20; ++seed)
    for (const FactorId id : all_factors)
      for (Index group = 0; group < 20; ++group) seen.insert(random_key(seed, id, group));
  EXPECT_EQ(seen.size(), 20u * 4 * 20);
}

// Moments of n independent draws lie within 6 standard deviations of their own: σ / √n for the mean, and for
// the mean square √(E x⁴ - (E x²)²) / √n.
TEST(Random, UniformFillsItsInterval) {
  double sum = 0, squares = 0, lowest = 1, highest = -1;
  for (std::uint64_t i = 0; i < n; ++i) {
    const double x = uniform(1, i);
    sum += x, squares += x * x, lowest = std::min(lowest, x), highest = std::max(highest, x);
  }
  const double root = std::sqrt(static_cast<double>(n)), count = static_cast<double>(n);
  EXPECT_NEAR(sum / count, 0, 6 * std::sqrt(1.0 / 3) / root);
  EXPECT_NEAR(squares / count, 1.0 / 3, 6 * std::sqrt(1.0 / 5 - 1.0 / 9) / root);
  EXPECT_GE(lowest, -1);
  EXPECT_LT(highest, 1);
  // The probability of missing a margin of 20 / n at an end is e^-10.
  EXPECT_LT(lowest, -1 + 20.0 / count);
  EXPECT_GT(highest, 1 - 20.0 / count);
}

TEST(Random, NormalHasTheMomentsOfTwelveUniforms) {
  double sum = 0, squares = 0, fourths = 0;
  for (std::uint64_t i = 0; i < n; ++i) {
    const double x = normal(2, i);
    ASSERT_LE(std::abs(x), 6);
    sum += x, squares += x * x, fourths += x * x * x * x;
  }
  const double root = std::sqrt(static_cast<double>(n)), count = static_cast<double>(n);
  EXPECT_NEAR(sum / count, 0, 6 / root);
  EXPECT_NEAR(squares / count, 1, 6 * std::sqrt(2.0) / root);
  // 3 - 6/5/12; the variance of x⁴ is below that for a normal x, 105 - 9.
  EXPECT_NEAR(fourths / count, 2.9, 6 * std::sqrt(96.0) / root);
}

TEST(Random, NeighboursAreIndependent) {
  // The mean product of two independent draws is 0 ± 1/√n (uniform: ± 1/3/√n).
  double uniforms = 0, normals = 0, keys = 0;
  for (std::uint64_t i = 0; i < n; ++i) {
    uniforms += uniform(3, i) * uniform(3, i + 1);
    normals += normal(3, i) * normal(3, i + 1);
    keys += uniform(3, i) * uniform(4, i);
  }
  const double root = std::sqrt(static_cast<double>(n)), count = static_cast<double>(n);
  EXPECT_NEAR(uniforms / count, 0, 2 / root);
  EXPECT_NEAR(normals / count, 0, 6 / root);
  EXPECT_NEAR(keys / count, 0, 2 / root);
}

TEST(Random, PinnedValues) {
  // From the definitions in integers of unlimited size; exact in double, so that any compiler and flags must
  // give them.
  EXPECT_EQ(uniform(1, 2), -0x1.0c98912da6340p-1);
  EXPECT_EQ(normal(1, 2), -0x1.95bf9f9800000p-1);
  EXPECT_EQ(random_key(1, FactorId::B, 2), 5706694046452267557u);
}

}  // namespace
}  // namespace tiedlora_test
