#include <gtest/gtest.h>

#include <cmath>
#include <tiedlora/adapter.hpp>
#include <tiedlora/ops.hpp>

#include "support/bits.hpp"
#include "support/one_module.hpp"
#include "support/reference.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

// With A = identity and x = 1, h = A (mask ∘ x) is the mask itself, features × tokens.
template <class T = float>
Matrix<T> mask_of(const Dropout& dropout, Index features, Index count) {
  Adapter<T> adapter(one_module_layout({.in = features, .out = 1, .rank = features}));
  adapter.A(0).setIdentity();
  const Matrix<T> x = Matrix<T>::Ones(features, count);
  Matrix<T> h(features, count);
  shrink(adapter.factors(0), x, h, {.dropout = dropout});
  return h;
}

Index count_zeros(const Matrix<float>& mask) { return (mask.array() == 0).count(); }

// Number of places where both drop or both keep.
Index agreements(const Matrix<float>& a, const Matrix<float>& b) {
  return ((a.array() == 0) == (b.array() == 0)).count();
}

// n independent events of probability p happen np ± 6 √(np(1-p)) times, except in one case in 5·10⁸.
void expect_binomial(Index happened, Index n, double p) {
  const double mean = static_cast<double>(n) * p;
  EXPECT_NEAR(static_cast<double>(happened), mean, 6 * std::sqrt(mean * (1 - p)) + 1e-9);
}

TEST(Dropout, KeepsOrDropsAndScalesWhatItKeeps) {
  for (const double p : {0.1, 0.25, 0.5, 0.9}) {
    SCOPED_TRACE(p);
    const Matrix<float> mask = mask_of({.probability = p, .seed = 1}, 100, 200);
    const float kept = static_cast<float>(1 / (1 - p));
    for (Index i = 0; i < mask.size(); ++i) {
      const float value = mask.data()[i];
      ASSERT_TRUE(value == 0 || value == kept) << value;
    }
    expect_binomial(count_zeros(mask), mask.size(), p);
  }
}

TEST(Dropout, OfProbabilityZeroIsOff) {
  EXPECT_TRUE(
      same_bits(mask_of({.probability = 0, .seed = 9}, 5, 4), Matrix<float>(Matrix<float>::Ones(5, 4))));
}

TEST(Dropout, OfTinyProbabilityKeepsNearlyAll) {
  EXPECT_EQ(count_zeros(mask_of({.probability = 1e-12, .seed = 9}, 50, 40)), 0);
}

TEST(Dropout, EveryTokenAndFeatureIsDroppedAtTheSameRate) {
  const Matrix<float> mask = mask_of({.probability = 0.3, .seed = 2}, 150, 150);
  for (Index i = 0; i < 150; ++i) {
    expect_binomial(count_zeros(mask.row(i)), 150, 0.3);
    expect_binomial(count_zeros(mask.col(i)), 150, 0.3);
  }
}

TEST(Dropout, IsAFunctionOfSeedStepInputTokenAndFeature) {
  constexpr double p = 0.4, same = p * p + (1 - p) * (1 - p);
  const Index features = 120, count = 100, n = features * count;
  const Dropout base = {.probability = p, .seed = 5, .step = 7, .input = 3};
  const Matrix<float> mask = mask_of(base, features, count);
  EXPECT_TRUE(same_bits(mask_of(base, features, count), mask));

  // Another value of any key: an independent mask.
  Dropout seed = base, step = base, input = base, token = base, swapped = base;
  seed.seed = 6, step.step = 8, input.input = 4, token.first_token = 1000;
  swapped.step = base.input, swapped.input = base.step;
  for (const Dropout& other : {seed, step, input, token, swapped})
    expect_binomial(agreements(mask, mask_of(other, features, count)), n, same);

  // Neighbouring tokens and features are independent of each other.
  expect_binomial(agreements(mask.leftCols(count - 1), mask.rightCols(count - 1)), features * (count - 1),
                  same);
  expect_binomial(agreements(mask.topRows(features - 1), mask.bottomRows(features - 1)),
                  (features - 1) * count, same);
}

TEST(Dropout, ATokensMaskDoesNotDependOnTheCall) {
  // A batch cut into several calls, with first_token where each begins.
  const Dropout base = {.probability = 0.4, .seed = 5};
  const Matrix<float> mask = mask_of(base, 30, 20);
  for (const Index begin : {0, 1, 7, 19}) {
    Dropout cut = base;
    cut.first_token = begin;
    EXPECT_TRUE(same_bits(mask_of(cut, 30, 20 - begin), Matrix<float>(mask.rightCols(20 - begin))));
  }
  // Nor does a feature's on how many there are.
  EXPECT_TRUE(same_bits(mask_of(base, 10, 20), Matrix<float>(mask.topRows(10))));
}

