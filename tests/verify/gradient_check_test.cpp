// The public gradient check: it passes right derivatives, finds a planted error of any kind, and touches
// nothing.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <stdexcept>
#include <tiedlora/ops.hpp>
#include <tiedlora/verify/gradient_check.hpp>

#include "support/bits.hpp"
#include "support/errors.hpp"
#include "support/models.hpp"
#include "support/reference.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using verify::check_gradients, verify::GradientCheck, verify::Variables;

// Two layers that share A and B, through forward and backward of the library.
struct TwoLayers {
  TwoLayers() : adapter(Layout(one_kind(2, 6, 6), schemes::tied_lora(), 2)), gradients(adapter.layout()) {
    Dice dice(170);
    fill_factors(adapter, dice);
    x = dice.matrix<double>(6, 3), dy = dice.matrix<double>(6, 3);
    (void)loss();
    Matrix<double> d = Matrix<double>::Zero(6, 3);
    backward(adapter.factors(1), z, h[1], dy, gradients.factors(1), d);
    backward(adapter.factors(0), x, h[0], d, gradients.factors(0));
  }
  double loss() {
    z = Matrix<double>::Zero(6, 3);
    Matrix<double> y = z;
    forward(adapter.factors(0), x, z, h[0]);
    forward(adapter.factors(1), z, y, h[1]);
    double sum = 0;
    for (Index i = 0; i < y.size(); ++i) sum += y.data()[i] * dy.data()[i];
    return sum;
  }
  GradientCheck check() {
    return check_gradients(adapter, gradients, [this] { return loss(); });
  }

  Adapter<double> adapter;
  Gradients<double> gradients;
  Matrix<double> x, z, dy, h[2] = {Matrix<double>(2, 3), Matrix<double>(2, 3)};
};

TEST(GradientCheck, PassesRightDerivativesAndRestoresTheValues) {
  TwoLayers model;
  const std::vector<double> before(model.adapter.trainable().begin(), model.adapter.trainable().end());
  const GradientCheck result = model.check();
  EXPECT_LT(result.relative_error(), 1e-7) << result.table();
  ASSERT_EQ(result.rows.size(), 4u);
  EXPECT_EQ(result.rows[0].name, "A");
  EXPECT_EQ(result.rows[2].name, "v");
  EXPECT_EQ(result.rows[0].checked, 12);
  EXPECT_EQ(result.rows[2].count, 12);
  EXPECT_TRUE(same_bits<double>(model.adapter.trainable(), before));
}

TEST(GradientCheck, FindsAnErrorInAnyFactor) {
  TwoLayers model;
  for (std::size_t factor = 0; factor < 4; ++factor) {
    const Layout::Segment segment = model.adapter.layout().segment(all_factors[factor]);
    double& g = model.gradients.values()[static_cast<std::size_t>(segment.offset + segment.count - 1)];
    const double right = g;
    for (const double wrong : {-right, 0.0, right * 1.001, right + 1e-3, std::nan("")}) {
      g = wrong;
      const GradientCheck result = model.check();
      EXPECT_FALSE(result.relative_error() < 1e-5) << wrong << "\n" << result.table();
      EXPECT_FALSE(result.rows[factor].relative_error < 1e-5);
      EXPECT_EQ(result.rows[factor].largest_at, segment.count - 1);
      for (std::size_t other = 0; other < 4; ++other) {
        if (other == factor) continue;
        EXPECT_LT(result.rows[other].relative_error, 1e-7);
      }
    }
    g = right;
  }
}

TEST(GradientCheck, SkipsFrozenFactors) {
  Scheme scheme = schemes::tied_lora();
  scheme.A.trained = scheme.u->trained = false;
  Adapter<double> adapter(Layout(one_kind(1, 3, 3), scheme, 1));
  const Gradients<double> gradients(adapter.layout());
  const GradientCheck result = check_gradients(adapter, gradients, [] { return 1.0; });
  ASSERT_EQ(result.rows.size(), 2u);
  EXPECT_EQ(result.rows[0].name, "B");
  EXPECT_EQ(result.rows[1].name, "v");
  EXPECT_EQ(result.relative_error(), 0);  // both say 0
}

