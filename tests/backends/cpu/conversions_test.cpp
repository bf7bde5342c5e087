// Every half and every bfloat16 there is, through every loop that reads or writes them.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string_view>
#include <tiedlora/eigen.hpp>
#include <tiedlora/ops.hpp>
#include <vector>

#if defined(__SSE2__)
#include <xmmintrin.h>  // _mm_getcsr, _mm_setcsr
#endif

#include "support/dice.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using Eigen::bfloat16;
using Eigen::half;

constexpr Index patterns = 0x10000;

template <class T>
constexpr int fraction_bits = std::is_same_v<T, half> ? 10 : 7;

// What these 16 bits stand for, by IEEE 754's definition: sign, exponent, fraction.
template <class T>
float meaning(Index bits) {
  constexpr int width = fraction_bits<T>, top = (1 << (15 - width)) - 1, bias = top / 2;
  const auto exponent = static_cast<int>(bits >> width) & top;
  const auto fraction = static_cast<int>(bits) & ((1 << width) - 1);
  const float sign = bits >> 15 ? -1.0f : 1.0f;
  if (exponent == top)
    return fraction ? std::numeric_limits<float>::quiet_NaN() : sign * std::numeric_limits<float>::infinity();
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(fraction), 1 - bias - width);
  return sign * std::ldexp(static_cast<float>(fraction + (1 << width)), exponent - bias - width);
}

// Zeros of either sign are equal, as sums that begin at zero make them.
bool same(float a, float b) { return std::isnan(a) ? std::isnan(b) : a == b; }

template <class T>
std::vector<T> every_number(Index first) {
  std::vector<T> values;
  for (Index n = 0; n < patterns; ++n)
    values.push_back(Eigen::numext::bit_cast<T>(static_cast<std::uint16_t>((first + n) % patterns)));
  return values;
}

template <class T>
void expect_every_number(const char* what, const float* actual, Index first) {
  for (Index n = 0; n < patterns; ++n) {
    const Index bits = (first + n) % patterns;
    ASSERT_TRUE(same(actual[n], meaning<T>(bits))) << what << ", bits " << bits << ": " << actual[n];
  }
}

// A module of rank 1 and its gradient.
template <class P>
Factors<P> one_rank(std::vector<P>& A, std::vector<P>& B) {
  return {.A = A.data(),
          .a_stride = std::ssize(A),
          .B = B.data(),
          .b_stride = std::ssize(B),
          .rank = 1,
          .in_features = std::ssize(A),
          .out_features = std::ssize(B)};
}

// Side by side: as B in y = B h, as A in dx = Aᵀ dh, as dy in dB = dy hᵀ and as x in dA = dh xᵀ, with h = dh
// = 1.
template <class T>
void expect_rows_are_read(Index first) {
  std::vector<T> all = every_number<T>(first), one(1, T(1));
  std::vector<float> zeros(patterns, 0.0f), float_one(1, 1.0f);
  const Eigen::Map<const Matrix<T>> tokens(all.data(), patterns, 1);
  const Matrix<float> h = Matrix<float>::Ones(1, 1);

  Matrix<float> y(patterns, 1);
  expand(one_rank(one, all), h, y, {.overwrite = true});
  expect_every_number<T>("B", y.data(), first);
  shrink_backward(one_rank(all, one), none, h, {}, y, {.overwrite = true});
  expect_every_number<T>("A", y.data(), first);

  std::vector<float> gradient(patterns, 0.0f), no_gradient(1, 0.0f);
  Matrix<float> dh(1, 1);
  expand_backward(one_rank(float_one, zeros), h, tokens, one_rank(no_gradient, gradient), dh);
  expect_every_number<T>("dy", gradient.data(), first);
  gradient.assign(patterns, 0.0f);
  shrink_backward(one_rank(zeros, float_one), tokens, h, one_rank(gradient, no_gradient), none);
  expect_every_number<T>("x", gradient.data(), first);
}

