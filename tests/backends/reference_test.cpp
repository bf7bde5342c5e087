// The formulas as loops, on values that can be followed by hand: all are small integers, and exact.
#include <gtest/gtest.h>

#include <tiedlora/backends/reference.hpp>

#include "support/dice.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

// Rank 2, 3 → 2. A = [1 2 3; 4 5 6], B = [1 3; 2 4], u = (2, 3), v = (5, 7), s = 2.
struct ByHand {
  float A[6] = {1, 2, 3, 4, 5, 6}, B[4] = {1, 2, 3, 4}, u[2] = {2, 3}, v[2] = {5, 7};
  Factors<const float> f = {.A = A,
                            .a_stride = 3,
                            .B = B,
                            .b_stride = 2,
                            .u = u,
                            .v = v,
                            .scaling = 2,
                            .rank = 2,
                            .in_features = 3,
                            .out_features = 2};
};
template <class T, std::size_t n>
Tokens<T> token(T (&numbers)[n]) {
  return {numbers, static_cast<Index>(n), 1, static_cast<Index>(n)};
}

TEST(Reference, ShrinkIsATimesX) {
  const ByHand hand;
  const float x[] = {1, 0, -1};
  float h[] = {9, 9};
  ReferenceBackend().shrink(hand.f, token(x), token(h), {});
  EXPECT_EQ(h[0], -2);
  EXPECT_EQ(h[1], -2);
}

TEST(Reference, ExpandAddsToY) {
  const ByHand hand;
  const float h[] = {1, -1};
  // B (u ∘ h) = 2 (1, 2) - 3 (3, 4) = (-7, -8); times v: (-35, -56); times 2 · 0.5.
  float y[] = {100, 100};
  ReferenceBackend().expand(hand.f, token(h), token(y), {.scale = 0.5});
  EXPECT_EQ(y[0], 65);
  EXPECT_EQ(y[1], 44);
  ReferenceBackend().expand(hand.f, token(h), token(y), {.scale = 0.5, .overwrite = true});
  EXPECT_EQ(y[0], -35);
  EXPECT_EQ(y[1], -56);
}

TEST(Reference, ExpandBackward) {
  const ByHand hand;
  const float h[] = {1, -1}, dy[] = {1, 1};
  float dh[] = {9, 9}, dB[4] = {}, du[2] = {}, dv[2] = {};
  const Factors<float> gradient = {.B = dB, .b_stride = 2, .u = du, .v = dv};
  ReferenceBackend().expand_backward(hand.f, token(h), token(dy), gradient, token(dh), {});
  // e = 2 v ∘ dy = (10, 14); d = Bᵀ e = (38, 86); u ∘ h = (2, -3).
  EXPECT_EQ(dh[0], 2 * 38);
  EXPECT_EQ(dh[1], 3 * 86);
  EXPECT_EQ(du[0], 38);
  EXPECT_EQ(du[1], -86);
  EXPECT_EQ(dB[0], 20);
  EXPECT_EQ(dB[1], 28);
  EXPECT_EQ(dB[2], -30);
  EXPECT_EQ(dB[3], -42);
  EXPECT_EQ(dv[0], 2 * -7);
  EXPECT_EQ(dv[1], 2 * -8);
}

TEST(Reference, ShrinkBackward) {
  const ByHand hand;
  const float x[] = {1, 0, -1}, dh[] = {2, -1};
  float dA[6] = {}, dx[] = {10, 10, 10};
  ReferenceBackend().shrink_backward(hand.f, token(x), token(dh), {.A = dA, .a_stride = 3}, token(dx), {});
  const float expected_dA[] = {2, 0, -2, -1, 0, 1}, expected_dx[] = {10 - 2, 10 - 1, 10};
  for (int i = 0; i < 6; ++i) EXPECT_EQ(dA[i], expected_dA[i]);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(dx[i], expected_dx[i]);
}

TEST(Reference, TokensAtOnceHaveTheBitsOfTokensAlone) {
  const ByHand hand;
  Dice dice(1);
  const Matrix<float> x = dice.matrix<float>(3, 8);
  Matrix<float> together(2, 8), alone(2, 8);
  ReferenceBackend().shrink(hand.f, Tokens<const float>{x.data(), 3, 8, 3},
                            Tokens<float>{together.data(), 2, 8, 2}, {});
  for (Index t = 0; t < 8; ++t)
    ReferenceBackend().shrink(hand.f, Tokens<const float>{x.data() + 3 * t, 3, 1, 3},
                              Tokens<float>{alone.data() + 2 * t, 2, 1, 2}, {});
  EXPECT_EQ(together, alone);
}

TEST(Reference, SumsLongerThanABlockOfFeatures) {
  constexpr Index n = 3 * reference::block_features + 5;
  const std::vector<double> ones(n, 1.0);
  const Factors<const double> f = {.A = ones.data(), .a_stride = n, .rank = 1, .in_features = n};
  double h = 0;
  ReferenceBackend().shrink(f, Tokens<const double>{ones.data(), n, 1, n}, Tokens<double>{&h, 1, 1, 1}, {});
  EXPECT_EQ(h, double{n});
}

}  // namespace
}  // namespace tiedlora_test