TEST(GradientCheck, ChecksARandomPartOfALongSpan) {
  // L = Σ p² with ∂L/∂p = 2p, except for one wrong element that the check may or may not look at.
  std::vector<double> values(1000), gradient(1000);
  Dice(171).fill(values);
  for (std::size_t i = 0; i < values.size(); ++i) gradient[i] = 2 * values[i];
  const auto loss = [&] {
    double sum = 0;
    for (const double value : values) sum += value * value;
    return sum;
  };
  const auto check = [&](Index most, std::uint64_t seed) {
    const Variables variable = {"p", values, gradient};
    return check_gradients(std::span(&variable, 1), loss, {.most_per_name = most, .seed = seed});
  };
  EXPECT_EQ(check(50, 1).rows[0].checked, 50);
  EXPECT_EQ(check(50, 1).rows[0].count, 1000);
  EXPECT_LT(check(50, 1).relative_error(), 1e-7);
  gradient[357] += 1;
  EXPECT_GT(check(1000, 1).relative_error(), 1e-3);
  EXPECT_EQ(check(1000, 1).rows[0].largest_at, 357);
  int found = 0;
  for (std::uint64_t seed = 0; seed < 200; ++seed) found += check(50, seed).relative_error() > 1e-3;
  // One element of 20 in each part: found 200/20 times, ± 6 √(200 · 0.05 · 0.95).
  EXPECT_NEAR(found, 10, 6 * std::sqrt(200 * 0.05 * 0.95));
  EXPECT_GT(found, 0);
}

TEST(GradientCheck, AStepGrowsWithLargeValues) {
  // At p = 1e6 a step of 1e-4 would be lost in the rounding of p².
  std::vector<double> values = {1e6}, gradient = {2e6};
  const Variables variable = {"p", values, gradient};
  const auto loss = [&] { return values[0] * values[0]; };
  EXPECT_LT(check_gradients(std::span(&variable, 1), loss).relative_error(), 1e-9);
  EXPECT_EQ(values[0], 1e6);
}

TEST(GradientCheck, RefusesSpansOfUnequalLength) {
  std::vector<double> values(3), gradient(2);
  const Variables variable = {"weights", values, gradient};
  expect_error([&] { (void)check_gradients(std::span(&variable, 1), [] { return 0.0; }); },
               {"\"weights\"", "3 values", "2 derivatives"});
}

// The same number of values in another order: LoRA of two layers, and of one layer twice as wide.
TEST(GradientCheck, RefusesGradientsOfAnotherLayout) {
  Adapter<double> adapter(Layout(one_kind(2, 3, 3), schemes::lora(), 1));
  const Gradients<double> gradients(Layout(one_kind(1, 6, 6), schemes::lora(), 1));
  ASSERT_EQ(adapter.trainable().size(), gradients.values().size());
  expect_error([&] { (void)check_gradients(adapter, gradients, [] { return 0.0; }); },
               {"gradients of another layout than the adapter's"});
  const Gradients<double> fewer(Layout(one_kind(1, 3, 3), schemes::lora(), 1));
  expect_error([&] { (void)check_gradients(adapter, fewer, [] { return 0.0; }); },
               {"gradients of another layout than the adapter's"});
}

TEST(GradientCheck, RestoresTheValuesWhereTheLossThrows) {
  const std::vector<double> before = {0.1, 0.2, 0.3}, gradient(3);
  for (int last = 1; last <= 6; ++last) {
    std::vector<double> values = before;
    const Variables variable = {"p", values, gradient};
    int calls = 0;
    const auto loss = [&] {
      if (++calls == last) throw std::runtime_error("out of memory");
      return 0.0;
    };
    EXPECT_THROW((void)check_gradients(std::span(&variable, 1), loss), std::runtime_error);
    EXPECT_TRUE(same_bits<double>(values, before)) << "in call " << last;
  }
}

TEST(GradientCheck, TheTableNamesEveryRow) {
  TwoLayers model;
  model.gradients.B(0)(0, 0) += 1;
  const std::string table = model.check().table();
  for (const char* part : {"variable", "relative error", "\nA ", "\nB ", "\nv ", "\nu "})
    EXPECT_NE(table.find(part), std::string::npos) << part << " in\n" << table;
}

}  // namespace
}  // namespace tiedlora_test