// In dot products, alone among zeros, at every place of a vector: as x and as dy. (A NaN or an infinity times
// the ones of A and B is itself.)
template <class P, class T>
void expect_dots_are_read() {
  constexpr Index width = 51;
  std::vector<P> ones(width, P(1)), one(1, P(1));
  Matrix<T> tokens = Matrix<T>::Constant(width, patterns, T(0));
  const std::vector<T> all = every_number<T>(0);
  for (Index t = 0; t < patterns; ++t) tokens(t % width, t) = all[static_cast<std::size_t>(t)];
  Matrix<float> h(1, patterns);
  shrink(one_rank(ones, one), tokens, h);
  expect_every_number<T>("x in a sum", h.data(), 0);
  const Matrix<float> h_ones = Matrix<float>::Ones(1, patterns);
  expand_backward(one_rank(one, ones), h_ones, tokens, {}, h);
  expect_every_number<T>("dy in a sum", h.data(), 0);
}

template <class T>
void expect_read() {
  expect_rows_are_read<T>(0);
  expect_rows_are_read<T>(5);
  expect_dots_are_read<float, T>();
  expect_dots_are_read<T, T>();
}

TEST(Conversions, EveryHalfIsRead) { expect_read<half>(); }
TEST(Conversions, EveryBfloat16IsRead) { expect_read<bfloat16>(); }

#if defined(__SSE2__)
// Subnormal halves are normal floats, and stay numbers where a host has its threads take denormals for zero.
TEST(Conversions, EveryHalfIsReadWhereDenormalsAreZero) {
  const unsigned mode = _mm_getcsr();
  _mm_setcsr(mode | 0x40);
  expect_read<half>();
  _mm_setcsr(mode);
}
#endif

// An instruction set with a conversion to bfloat16 makes values below the smallest normal one zero.
template <class T>
Index stored(float value, Index nearest) {
  const bool flushes =
      std::is_same_v<T, bfloat16> && std::string_view(kernel_isa()).find("_bf16") != std::string_view::npos;
  return flushes && std::abs(value) < std::numeric_limits<float>::min() ? 0 : nearest;
}

// Every value, the points halfway to the next and what lies to both sides of those are rounded to the
// nearest, halfway to the even one, as y and as dx.
template <class T>
void expect_rounded() {
  std::vector<float> values;
  std::vector<Index> expected;
  const Index infinity = (patterns / 2 - 1) >> fraction_bits<T> << fraction_bits<T>;
  for (const Index sign : {Index{0}, patterns / 2})
    for (Index bits = sign; bits < sign + infinity; ++bits) {
      // The step beyond the largest number is as long as the one before it: from halfway on all is infinite.
      const double here = meaning<T>(bits), next = bits + 1 < sign + infinity
                                                       ? double{meaning<T>(bits + 1)}
                                                       : 2 * here - double{meaning<T>(bits - 1)};
      const auto middle = static_cast<float>((here + next) / 2);
      values.push_back(meaning<T>(bits)), expected.push_back(bits);
      values.push_back(std::nextafter(middle, meaning<T>(bits))), expected.push_back(bits);
      values.push_back(middle), expected.push_back(bits + bits % 2);
      values.push_back(std::nextafter(middle, static_cast<float>(sign ? -INFINITY : INFINITY)));
      expected.push_back(bits + 1);
    }
  for (const float special : {INFINITY, -INFINITY, NAN}) {
    values.push_back(special);
    expected.push_back(std::isnan(special) ? patterns - 1 : infinity + (special < 0 ? patterns / 2 : 0));
  }

  constexpr Index width = 19;
  const auto count = std::ssize(values);
  std::vector<float> ones(width, 1.0f), one(1, 1.0f);
  const Eigen::Map<const Matrix<float>> h(values.data(), 1, count);
  for (const bool backward : {false, true}) {
    Matrix<T> out(width, count);
    if (backward)
      shrink_backward(one_rank(ones, one), none, h, {}, out, {.overwrite = true});
    else
      expand(one_rank(one, ones), h, out, {.overwrite = true});
    for (Index t = 0; t < count; ++t)
      for (Index i = 0; i < width; ++i) {
        const auto bits = Eigen::numext::bit_cast<std::uint16_t>(out(i, t));
        const auto n = static_cast<std::size_t>(t);
        const Index nearest = stored<T>(values[n], expected[n]);
        ASSERT_TRUE(same(meaning<T>(bits), meaning<T>(nearest)))
            << values[n] << " became " << meaning<T>(bits) << ", bits " << bits << " instead of " << nearest
            << ", at feature " << i;
      }
  }
}

TEST(Conversions, RoundingToHalfIsToNearestEven) { expect_rounded<half>(); }
TEST(Conversions, RoundingToBfloat16IsToNearestEven) { expect_rounded<bfloat16>(); }

}  // namespace
}  // namespace tiedlora_test
