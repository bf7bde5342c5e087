// What each option of a call does to forward and backward.
#include <gtest/gtest.h>

#include <limits>
#include <tiedlora/adapter.hpp>
#include <tiedlora/ops.hpp>
#include <vector>

#include "support/bits.hpp"
#include "support/dice.hpp"
#include "support/one_module.hpp"
#include "support/reference.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

// In double; "equal" is up to the roundings of the formula.

struct Fixture {
  explicit Fixture(const OneModule& what = {}, Index count = 4, std::uint64_t seed = 32)
      : dice(seed), adapter(one_module_layout(what)), gradients(adapter.layout()) {
    fill_factors(adapter, dice);
    x = dice.matrix<double>(what.in, count);
    y0 = dice.matrix<double>(what.out, count);
    dy = dice.matrix<double>(what.out, count);
    h = Matrix<double>::Zero(what.rank, count);
  }
  Factors<const double> factors() const { return adapter.factors(0); }
  Matrix<double> forward_of(const CallOptions& o) {
    Matrix<double> y = y0;
    forward(factors(), x, y, h, o);
    return y;
  }

  Dice dice;
  Adapter<double> adapter;
  Gradients<double> gradients;
  Matrix<double> x, y0, dy, h;
};

void expect_close(const Matrix<double>& a, const Matrix<double>& b, double magnitude = 64) {
  ASSERT_EQ(a.rows(), b.rows());
  ASSERT_EQ(a.cols(), b.cols());
  // Values here are sums of at most 7 · 3 products of values up to 1.5, with at most 32 roundings.
  for (Index i = 0; i < a.size(); ++i)
    EXPECT_NEAR(a.data()[i], b.data()[i], rounding_bound<double>(32, magnitude)) << "number " << i;
}

TEST(ForwardOptions, ScaleMultipliesTheModulesScaling) {
  Fixture f;
  const Matrix<double> plain = f.forward_of({}), half = f.forward_of({.scale = 0.5});
  expect_close(plain - f.y0, 2 * (half - f.y0));
  EXPECT_TRUE(same_bits(f.forward_of({.scale = 0}), f.y0));
  EXPECT_FALSE(same_bits(plain, f.y0));
}

TEST(ForwardOptions, TokenScaleIsOneFactorPerToken) {
  Fixture f;
  const float scales[] = {1, 0, -2, 0.5f};
  const Matrix<double> plain = f.forward_of({}), scaled = f.forward_of({.token_scale = scales});
  for (Index t = 0; t < 4; ++t)
    expect_close(scaled.col(t) - f.y0.col(t), double(scales[t]) * (plain.col(t) - f.y0.col(t)));
}

TEST(ForwardOptions, OverwriteSetsWhatOtherwiseIsAdded) {
  Fixture f;
  const Matrix<double> added = f.forward_of({}), set = f.forward_of({.overwrite = true});
  expect_close(added, f.y0 + set);
  // Whatever was there before does not matter, not even NaN.
  f.y0.setConstant(std::numeric_limits<double>::quiet_NaN());
  EXPECT_TRUE(same_bits(f.forward_of({.overwrite = true}), set));
}

TEST(ForwardOptions, HInScratchOnTheStackOrTheCallersIsTheSame) {
  // 40 tokens of rank 300: more h than fits into the stack block, so that the work is done in several blocks.
  Fixture f({.in = 9, .out = 11, .rank = 300}, 40);
  const std::vector<float> scales = [&] {
    std::vector<float> values(40);
    f.dice.fill(values);
    return values;
  }();
  const CallOptions options = {.token_scale = scales.data(),
                               .dropout = {.probability = 0.25, .seed = 3, .first_token = 5}};
  const Matrix<double> expected = f.forward_of(options);
  std::vector<std::byte> scratch(scratch_bytes(f.factors(), 40) + 1);
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{2500}, scratch.size()}) {
    SCOPED_TRACE(std::to_string(size) + " bytes of scratch");
    CallOptions with_scratch = options;
    // Off by one byte: scratch needs no alignment.
    with_scratch.scratch = std::span(scratch).subspan(1).first(std::min(size, scratch.size() - 1));
    Matrix<double> y = f.y0;
    forward(f.factors(), f.x, y, with_scratch);
    EXPECT_TRUE(same_bits(y, expected));

    f.gradients.set_zero();
    Matrix<double> dx = Matrix<double>::Zero(9, 40);
    backward(f.factors(), f.x, f.h, f.dy, f.gradients.factors(0), dx, with_scratch);
    Gradients<double> by_halves(f.adapter.layout());
    Matrix<double> dx_by_halves = Matrix<double>::Zero(9, 40), dh(300, 40);
    expand_backward(f.factors(), f.h, f.dy, by_halves.factors(0), dh, options);
    shrink_backward(f.factors(), f.x, dh, by_halves.factors(0), dx_by_halves, options);
    EXPECT_TRUE(same_bits(dx, dx_by_halves));
    EXPECT_TRUE(same_bits<double>(f.gradients.values(), by_halves.values()));
  }
}

