// Forward and backward of one module against PyTorch's results, and for every choice of types against the
// formula.
#include <gtest/gtest.h>

#include <sstream>
#include <tiedlora/adapter.hpp>
#include <tiedlora/ops.hpp>

#include "support/bits.hpp"
#include "support/dice.hpp"
#include "support/golden.hpp"
#include "support/one_module.hpp"
#include "support/reference.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

// PyTorch's results: tests/golden/module_golden.py says what each case is.

class GoldenCase {
 public:
  GoldenCase(const Golden& golden, std::string name) : golden_(golden), name_(std::move(name)) {
    for (const char factor : {'A', 'B', 'u', 'v'})
      if (golden_.tensors().count(name_ + "." + factor)) present_ += factor;
  }

  // Column-major features × tokens: the file's C order of (tokens, features).
  template <class T>
  Matrix<T> tensor(const std::string& what) const {
    const GoldenTensor& t = golden_.tensor(name_ + "." + what);
    const std::vector<T> values = t.as<T>();
    const Index width = t.dims.size() == 1 ? t.dims[0] : t.dims[1];
    return Eigen::Map<const Matrix<T>>(values.data(), width, t.dims.size() == 1 ? 1 : t.dims[0]);
  }

  Layout layout() const {
    const auto number = [this](const char* key) {
      return static_cast<Index>(golden_.number(name_ + "." + key));
    };
    return one_module_layout({.in = number("in"),
                              .out = number("out"),
                              .rank = number("rank"),
                              .present = present_,
                              .trained = golden_.meta(name_ + ".trained"),
                              .scaling = golden_.number(name_ + ".scaling")});
  }

  template <class T>
  Adapter<T> adapter() const {
    Adapter<T> result(layout());
    result.A(0) = tensor<T>("A").transpose();  // (r, in) in C order is in × r here
    result.B(0) = tensor<T>("B").transpose();
    if (result.u(0).size()) result.u(0) = tensor<T>("u");
    if (result.v(0).size()) result.v(0) = tensor<T>("v");
    return result;
  }

  template <class T, class Actual>
  void expect_near(const std::string& what, const Actual& actual) const {
    const Matrix<T> expected = tensor<T>(what);
    ASSERT_EQ(actual.rows(), expected.rows()) << what;
    ASSERT_EQ(actual.cols(), expected.cols()) << what;
    // 32 operations at most: see module_golden.py.
    const double tolerance = golden_tolerance<T>(32, static_cast<double>(expected.cwiseAbs().maxCoeff()));
    for (Index j = 0; j < expected.cols(); ++j)
      for (Index i = 0; i < expected.rows(); ++i)
        EXPECT_NEAR(static_cast<double>(actual(i, j)), static_cast<double>(expected(i, j)), tolerance)
            << what << "(" << i << ", " << j << ")";
  }

 private:
  const Golden& golden_;
  std::string name_;
  std::string present_;
};

template <class T>
void expect_golden(const GoldenCase& golden) {
  const Adapter<T> adapter = golden.adapter<T>();
  const Layout& layout = adapter.layout();
  Gradients<T> gradients(layout);
  const Matrix<T> x = golden.tensor<T>("x"), dy = golden.tensor<T>("dy");
  Matrix<T> y = golden.tensor<T>("y0"), h(layout.rank(), x.cols());
  Matrix<T> dx = Matrix<T>::Zero(x.rows(), x.cols());
  forward(adapter.factors(0), x, y, h);
  golden.expect_near<T>("h", h);
  golden.expect_near<T>("y", y);

  backward(adapter.factors(0), x, h, dy, gradients.factors(0), dx);
  golden.expect_near<T>("dx", dx);
  if (layout.is_trained(FactorId::A)) golden.expect_near<T>("dA", Matrix<T>(gradients.A(0).transpose()));
  if (layout.is_trained(FactorId::B)) golden.expect_near<T>("dB", Matrix<T>(gradients.B(0).transpose()));
  if (layout.is_trained(FactorId::u)) golden.expect_near<T>("du", gradients.u(0));
  if (layout.is_trained(FactorId::v)) golden.expect_near<T>("dv", gradients.v(0));
}

TEST(ForwardBackward, AgreesWithPyTorch) {
  const Golden golden = Golden::load("forward_backward.golden");
  std::istringstream names(golden.meta("cases"));
  int cases = 0;
  for (std::string name; names >> name; ++cases) {
    SCOPED_TRACE(name);
    expect_golden<double>(GoldenCase(golden, name));
    expect_golden<float>(GoldenCase(golden, name));
  }
  EXPECT_GE(cases, 20);
}

// Types: parameters, x and y of one module in all combinations, against the formula in double.

template <class P, class X, class Y>
void expect_formula() {
  Dice dice(30);
  Adapter<P> adapter(one_module_layout({.in = 37, .out = 29, .rank = 5}));
  fill_factors(adapter, dice);
  const Factors<const P> f = adapter.factors(0);
  const Index count = 3;
  const Matrix<X> x = dice.matrix<X>(37, count);
  const Matrix<Y> y0 = dice.matrix<Y>(29, count);
  const Matrix<double> delta = delta_weight(f, 0.75), magnitudes = delta_weight(f, 0.75, true);
  using Acc = accumulator_t<P>;
  for (const bool overwrite : {false, true}) {
    Matrix<Y> y = y0;
    Matrix<Acc> h(5, count);
    forward(f, x, y, h, {.scale = 0.75, .overwrite = overwrite});
    for (Index t = 0; t < count; ++t)
      for (Index i = 0; i < 29; ++i) {
        double exact = overwrite ? 0 : static_cast<double>(y0(i, t)), magnitude = std::abs(exact);
        for (Index j = 0; j < 37; ++j) {
          exact += delta(i, j) * static_cast<double>(x(j, t));
          magnitude += magnitudes(i, j) * std::abs(static_cast<double>(x(j, t)));
        }
        // The sums round in Acc, then the output rounds once to Y.
        const double bound =
            rounding_bound<Acc>(forward_roundings(f), magnitude) + rounding_bound<Y>(1, magnitude);
        EXPECT_NEAR(static_cast<double>(y(i, t)), exact, bound) << i << ", " << t;
      }
  }
}

TEST(ForwardTypes, ParametersInputsAndOutputsAreIndependent) {
  expect_formula<float, float, float>();
  expect_formula<double, double, double>();
  expect_formula<double, float, float>();
  expect_formula<float, double, float>();
  expect_formula<float, Eigen::bfloat16, Eigen::half>();
  expect_formula<Eigen::bfloat16, Eigen::bfloat16, Eigen::bfloat16>();
  expect_formula<Eigen::bfloat16, float, float>();
  expect_formula<Eigen::half, Eigen::half, float>();
  expect_formula<Eigen::half, float, Eigen::half>();
}

TEST(ForwardTypes, AWideOutputKeepsItsDigits) {
  // y in double beside an adapter in float: what the base layer put there must survive an adapter that adds
  // nothing.
  const Adapter<float> zero(one_module_layout({}));
  const Matrix<double> x = Matrix<double>::Ones(7, 2), y0 = Dice(31).matrix<double>(5, 2);
  Matrix<double> y = y0;
  forward(zero.factors(0), x, y);
  EXPECT_TRUE(same_bits(y, y0));
}

}  // namespace
}  // namespace tiedlora_test
