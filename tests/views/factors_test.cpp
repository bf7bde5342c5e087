// A module cut over devices: their partial sums of h add up to the whole, their outputs are its rows.
#include <gtest/gtest.h>

#include <algorithm>
#include <tiedlora/adapter.hpp>
#include <tiedlora/ops.hpp>

#include "support/errors.hpp"
#include "support/one_module.hpp"
#include "support/reference.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

constexpr Index in = 23, out = 19, rank = 3, count = 4;
constexpr Index in_cuts[] = {0, 7, 8, 23}, out_cuts[] = {0, 1, 10, 19};  // at no vector's boundary

// Integers of a few bits: all sums are exact, so that the parts must add up to the whole.
struct Operands {
  Operands() : adapter(one_module_layout({.in = in, .out = out, .rank = rank, .scaling = 2})) {
    Dice dice(60);
    const auto fill = [&dice](auto numbers) {
      for (float& number : numbers) number = static_cast<float>(dice.integer(-3, 3));
    };
    fill(adapter.trainable());
    for (Matrix<float>* matrix : {&x, &y, &dy, &dx})
      fill(std::span(matrix->data(), static_cast<std::size_t>(matrix->size())));
  }
  Factors<const float> f() const { return adapter.factors(0); }

  Adapter<float> adapter;
  Matrix<float> x{in, count}, y{out, count}, dy{out, count}, dx{in, count};
};

TEST(SliceIn, PartialHAddsUpToTheWhole) {
  const Operands run;
  Matrix<float> h(rank, count), part(rank, count), sum = Matrix<float>::Zero(rank, count);
  shrink(run.f(), run.x, h);
  Matrix<float> y = run.y, y_of_parts = run.y;
  expand(run.f(), h, y);
  for (int device = 0; device < 3; ++device) {
    const Index begin = in_cuts[device], n = in_cuts[device + 1] - begin;
    const Factors<const float> f = slice_in(run.f(), begin, n);
    shrink(f, run.x.middleRows(begin, n), part);
    sum += part;
    expand(f, part, y_of_parts);  // into the partial outputs that the base layer adds up anyway
  }
  EXPECT_EQ(sum, h);
  EXPECT_EQ(y_of_parts, y);
}

TEST(SliceOut, OutputsAreTheRowsOfTheWhole) {
  const Operands run;
  Matrix<float> h(rank, count), y = run.y, parts = run.y;
  forward(run.f(), run.x, y, h);
  for (int device = 0; device < 3; ++device) {
    const Index begin = out_cuts[device], n = out_cuts[device + 1] - begin;
    forward(slice_out(run.f(), begin, n), run.x, parts.middleRows(begin, n));
  }
  EXPECT_EQ(parts, y);
}

// Each device's gradients go into its cut of one array; dh, or h, is exchanged where the docstrings say so.
TEST(Slices, BackwardOfThePartsIsThatOfTheWhole) {
  const Operands run;
  Gradients<float> whole(run.adapter.layout()), by_in = whole, by_out = whole;
  Matrix<float> h(rank, count), dh(rank, count), dx = run.dx, dx_by_in = run.dx, dx_by_out = run.dx;
  shrink(run.f(), run.x, h);
  expand_backward(run.f(), h, run.dy, whole.factors(0), dh);
  shrink_backward(run.f(), run.x, dh, whole.factors(0), dx);

  // Over outputs: dh is the sum of the devices', then everyone's dx and dA are the whole ones.
  Matrix<float> sum = Matrix<float>::Zero(rank, count), part(rank, count);
  for (int device = 0; device < 3; ++device) {
    const Index begin = out_cuts[device], n = out_cuts[device + 1] - begin;
    expand_backward(slice_out(run.f(), begin, n), h, run.dy.middleRows(begin, n),
                    slice_out(by_out.factors(0), begin, n), part);
    sum += part;
  }
  EXPECT_EQ(sum, dh);
  shrink_backward(run.f(), run.x, sum, by_out.factors(0), dx_by_out);
  EXPECT_EQ(dx_by_out, dx);
  EXPECT_TRUE(std::ranges::equal(by_out.values(), whole.values()));

  // Over inputs: with the whole h, dh and the gradients of B, u, v are everyone's; dA and dx are cut.
  expand_backward(run.f(), h, run.dy, by_in.factors(0), dh);
  for (int device = 0; device < 3; ++device) {
    const Index begin = in_cuts[device], n = in_cuts[device + 1] - begin;
    shrink_backward(slice_in(run.f(), begin, n), run.x.middleRows(begin, n), dh,
                    slice_in(by_in.factors(0), begin, n), dx_by_in.middleRows(begin, n));
  }
  EXPECT_EQ(dx_by_in, dx);
  EXPECT_TRUE(std::ranges::equal(by_in.values(), whole.values()));
}

TEST(Slices, AbsentFactorsStayAbsent) {
  const Adapter<float> adapter(one_module_layout({.in = in, .out = out, .rank = rank, .present = "AB"}));
  EXPECT_EQ(slice_out(adapter.factors(0), 2, 3).v, nullptr);
  Factors<float> none;
  none.in_features = in, none.out_features = out;
  EXPECT_EQ(slice_in(none, 2, 3).A, nullptr);
  EXPECT_EQ(slice_out(none, 2, 3).B, nullptr);
}

TEST(Slices, RefuseWhatDoesNotExist) {
  const Operands run;
  expect_error([&] { (void)slice_in(run.f(), 20, 4); },
               {"\"layers.0.proj\" (19x23, rank 3)", "4 input features from 20 on"});
  expect_error([&] { (void)slice_in(run.f(), -1, 4); }, {"4 input features from -1 on"});
  expect_error([&] { (void)slice_out(run.f(), 19, 1); }, {"1 output features from 19 on"});
  expect_error([&] { (void)slice_out(run.f(), 0, -1); }, {"-1 output features from 0 on"});
  EXPECT_EQ(slice_out(run.f(), 19, 0).out_features, 0);
}

}  // namespace
}  // namespace tiedlora_test
