#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <tiedlora/adapter.hpp>
#include <tiedlora/adapter/merge.hpp>
#include <tiedlora/ops.hpp>
#include <vector>

#include "support/bits.hpp"
#include "support/errors.hpp"
#include "support/one_module.hpp"
#include "support/reference.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

constexpr Index in = 7, out = 5, rank = 3;

template <class P>
Adapter<P> random_adapter(const char* present = "ABuv", std::uint64_t seed = 110) {
  Adapter<P> adapter(
      one_module_layout({.in = in, .out = out, .rank = rank, .present = present, .trained = present}));
  Dice dice(seed);
  fill_factors(adapter, dice);
  return adapter;
}

// Each element of ΔW is rounded in the wider of the adapter's and the weight's sums, and the sum once to the
// weight.
template <class P, class W>
double merge_bound(double element, double magnitude) {
  return rounding_bound<accumulator_t<P>>(rank + 8, magnitude) +
         rounding_bound<W>(1, std::abs(element) + magnitude);
}

template <class P, class W, class Weights>
void expect_merged(const Factors<const P>& f, const Weights& merged, const Matrix<W>& before, double scale) {
  const Matrix<double> delta = delta_weight(f, scale), magnitude = delta_weight(f, scale, true);
  for (Index i = 0; i < out; ++i)
    for (Index j = 0; j < in; ++j) {
      const double w = static_cast<double>(before(i, j));
      EXPECT_NEAR(static_cast<double>(merged(i, j)), w + delta(i, j), (merge_bound<P, W>(w, magnitude(i, j))))
          << i << ", " << j;
    }
}

template <class P, class W>
void expect_merge() {
  for (const char* present : {"AB", "ABu", "ABv", "ABuv"}) {
    SCOPED_TRACE(present);
    const Adapter<P> adapter = random_adapter<P>(present);
    const Factors<const P> f = adapter.factors(0);
    const Matrix<W> before = Dice(111).matrix<W>(out, in);
    Matrix<W> columns = before;
    RowMatrix<W> rows = before;
    merge(f, columns);
    merge(f, rows);
    expect_merged(f, columns, before, 1);
    EXPECT_TRUE(same_bits<Matrix<W>>(rows, columns));

    columns = before;
    merge(f, columns, -0.5);
    expect_merged(f, columns, before, -0.5);
  }
}

TEST(Merge, AddsDeltaWInEitherOrderAndAnyType) {
  expect_merge<float, float>();
  expect_merge<double, double>();
  expect_merge<float, double>();
  expect_merge<double, float>();
  expect_merge<float, Eigen::bfloat16>();
  expect_merge<float, Eigen::half>();
  expect_merge<Eigen::bfloat16, Eigen::bfloat16>();
  expect_merge<Eigen::half, float>();
}

TEST(Merge, EqualsForward) {
  // y = W x + forward(x) is (merged W) x, here with x the identity: column j of forward is column j of ΔW.
  const Adapter<double> adapter = random_adapter<double>();
  const Factors<const double> f = adapter.factors(0);
  const Matrix<double> identity = Matrix<double>::Identity(in, in);
  Matrix<double> merged = Dice(112).matrix<double>(out, in), y = merged;
  const Matrix<double> magnitude = delta_weight(f, 0.7, true), before = y;
  forward(f, identity, y, {.scale = 0.7});
  merge(f, merged, 0.7);
  for (Index i = 0; i < out; ++i)
    for (Index j = 0; j < in; ++j)
      EXPECT_NEAR(merged(i, j), y(i, j),
                  rounding_bound<double>(2 * forward_roundings(f), magnitude(i, j) + std::abs(before(i, j))));
}

TEST(Merge, AnOutputIsRoundedOnce) {
  // 1 + ΔW lies just above the middle of two floats. Rounding ΔW to float first would land on the middle,
  // which then rounds to even: down.
  const double half_ulp = 0x1p-24;
  Adapter<double> adapter(one_module_layout({.in = 1, .out = 1, .rank = 1, .present = "AB", .scaling = 1}));
  adapter.A(0)(0, 0) = half_ulp * (1 + 0x1p-26);
  adapter.B(0)(0, 0) = 1;
  float w = 1;
  merge(adapter.factors(0), Weight<float>{.data = &w, .rows = 1, .columns = 1});
  EXPECT_EQ(w, 1 + 0x1p-23f);
}

TEST(Merge, TouchesTheWeightAlone) {
  const Adapter<float> adapter = random_adapter<float>();
  const Factors<const float> f = adapter.factors(0);
  Matrix<float> expected = Dice(113).matrix<float>(out, in);
  const Matrix<float> before = expected;
  merge(f, expected);

  // A block of a larger matrix, in both orders.
  Matrix<float> columns = Matrix<float>::Constant(out + 3, in + 2, 9), columns_after = columns;
  columns.block(2, 1, out, in) = before, columns_after.block(2, 1, out, in) = expected;
  merge(f, columns.block(2, 1, out, in));
  EXPECT_TRUE(same_bits(columns, columns_after));
  RowMatrix<float> rows = RowMatrix<float>::Constant(out + 3, in + 2, 9), rows_after = rows;
  rows.block(2, 1, out, in) = before, rows_after.block(2, 1, out, in) = expected;
  merge(f, rows.block(2, 1, out, in));
  EXPECT_TRUE(same_bits(rows, rows_after));

  // Raw memory with strides in both directions: every second number of rows of 20, backwards.
  std::vector<float> memory(static_cast<std::size_t>(20 * out + 1), 9.0f);
  const Weight<float> weight = {
      .data = memory.data() + 16, .rows = out, .columns = in, .row_stride = 20, .column_stride = -2};
  const auto at = [&](Index i, Index j) -> float& {
    return memory[static_cast<std::size_t>(16 + 20 * i - 2 * j)];
  };
  for (Index i = 0; i < out; ++i)
    for (Index j = 0; j < in; ++j) at(i, j) = before(i, j);
  merge(f, weight);
  for (Index i = 0; i < out; ++i)
    for (Index j = 0; j < in; ++j) {
      EXPECT_EQ(at(i, j), expected(i, j));
      at(i, j) = 9;
    }
  for (const float value : memory) EXPECT_EQ(value, 9);
}

