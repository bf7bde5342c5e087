// The fast path, and every narrow type, against the plain loops of reference.hpp in double.
#include <gtest/gtest.h>

#include <tiedlora/adapter.hpp>
#include <tiedlora/forward_backward.hpp>
#include <vector>

#include "support/one_module.hpp"
#include "support/reference.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

struct Results {
  Matrix<double> h, y, dh, dx;
  std::vector<double> gradients;
};

struct Operands {
  Matrix<double> x, y, dy, dx;
  std::vector<float> token_scale;
};

// All outputs by the reference in double. With `magnitudes` every operand is replaced by its magnitude, so
// that each output is the sum of the magnitudes of its terms: what its rounding errors are relative to.
Results reference_results(const Adapter<double>& adapter, Operands o, CallOptions options, bool magnitudes) {
  const auto absolute = [magnitudes](auto& values) {
    if (magnitudes)
      for (auto& value : values) value = std::abs(value);
  };
  const auto absolute_matrix = [magnitudes](Matrix<double>& m) {
    if (magnitudes) m = m.cwiseAbs().eval();
  };
  for (Matrix<double>* m : {&o.x, &o.y, &o.dy, &o.dx}) absolute_matrix(*m);
  absolute(o.token_scale);
  std::vector<double> trainable(adapter.trainable().begin(), adapter.trainable().end()),
      frozen(adapter.frozen().begin(), adapter.frozen().end());
  absolute(trainable), absolute(frozen);
  Factors<const double> f = AdapterView<const double>(adapter.layout(), trainable, frozen).factors(0);
  if (magnitudes) f.scaling = std::abs(f.scaling), options.scale = std::abs(options.scale);
  options.token_scale = o.token_scale.data();

  const Index count = o.x.cols();
  Results r = {Matrix<double>(f.rank, count), o.y, Matrix<double>(f.rank, count), o.dx, {}};
  Gradients<double> gradients(adapter.layout());
  const auto in = [](const Matrix<double>& m) {
    return Tokens<const double>{m.data(), m.rows(), m.cols(), m.rows()};
  };
  const auto out = [](Matrix<double>& m) { return Tokens<double>{m.data(), m.rows(), m.cols(), m.rows()}; };
  reference::shrink(f, in(o.x), out(r.h), options);
  reference::expand(f, in(r.h), out(r.y), options);
  reference::expand_backward(f, in(r.h), in(o.dy), gradients.factors(0), out(r.dh), options);
  if (gradients.factors(0).A)
    reference::add_gradient_of_A(f, in(o.x), in(r.dh), gradients.factors(0), options);
  reference::add_dx(f, in(r.dh), out(r.dx), options);
  r.gradients.assign(gradients.values().begin(), gradients.values().end());
  return r;
}

template <class T>
void expect_near(const char* what, const T* actual, const double* exact, const double* magnitude, Index size,
                 double relative) {
  for (Index i = 0; i < size; ++i)
    ASSERT_NEAR(static_cast<double>(actual[i]), exact[i], relative * magnitude[i])
        << what << "[" << i << "] of " << size;
}

