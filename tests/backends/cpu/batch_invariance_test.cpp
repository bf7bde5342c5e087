// A forward of T tokens gives, bit for bit, what T forwards of one token give: whoever is served beside a
// request does not change its answer.
#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>

#include "support/bits.hpp"
#include "support/deck.hpp"
#include "support/module_run.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using Eigen::bfloat16;
using Eigen::half;

// Against parts of `part` tokens, and two of other sizes: other numbers of tokens, other places.
template <class P, class X, class Y>
void expect_invariance(ModuleRun<P, X, Y>& run, Index part = 1) {
  SCOPED_TRACE(run.text);
  using Acc = accumulator_t<P>;
  const auto f = run.factors();
  Matrix<Y> y = run.y, y_without_h = run.y;
  Matrix<Acc> h(f.rank, run.count);
  forward(f, run.x, y, h, run.options);
  forward(f, run.x, y_without_h, run.options);
  ASSERT_TRUE(same_bits(y_without_h, y));
  const auto expect_part = [&](Index first, Index count) {
    SCOPED_TRACE(testing::Message() << count << " tokens from " << first);
    const CallOptions options = [&] {
      CallOptions o = run.options;
      o.token_scale += first;
      o.dropout.first_token += first;
      return o;
    }();
    Matrix<Y> y_part = run.y.middleCols(first, count);
    Matrix<Acc> h_part(f.rank, count);
    forward(f, run.x.middleCols(first, count), y_part, h_part, options);
    ASSERT_TRUE(same_bits(h_part, Matrix<Acc>(h.middleCols(first, count))));
    ASSERT_TRUE(same_bits(y_part, Matrix<Y>(y.middleCols(first, count))));
  };
  for (Index t = 0; t < run.count && !testing::Test::HasFailure(); t += part)
    expect_part(t, std::min(part, run.count - t));
  const Index cut = run.count / 3;
  expect_part(0, cut), expect_part(cut, run.count - cut);
}

template <class P, class X, class Y>
void sweep(std::uint64_t seed) {
  std::cout << "seed " << seed << ", for " << kernel_isa() << std::endl;
  Dice dice(seed);
  Deck<Index> in(widths()), out(widths()), tokens(numbers(1, 40));
  Deck<Index> ranks(numbers(1, 17) +
                    std::vector<Index>{24, 32, 33, 48, 63, 64, 65, 100, 127, 128, 129, 255, 256, 257, 300});
  Deck<std::string> present(present_factors);
  for (int n = 0; n < 80 && !testing::Test::HasFailure(); ++n) {
    const std::string factors = present.draw(dice);
    ModuleRun<P, X, Y> run(
        {.in = in.draw(dice), .out = out.draw(dice), .rank = ranks.draw(dice), .present = factors},
        tokens.draw(dice), ++seed);
    if (dice.integer(0, 9) == 0) run.options.dropout = {.probability = 0.4, .seed = seed, .first_token = 3};
    expect_invariance(run);
  }
}