// h = A (mask ∘ x), dA = dh (mask ∘ x)ᵀ and dx = mask ∘ Aᵀ dh have one mask.
template <class P, class X>
void expect_one_mask() {
  const Index in = 300, out = 4, rank = 3, count = 6;
  const Dropout dropout = {.probability = 0.35, .seed = 8, .step = 2, .input = 1, .first_token = 40};
  const Matrix<X> mask = mask_of<X>(dropout, in, count);
  Dice dice(60);
  Adapter<P> adapter(one_module_layout({.in = in, .out = out, .rank = rank}));
  fill_factors(adapter, dice);
  const Matrix<X> x = dice.matrix<X>(in, count), dy = dice.matrix<X>(out, count);
  Matrix<X> y = dice.matrix<X>(out, count), y_masked = y;
  Matrix<X> dx = Matrix<X>::Zero(in, count), dx_plain = dx;
  using Acc = accumulator_t<P>;
  // The scaled mask times x is rounded once here, before the sums, as in the library; a narrow X would round
  // twice.
  static_assert(std::is_same_v<Acc, X>);
  const Matrix<X> masked_x = mask.cwiseProduct(x);
  Matrix<Acc> h(rank, count), h_masked(rank, count);
  const auto f = adapter.factors(0);
  forward(f, x, y, h, {.dropout = dropout});
  forward(f, masked_x, y_masked, h_masked);

  Gradients<Acc> gradients(adapter.layout()), gradients_masked(adapter.layout());
  backward(f, x, h, dy, gradients.factors(0), dx, {.dropout = dropout});
  backward(f, masked_x, h, dy, gradients_masked.factors(0), dx_plain);
  const Matrix<X> dx_masked = mask.cwiseProduct(dx_plain);

  // Sums of at most `in` products of values up to 1 / 0.65 in one order or another.
  const double tolerance = rounding_bound<Acc>(in + 32, 1.6 * static_cast<double>(in));
  const auto expect_close = [tolerance](const char* what, const auto& a, const auto& b) {
    for (Index i = 0; i < static_cast<Index>(a.size()); ++i)
      ASSERT_NEAR(static_cast<double>(a.data()[i]), static_cast<double>(b.data()[i]), tolerance) << what << i;
  };
  expect_close("h", h, h_masked);
  expect_close("y", y, y_masked);
  expect_close("gradient", gradients.values(), gradients_masked.values());
  expect_close("dx", dx, dx_masked);
  // Dropped is dropped: exactly 0, in dx as in x.
  for (Index i = 0; i < mask.size(); ++i) EXPECT_EQ(dx.data()[i] == X(0), mask.data()[i] == 0);
}

TEST(Dropout, ForwardAndBackwardHaveOneMask) {
  expect_one_mask<double, double>();
  expect_one_mask<float, float>();
  expect_one_mask<Eigen::bfloat16, float>();
}

TEST(Dropout, ModulesThatReadOneInputShareAMask) {
  const Layout layout(projections(2, {"q", "k"}, 40, "x"), schemes::lora(), 40);
  Adapter<float> adapter(layout);
  Matrix<float> masks[4];
  for (Index m = 0; m < 4; ++m) {
    adapter.A(m).setIdentity();
    masks[m].resize(40, 10);
    const Matrix<float> x = Matrix<float>::Ones(40, 10);
    shrink(adapter.factors(m), x, masks[m],
           {.dropout = {.probability = 0.5, .seed = 1, .input = layout.input_id(m)}});
  }
  EXPECT_TRUE(same_bits(masks[0], masks[1]));
  EXPECT_TRUE(same_bits(masks[2], masks[3]));
  EXPECT_FALSE(same_bits(masks[0], masks[2]));
}

TEST(Dropout, IsTheSameOnEveryCompiler) {
  const Matrix<float> mask = mask_of({.probability = 0.3, .seed = 123, .step = 45, .input = 6}, 64, 32);
  EXPECT_EQ(fnv1a(std::span<const float>(mask.data(), static_cast<std::size_t>(mask.size()))),
            0x621ffcafbada58c5u);
}

}  // namespace
}  // namespace tiedlora_test
