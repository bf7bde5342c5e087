// Random bits: the same on every compiler.
#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <tiedlora/views/random_bits.hpp>

namespace tiedlora_test {
namespace {

using namespace tiedlora;

TEST(RandomBits, MixIsSplitMix64) {
  // The first outputs of the published generator (state 0, then state 1234567).
  EXPECT_EQ(detail::mix(0), 0xe220a8397b1dcdafu);
  EXPECT_EQ(detail::mix(0x9e3779b97f4a7c15u), 0x6e789e6aa1b965f4u);
  EXPECT_EQ(detail::mix(1234567), 6457827717110365317u);
}

TEST(RandomBits, PinnedValue) {
  EXPECT_EQ(detail::random_bits(1, 2), 13608149317741381227u);
  static_assert(detail::random_bits(1, 2) == 13608149317741381227u);
}

TEST(RandomBits, OneBitOfKeyOrCounterChangesHalfOfThem) {
  // 64 independent bits of probability 1/2 for each of 128 changes: 4096 ± 6 √2048.
  int changed = 0;
  for (int bit = 0; bit < 64; ++bit) {
    const std::uint64_t flip = std::uint64_t{1} << bit;
    changed += std::popcount(detail::random_bits(7, 9) ^ detail::random_bits(7 ^ flip, 9));
    changed += std::popcount(detail::random_bits(7, 9) ^ detail::random_bits(7, 9 ^ flip));
  }
  EXPECT_NEAR(changed, 4096, 272);
}

}  // namespace
}  // namespace tiedlora_test