TEST(Merge, UnmergeTakesItOffAgain) {
  const Adapter<double> adapter = random_adapter<double>();
  const Factors<const double> f = adapter.factors(0);
  const Matrix<double> before = Dice(114).matrix<double>(out, in), magnitude = delta_weight(f, 2.5, true);
  Matrix<double> w = before;
  merge(f, w, 2.5);
  EXPECT_FALSE(same_bits(w, before));
  unmerge(f, w, 2.5);
  for (Index i = 0; i < w.size(); ++i)
    EXPECT_NEAR(w.data()[i], before.data()[i],
                rounding_bound<double>(2, std::abs(before.data()[i]) + magnitude.data()[i]));
}

TEST(Merge, OfRankZeroChangesNothing) {
  const Adapter<float> adapter(Layout(one_kind(1, in, out), schemes::tied_lora(), 0));
  const Matrix<float> before = Dice(115).matrix<float>(out, in);
  Matrix<float> w = before;
  merge(adapter.factors(0), w);
  EXPECT_TRUE(same_bits(w, before));
}

TEST(Merge, NamesTheModuleAndBothShapes) {
  const Adapter<float> adapter = random_adapter<float>();
  Matrix<float> transposed = Matrix<float>::Zero(in, out);
  const auto parts = {std::string_view("\"layers.0.proj\""), std::string_view("weight is 7x5"),
                      std::string_view("adapter is for 5x7"),
                      std::string_view("transposed weight such as GPT-2's")};
  expect_error([&] { merge(adapter.factors(0), transposed); }, parts);
  expect_error([&] { unmerge(adapter.factors(0), transposed); }, parts);
  expect_error([&] { const MergedWeight guard(adapter.factors(0), transposed); }, parts);
  EXPECT_TRUE(transposed.isZero(0));
  merge(adapter.factors(0), transposed.transpose());  // GPT-2's, passed as it should be
  EXPECT_FALSE(transposed.isZero(0));
}

TEST(Merge, RefusesAWeightWhoseElementsOverlap) {
  const Adapter<float> adapter = random_adapter<float>();
  std::vector<float> memory(static_cast<std::size_t>(4 * out * in), 0.0f);
  const auto with = [&](Index row_stride, Index column_stride) {
    return Weight<float>{memory.data() + 2 * out * in, out, in, row_stride, column_stride};
  };
  for (const Weight<float>& weight :
       {with(0, 1), with(in - 1, 1), with(1, 0), with(1, out - 1), with(0, 0), with(1, 1)})
    expect_error([&] { merge(adapter.factors(0), weight); },
                 {"\"layers.0.proj\"", "elements overlap", "row_stride is",
                  "dense row-major weight has row_stride 7"});
  EXPECT_TRUE(std::all_of(memory.begin(), memory.end(), [](float value) { return value == 0; }));
  for (const Weight<float>& weight :
       {with(in, 1), with(in + 3, 1), with(1, out), with(2, 2 * out), with(-in, 1), with(in, -1)})
    EXPECT_NO_THROW(merge(adapter.factors(0), weight));
}

template <class W>
void expect_restored() {
  const Adapter<float> adapter = random_adapter<float>();
  const Factors<const float> f = adapter.factors(0);
  Matrix<W> w = Dice(116).matrix<W>(out, in, -1000, 1000);
  // What subtracting could not bring back.
  w(0, 0) = static_cast<W>(-0.0f);
  w(1, 1) = std::numeric_limits<W>::infinity();
  w(2, 2) = std::numeric_limits<W>::quiet_NaN();
  w(3, 3) = static_cast<W>(1e-7f);
  const Matrix<W> before = w;
  Matrix<W> merged = w;
  merge(f, merged, 3);
  {
    const MergedWeight guard(f, w, 3);
    EXPECT_TRUE(same_bits(w, merged));
    EXPECT_FALSE(same_bits(w, before));
  }
  EXPECT_TRUE(same_bits(w, before));

  RowMatrix<W> rows = before;
  {
    const Weight<W> view = {.data = rows.data(), .rows = out, .columns = in, .row_stride = in};
    const MergedWeight guard(f, view, 3);
    EXPECT_TRUE(same_bits<Matrix<W>>(rows, merged));
  }
  EXPECT_TRUE(same_bits<Matrix<W>>(rows, before));
}

TEST(MergedWeight, RestoresEveryBit) {
  expect_restored<float>();
  expect_restored<double>();
  expect_restored<Eigen::bfloat16>();
  expect_restored<Eigen::half>();
}

}  // namespace
}  // namespace tiedlora_test