// Parameters P, activations X.
template <class P, class X>
void expect_agreement(const OneModule& what, Index count, const CallOptions& base, std::uint64_t seed) {
  SCOPED_TRACE("in " + std::to_string(what.in) + ", out " + std::to_string(what.out) + ", rank " +
               std::to_string(what.rank) + ", tokens " + std::to_string(count) + ", present " +
               std::string(what.present) + ", trained " + std::string(what.trained) + ", seed " +
               std::to_string(seed));
  using Acc = accumulator_t<P>;
  Dice dice(seed);
  Adapter<P> adapter(one_module_layout(what));
  fill_factors(adapter, dice);
  const Matrix<X> x = dice.matrix<X>(what.in, count), dy = dice.matrix<X>(what.out, count);
  Matrix<X> y = dice.matrix<X>(what.out, count), dx = dice.matrix<X>(what.in, count);
  std::vector<float> token_scale(static_cast<std::size_t>(count));
  dice.fill(token_scale);
  CallOptions options = base;
  options.token_scale = token_scale.data();
  const Operands operands = {to_double(x), to_double(y), to_double(dy), to_double(dx), token_scale};
  const Results exact = reference_results(adapter.template cast<double>(), operands, options, false);
  const Results magnitude = reference_results(adapter.template cast<double>(), operands, options, true);

  Matrix<Acc> h(what.rank, count), dh(what.rank, count);
  Gradients<Acc> gradients(adapter.layout());
  const auto f = adapter.factors(0);
  forward(f, x, y, h, options);
  expand_backward(f, h, dy, gradients.factors(0), dh, options);
  shrink_backward(f, x, dh, gradients.factors(0), dx, options);

  // No term passes through more roundings than all sums are long, and those of the few products beside them.
  const Index roundings = what.in + what.out + 2 * what.rank + count + 16;
  const double sums = rounding_bound<Acc>(roundings, 1), stored = sums + rounding_bound<X>(1, 1);
  expect_near("h", h.data(), exact.h.data(), magnitude.h.data(), h.size(), sums);
  expect_near("y", y.data(), exact.y.data(), magnitude.y.data(), y.size(), stored);
  expect_near("dh", dh.data(), exact.dh.data(), magnitude.dh.data(), dh.size(), sums);
  expect_near("dx", dx.data(), exact.dx.data(), magnitude.dx.data(), dx.size(), stored);
  expect_near("gradients", gradients.values().data(), exact.gradients.data(), magnitude.gradients.data(),
              static_cast<Index>(exact.gradients.size()), sums);
}

constexpr const char* present_factors[] = {"AB", "ABu", "ABv", "ABuv"};

// Every width up to 40 in turn, and every rank and number of tokens around the tile sizes with it.
template <class P, class X>
void sweep(std::uint64_t seed) {
  Dice dice(seed);
  for (Index width = 1; width <= 40; ++width) {
    const std::string_view present = present_factors[width % 4];
    std::string trained;
    for (const char factor : present)
      if (dice.integer(0, 3) > 0) trained += factor;
    const OneModule what = {.in = width,
                            .out = dice.integer(1, 70),
                            .rank = dice.integer(1, 14),
                            .present = present,
                            .trained = trained};
    const CallOptions options = {.scale = 0.6, .overwrite = dice.coin()};
    expect_agreement<P, X>(what, dice.integer(0, 20), options, ++seed);
    expect_agreement<P, X>({what.out, what.in, what.rank, what.present, what.trained}, dice.integer(1, 9),
                           options, ++seed);
  }
}

TEST(Kernels, FloatAgreesWithTheReferenceInDouble) {
  sweep<float, float>(100);
  sweep<float, float>(300);
  sweep<float, float>(500);
}

TEST(Kernels, NarrowTypesAgreeWithTheReferenceInDouble) {
  sweep<Eigen::bfloat16, Eigen::bfloat16>(700);
  sweep<Eigen::half, Eigen::half>(900);
  sweep<Eigen::bfloat16, float>(1100);
}

TEST(Kernels, BeyondTheBlocksOfFeaturesRanksAndTokens) {
  for (const char* trained : {"ABuv", "v", "B"}) {
    expect_agreement<float, float>({.in = 1100, .out = 1300, .rank = 64, .trained = trained}, 7, {}, 1);
    expect_agreement<float, float>({.in = 4200, .out = 3, .rank = 2, .trained = trained}, 30, {}, 2);
    expect_agreement<float, float>({.in = 3, .out = 9000, .rank = 2, .trained = trained}, 33, {}, 3);
    expect_agreement<float, float>({.in = 10, .out = 12, .rank = 8, .trained = trained}, 300, {}, 4);
    expect_agreement<float, float>({.in = 7, .out = 9, .rank = 512, .trained = trained}, 7, {}, 5);
    expect_agreement<float, float>({.in = 7, .out = 9, .rank = 513, .trained = trained}, 7, {}, 6);
  }
}

TEST(Kernels, DropoutTakesTheSameMaskOnEveryPath) {
  const CallOptions options = {
      .dropout = {.probability = 0.3, .seed = 1, .step = 2, .input = 3, .first_token = 4}};
  expect_agreement<float, float>({.in = 300, .out = 20, .rank = 5}, 6, options, 1);
  expect_agreement<Eigen::bfloat16, Eigen::bfloat16>({.in = 300, .out = 20, .rank = 5}, 6, options, 2);
}

}  // namespace
}  // namespace tiedlora_test
