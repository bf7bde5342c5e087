// Every shape in float: tokens, ranks and widths around what tiles, vectors, panels and blocks hold.
#include <gtest/gtest.h>

#include "support/kernel_parity.hpp"

namespace tiedlora_test {
namespace {

using tiedlora::verify::ParityCase, tiedlora::verify::ParitySampler;

TEST(Shapes, EveryNumberOfTokensBesideEveryRank) {
  ParitySampler sampler(100'000, widths());
  std::vector<ParityCase> cases;
  for (Index tokens = 1; tokens <= 33; ++tokens)
    for (Index rank = 1; rank <= 17; ++rank)
      for (int n = 0; n < 2; ++n) cases.push_back(sampler.draw(tokens, rank));
  expect_parity<float>(cases);
}

TEST(Shapes, WideModules) {
  expect_parity<float>(rounds(ParitySampler(200'000, numbers(4095, 4097) + std::vector<Index>{5, 1100, 9000}),
                              {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 17, 33},
                              numbers(1, 9) + std::vector<Index>{16, 17, 64}, 2));
}

TEST(Shapes, LargeRanks) {
  expect_parity<float>(rounds(
      ParitySampler(300'000, numbers(1, 34) + std::vector<Index>{63, 64, 65, 127, 129, 300}), numbers(1, 33),
      numbers(63, 65) + numbers(127, 129) + numbers(255, 257) + numbers(511, 513) +
          std::vector<Index>{18, 24, 31, 32, 33, 48, 100, 300, 700},
      2));
}

TEST(Shapes, ManyTokens) {
  expect_parity<float>(
      rounds(ParitySampler(400'000, numbers(1, 18) + std::vector<Index>{31, 32, 33, 63, 64, 65, 127, 257}),
             numbers(63, 65) + numbers(127, 129) + numbers(255, 257) + numbers(511, 513) +
                 std::vector<Index>{48, 100, 300, 384, 600},
             numbers(1, 17), 3));
}

TEST(Shapes, LargeInEveryWay) {
  expect_parity<float>(rounds(ParitySampler(500'000, {1025, 1300}), {7, 130}, {64, 257}, 1));
}

// More than cpu::far_bytes of x and y.
TEST(Shapes, TokensFromBeyondTheCaches) {
  expect_parity<float>(rounds(ParitySampler(550'000, {600}), {1900, 7100}, {1, 2, 3, 8}, 1));
}

TEST(Shapes, NoTokens) {
  expect_parity<float>(rounds(ParitySampler(600'000, widths()), {0}, {1, 3, 8, 16}, 1));
}

TEST(Shapes, NoFeatures) {
  expect_parity<float>(rounds(ParitySampler(700'000, {0, 5}), {1, 2, 9, 40}, {1, 3, 8, 16}, 4));
}

}  // namespace
}  // namespace tiedlora_test