TEST(ForwardOptions, HCanBeRebuiltByShrink) {
  Fixture f;
  (void)f.forward_of({});
  Matrix<double> h(3, 4);
  shrink(f.factors(), f.x, h);
  EXPECT_TRUE(same_bits(h, f.h));
}

TEST(BackwardOptions, GradientsAndDxAccumulate) {
  Fixture f;
  (void)f.forward_of({});
  Matrix<double> dx = Matrix<double>::Zero(7, 4);
  backward(f.factors(), f.x, f.h, f.dy, f.gradients.factors(0), dx);
  const Matrix<double> dx_once = dx;
  const std::vector<double> once(f.gradients.values().begin(), f.gradients.values().end());
  backward(f.factors(), f.x, f.h, f.dy, f.gradients.factors(0), dx);
  expect_close(dx, 2 * dx_once);
  for (std::size_t i = 0; i < once.size(); ++i) {
    EXPECT_NE(once[i], 0);
    EXPECT_NEAR(f.gradients.values()[i], 2 * once[i], rounding_bound<double>(64, 256));
  }
}

TEST(BackwardOptions, OverwriteSetsDxButNeverGradients) {
  Fixture f;
  (void)f.forward_of({});
  Matrix<double> dx = Matrix<double>::Zero(7, 4), set(7, 4);
  set.setConstant(std::numeric_limits<double>::quiet_NaN());
  backward(f.factors(), f.x, f.h, f.dy, f.gradients.factors(0), dx);
  const std::vector<double> once(f.gradients.values().begin(), f.gradients.values().end());
  backward(f.factors(), f.x, f.h, f.dy, f.gradients.factors(0), set, {.overwrite = true});
  EXPECT_TRUE(same_bits(set, dx));
  for (std::size_t i = 0; i < once.size(); ++i) EXPECT_NE(f.gradients.values()[i], once[i]);
}

TEST(BackwardOptions, DxMayBeLeftOut) {
  Fixture f;
  (void)f.forward_of({});
  Matrix<double> dx = Matrix<double>::Zero(7, 4);
  backward(f.factors(), f.x, f.h, f.dy, f.gradients.factors(0), dx, {.scale = 0.5});
  Gradients<double> without(f.adapter.layout()), with_none(f.adapter.layout());
  backward(f.factors(), f.x, f.h, f.dy, without.factors(0), {.scale = 0.5});
  backward(f.factors(), f.x, f.h, f.dy, with_none.factors(0), none, {.scale = 0.5});
  EXPECT_TRUE(same_bits<double>(without.values(), f.gradients.values()));
  EXPECT_TRUE(same_bits<double>(with_none.values(), f.gradients.values()));
}

TEST(BackwardOptions, XMayBeLeftOutWhereAIsFrozen) {
  Fixture f({.trained = "Buv"});
  (void)f.forward_of({});
  Matrix<double> dx = Matrix<double>::Zero(7, 4), dx_without = dx;
  backward(f.factors(), f.x, f.h, f.dy, f.gradients.factors(0), dx);
  Gradients<double> without(f.adapter.layout());
  backward(f.factors(), none, f.h, f.dy, without.factors(0), dx_without);
  EXPECT_TRUE(same_bits(dx, dx_without));
  EXPECT_TRUE(same_bits<double>(without.values(), f.gradients.values()));
}

}  // namespace
}  // namespace tiedlora_test
