// Scalars that Eigen does not have kernels for: the library's loops take any.
#include <gtest/gtest.h>

#include <tiedlora/adapter.hpp>
#include <tiedlora/adapter/merge.hpp>
#include <tiedlora/ops.hpp>
#include <unsupported/Eigen/AutoDiff>
#include <vector>

#include "support/one_module.hpp"
#include "support/reference.hpp"

struct HalfInDouble {
  Eigen::half half;
  explicit HalfInDouble(double number) : half(static_cast<float>(number)) {}
  explicit operator double() const { return static_cast<float>(half); }
};
template <>
struct tiedlora::ScalarTraits<HalfInDouble> {
  using accumulator = double;
  static constexpr Format format = Format::binary16;
};

namespace tiedlora_test {
namespace {

using namespace tiedlora;

static_assert(std::is_same_v<accumulator_t<float>, float>);
static_assert(std::is_same_v<accumulator_t<double>, double>);
static_assert(std::is_same_v<accumulator_t<const Eigen::half>, float>);
static_assert(std::is_same_v<accumulator_t<Eigen::bfloat16>, float>);
static_assert(std::is_same_v<accumulator_t<long double>, long double>);
static_assert(is_narrow<Eigen::half> && is_narrow<const Eigen::bfloat16> && !is_narrow<float>);
static_assert(std::is_same_v<sum_t<float, double>, double> && std::is_same_v<sum_t<double, float>, double>);
static_assert(std::is_same_v<sum_t<float, Eigen::half>, float>);

TEST(Scalars, LongDoubleKeepsItsDigits) {
  const Index in = 300, out = 40, rank = 4, count = 3;
  Dice dice(160);
  Adapter<long double> adapter(one_module_layout({.in = in, .out = out, .rank = rank}));
  fill_factors(adapter, dice);
  const auto f = adapter.factors(0);
  const Matrix<long double> x = dice.matrix<long double>(in, count);
  Matrix<long double> y = Matrix<long double>::Zero(out, count), h(rank, count);
  forward(f, x, y, h);
  // Against the same sums in another order, in long double too: 2048 times finer than double can tell.
  for (Index t = 0; t < count; ++t)
    for (Index i = 0; i < out; ++i) {
      long double exact = 0;
      double magnitude = 0;
      for (Index j = 0; j < in; ++j)
        for (Index k = 0; k < rank; ++k) {
          const long double term =
              f.scaling * f.v[i] * f.B[k * f.b_stride + i] * f.u[k] * f.A[k * f.a_stride + j] * x(j, t);
          exact += term, magnitude += static_cast<double>(std::abs(term));
        }
      EXPECT_LE(static_cast<double>(std::abs(y(i, t) - exact)),
                rounding_bound<long double>(in * rank + forward_roundings(f), magnitude));
    }

  Gradients<long double> gradients(adapter.layout());
  Matrix<long double> dx = Matrix<long double>::Zero(in, count);
  backward(f, x, h, y, gradients.factors(0), dx);
  EXPECT_GT(gradients.A(0).norm(), 0);
  Matrix<long double> w = Matrix<long double>::Zero(out, in);
  merge(f, w);
  EXPECT_GT(w.norm(), 0);
}

// Of 16 bits but summed in double: the kernels, which sum in float, leave it to the loops.
TEST(Scalars, ANarrowTypeMayBeSummedInDouble) {
  std::vector<HalfInDouble> A(2, HalfInDouble(1)), B(2, HalfInDouble(1));
  const Factors<const HalfInDouble> f = {.A = A.data(),
                                         .a_stride = 2,
                                         .B = B.data(),
                                         .b_stride = 2,
                                         .rank = 1,
                                         .in_features = 2,
                                         .out_features = 2};
  std::vector<double> h(1), x = {1, 0x1p-40}, y(2);
  forward(f, Tokens<const double>{x.data(), 2, 1, 2}, Tokens<double>{y.data(), 2, 1, 2},
          Tokens<double>{h.data(), 1, 1, 1});
  EXPECT_EQ(y, std::vector<double>(2, 1 + 0x1p-40));
}

// Scalars that carry their derivatives with respect to all factors and all of x: forward alone then gives
// what backward is to compute.
TEST(Scalars, DerivativesByAutomaticDifferentiation) {
  using Dual = Eigen::AutoDiffScalar<Eigen::VectorXd>;
  const Index in = 5, out = 4, rank = 2, count = 3;
  const Layout layout = one_module_layout({.in = in, .out = out, .rank = rank});
  Adapter<double> adapter(layout);
  Dice dice(161);
  fill_factors(adapter, dice);
  const Matrix<double> x = dice.matrix<double>(in, count), dy = dice.matrix<double>(out, count);
  const CallOptions options = {.scale = 0.5, .dropout = {.probability = 0.3, .seed = 4}};

  const Index parameters = layout.trainable_count(), variables = parameters + x.size();
  Adapter<Dual> dual_adapter(layout);
  Matrix<Dual> dual_x(in, count), dual_y(out, count);
  const auto variable = [&](double value, Index n) {
    return Dual(value, Eigen::VectorXd::Unit(variables, n));
  };
  for (Index n = 0; n < parameters; ++n)
    dual_adapter.trainable()[static_cast<std::size_t>(n)] =
        variable(adapter.trainable()[static_cast<std::size_t>(n)], n);
  for (Index n = 0; n < x.size(); ++n) dual_x.data()[n] = variable(x.data()[n], parameters + n);
  for (Index n = 0; n < dual_y.size(); ++n) dual_y.data()[n] = Dual(0.0);
  // Dual's default constructor leaves its value as it is: the library must not rely on a zero there.
  forward(dual_adapter.factors(0), dual_x, dual_y, options);
  Eigen::VectorXd expected = Eigen::VectorXd::Zero(variables);
  for (Index n = 0; n < dual_y.size(); ++n) expected += dy.data()[n] * dual_y.data()[n].derivatives();

  Gradients<double> gradients(layout);
  Matrix<double> y = Matrix<double>::Zero(out, count), h(rank, count), dx = Matrix<double>::Zero(in, count);
  forward(adapter.factors(0), x, y, h, options);
  backward(adapter.factors(0), x, h, dy, gradients.factors(0), dx, options);
  // At most 4 · 3 terms of values up to 1.5 / 0.7 and as many roundings as forward and backward have.
  const double tolerance = rounding_bound<double>(4 * (in + out + rank + count), 12 * 2.2 * rank);
  for (Index n = 0; n < parameters; ++n)
    EXPECT_NEAR(gradients.values()[static_cast<std::size_t>(n)], expected(n), tolerance) << "parameter " << n;
  for (Index n = 0; n < x.size(); ++n)
    EXPECT_NEAR(dx.data()[n], expected(parameters + n), tolerance) << "x " << n;
  for (Index n = 0; n < y.size(); ++n) EXPECT_NEAR(y.data()[n], dual_y.data()[n].value(), tolerance);
}

}  // namespace
}  // namespace tiedlora_test