// All pairs of parameters and x, and of parameters and y.
TEST(BatchInvariance, FloatParameters) {
  sweep<float, float, float>(1'000);
  sweep<float, half, bfloat16>(2'000);
  sweep<float, bfloat16, half>(3'000);
}
TEST(BatchInvariance, HalfParameters) {
  sweep<half, float, bfloat16>(4'000);
  sweep<half, half, half>(5'000);
  sweep<half, bfloat16, float>(6'000);
}
TEST(BatchInvariance, Bfloat16Parameters) {
  sweep<bfloat16, float, half>(7'000);
  sweep<bfloat16, half, float>(8'000);
  sweep<bfloat16, bfloat16, bfloat16>(9'000);
}
TEST(BatchInvariance, Double) { sweep<double, double, double>(10'000); }

template <class P, class X>
void expect_invariance_of(const OneModule& what, Index tokens, std::uint64_t seed, Index part = 1) {
  ModuleRun<P, X, X> run(what, tokens, seed);
  expect_invariance(run, part);
}

TEST(BatchInvariance, BeyondTheBlocksOfFeaturesRanksAndTokens) {
  std::uint64_t seed = 11'000;
  for (const Index tokens : {2, 9, 35}) {
    expect_invariance_of<float, float>({.in = 1100, .out = 1300, .rank = 64}, tokens, ++seed);
    expect_invariance_of<float, float>({.in = 4100, .out = 9, .rank = 3}, tokens, ++seed);
    expect_invariance_of<float, float>({.in = 9, .out = 4100, .rank = 3}, tokens, ++seed);
    expect_invariance_of<bfloat16, bfloat16>({.in = 4097, .out = 4095, .rank = 5}, tokens, ++seed);
    expect_invariance_of<float, float>({.in = 11, .out = 13, .rank = 512}, tokens, ++seed);
    expect_invariance_of<float, float>({.in = 11, .out = 13, .rank = 700}, tokens, ++seed);
  }
  expect_invariance_of<float, float>({.in = 10, .out = 12, .rank = 8}, 600, ++seed);
  expect_invariance_of<half, half>({.in = 10, .out = 12, .rank = 8}, 600, ++seed);
}

// More than kernels::far_bytes of x and y.
TEST(BatchInvariance, TokensFromBeyondTheCaches) {
  std::uint64_t seed = 12'000;
  for (const Index rank : {1, 3, 9}) {
    expect_invariance_of<float, float>({.in = 600, .out = 577, .rank = rank}, 1900, ++seed, 97);
    expect_invariance_of<float, float>({.in = 600, .out = 600, .rank = rank}, 7100, ++seed, 701);
    expect_invariance_of<float, float>({.in = 1024, .out = 1024, .rank = rank}, 1100, ++seed, 97);
    expect_invariance_of<bfloat16, bfloat16>({.in = 1300, .out = 1024, .rank = rank}, 2100, ++seed, 97);
  }
}

// Of the second stage of backward: dx is the same bits for T tokens at once and one by one, with A trained
// (where a single token has a pass of its own) and frozen.
template <class P, class X>
void expect_invariance_of_dx(Index in, Index rank, bool overwrite, std::uint64_t seed) {
  SCOPED_TRACE(testing::Message() << in << " features, rank " << rank << ", seed " << seed);
  const Index count = 7;
  Dice dice(seed);
  const auto draw = [&]<class T>(Index rows, Index columns, T) {
    return Matrix<T>(dice.matrix<double>(rows, columns).template cast<T>());
  };
  const Matrix<P> A = draw(in, rank, P()), B = draw(3, rank, P());
  const Matrix<X> x = draw(in, count, X()), dx = draw(in, count, X());
  const Matrix<float> dh = draw(rank, count, float());
  const Factors<const P> f = {A.data(), in, B.data(), 3, nullptr, nullptr, 1, rank, in, 3, 0, "m"};
  Matrix<float> dA = Matrix<float>::Zero(in, rank);
  Factors<float> trained = {dA.data(), in, nullptr, 3, nullptr, nullptr, 1, rank, in, 3, 0, "m"},
                 frozen = trained;
  frozen.A = nullptr;
  const CallOptions options = {.overwrite = overwrite};
  Matrix<X> at_once = dx;
  shrink_backward(f, x, dh, trained, at_once, options);
  for (const auto& gradients : {trained, frozen}) {
    Matrix<X> one_by_one = dx;
    for (Index t = 0; t < count; ++t)
      shrink_backward(f, x.middleCols(t, 1), dh.middleCols(t, 1), gradients, one_by_one.middleCols(t, 1),
                      options);
    ASSERT_TRUE(same_bits(one_by_one, at_once)) << (gradients.A ? "A trained" : "A frozen");
  }
}

TEST(BatchInvariance, DxOfTheSecondHalfOfBackward) {
  std::uint64_t seed = 13'000;
  for (const Index rank : {1, 2, 3, 4, 5, 8, 31, 32, 33, 256, 257})
    for (const Index in : {5, 64, 577, 2050})
      for (const bool overwrite : {false, true}) {
        expect_invariance_of_dx<float, float>(in, rank, overwrite, ++seed);
        expect_invariance_of_dx<bfloat16, half>(in, rank, overwrite, ++seed);
      }
}

}  // namespace
}  // namespace tiedlora_test
