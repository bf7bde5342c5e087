// Derivatives of one module against central differences, in double, over factors × shapes × options.
#include <gtest/gtest.h>

#include <string>
#include <tiedlora/adapter.hpp>
#include <tiedlora/ops.hpp>
#include <tiedlora/verify/gradient_check.hpp>
#include <vector>

#include "support/one_module.hpp"
#include "support/reference.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

constexpr double largest_relative_error = 1e-7;

std::span<double> numbers(Matrix<double>& m) { return {m.data(), static_cast<std::size_t>(m.size())}; }

// The definition: for L = Σ_t Σ_o dy(o, t) y(o, t) with y = y0 + forward(x),
//   backward adds ∂L/∂A, ∂L/∂B, ∂L/∂u, ∂L/∂v and ∂L/∂x,
// and ∂L/∂p = lim (L(p + h) - L(p - h)) / 2h. L is linear in every single factor and in x, so that the
// difference has no error of order h², only that of rounding: ε |L| / h.
void expect_derivatives(const OneModule& what, Index count, const CallOptions& options, std::uint64_t seed) {
  SCOPED_TRACE("in " + std::to_string(what.in) + ", out " + std::to_string(what.out) + ", rank " +
               std::to_string(what.rank) + ", tokens " + std::to_string(count) + ", present " +
               std::string(what.present) + ", trained " + std::string(what.trained) + ", seed " +
               std::to_string(seed));
  Dice dice(seed);
  Adapter<double> adapter(one_module_layout(what));
  fill_factors(adapter, dice);
  Gradients<double> gradients(adapter.layout());
  Matrix<double> x = dice.matrix<double>(what.in, count), h(what.rank, count);
  const Matrix<double> y0 = dice.matrix<double>(what.out, count), dy = dice.matrix<double>(what.out, count);
  const Factors<const double> f = adapter.factors(0);

  // What is there already must be added to: 1 in every gradient, and in dx unless that is overwritten.
  for (double& g : gradients.values()) g = 1;
  Matrix<double> dx = Matrix<double>::Ones(what.in, count), y = y0;
  forward(f, x, y, h, options);
  backward(f, x, h, dy, gradients.factors(0), dx, options);
  for (double& g : gradients.values()) g -= 1;
  if (!options.overwrite) dx.array() -= 1;

  const auto loss = [&] {
    Matrix<double> output = y0;
    forward(f, x, output, options);
    double sum = 0;
    for (Index i = 0; i < output.size(); ++i) sum += dy.data()[i] * output.data()[i];
    return sum;
  };
  const verify::GradientCheckOptions check = {.step = 1e-3, .most_per_name = 12, .seed = seed};
  const verify::GradientCheck factors = verify::check_gradients(adapter, gradients, loss, check);
  EXPECT_LT(factors.relative_error(), largest_relative_error) << factors.table();
  const verify::Variables input = {"x", numbers(x), numbers(dx)};
  const verify::GradientCheck inputs = verify::check_gradients(std::span(&input, 1), loss, check);
  EXPECT_LT(inputs.relative_error(), largest_relative_error) << inputs.table();
  // The check compared something. (Dropout may drop a feature of every token.)
  if (count > 0 && options.dropout.probability == 0) {
    EXPECT_GT(dx.norm(), 0);
    for (const double g : gradients.values()) EXPECT_NE(g, 0);
  }
}

constexpr const char* present_factors[] = {"AB", "ABu", "ABv", "ABuv"};

TEST(Derivatives, OverOddShapes) {
  std::uint64_t seed = 0;
  for (const Index in : {1, 2, 7, 17, 257})
    for (const Index out : {1, 2, 7, 17, 257})
      for (const Index rank : {1, 3, 5})
        for (const Index count : {0, 1, 4}) {
          const std::string_view present = present_factors[seed % 4];
          expect_derivatives({in, out, rank, present, present}, count, {}, ++seed);
        }
}

TEST(Derivatives, OverWhatIsThereAndWhatIsTrained) {
  std::uint64_t seed = 1000;
  for (const char* present : present_factors)
    for (int mask = 0; mask < 16; ++mask) {
      std::string trained;
      for (const char factor : std::string_view(present))
        if (mask >> std::string_view("ABuv").find(factor) & 1) trained += factor;
      expect_derivatives({.in = 5, .out = 6, .rank = 2, .present = present, .trained = trained}, 3, {},
                         ++seed);
    }
}

TEST(Derivatives, WithOptions) {
  const float token_scale[] = {1, -0.5f, 0.25f, 3};
  std::uint64_t seed = 2000;
  for (const char* present : present_factors)
    for (int mask = 0; mask < 16; ++mask) {
      CallOptions options = {.overwrite = (mask & 1) != 0};
      if (mask & 2) options.scale = -0.75;
      if (mask & 4) options.token_scale = token_scale;
      if (mask & 8)
        options.dropout = {.probability = 0.3, .seed = 5, .step = seed, .input = 2, .first_token = 7};
      SCOPED_TRACE("options " + std::to_string(mask));
      expect_derivatives({.in = 9, .out = 8, .rank = 3, .present = present, .trained = present}, 4, options,
                         ++seed);
    }
}

// The stages one by one: for L = Σ dh ∘ h with h = A x, shrink_backward adds ∂L/∂A = dh xᵀ and ∂L/∂x = Aᵀ dh;
// for L = Σ dy ∘ y, expand_backward sets dh = ∂L/∂h.
TEST(Derivatives, OfTheHalves) {
  const OneModule what = {.in = 19, .out = 21, .rank = 3};
  Dice dice(3000);
  Adapter<double> adapter(one_module_layout(what));
  fill_factors(adapter, dice);
  const Factors<const double> f = adapter.factors(0);
  Gradients<double> gradients(adapter.layout());
  Matrix<double> h = dice.matrix<double>(3, 4), dh(3, 4);
  const Matrix<double> dy = dice.matrix<double>(21, 4);
  expand_backward(f, h, dy, gradients.factors(0), dh);
  const verify::Variables hidden = {"h", numbers(h), numbers(dh)};
  const verify::GradientCheck of_h = verify::check_gradients(std::span(&hidden, 1),
                                                             [&] {
                                                               Matrix<double> y = Matrix<double>::Zero(21, 4);
                                                               expand(f, h, y);
                                                               return (y.array() * dy.array()).sum();
                                                             },
                                                             {.step = 1e-3});
  EXPECT_LT(of_h.relative_error(), largest_relative_error) << of_h.table();

  Matrix<double> x = dice.matrix<double>(19, 4), dx = Matrix<double>::Zero(19, 4);
  shrink_backward(f, x, dh, gradients.factors(0), dx);
  const verify::Variables input = {"x", numbers(x), numbers(dx)};
  const verify::GradientCheck of_x =
      verify::check_gradients(std::span(&input, 1),
                              [&] {
                                Matrix<double> hidden_of_x(3, 4);
                                shrink(f, x, hidden_of_x);
                                return (hidden_of_x.array() * dh.array()).sum();
                              },
                              {.step = 1e-3});
  EXPECT_LT(of_x.relative_error(), largest_relative_error) << of_x.table();
}

}  // namespace
}  // namespace tiedlora_test
