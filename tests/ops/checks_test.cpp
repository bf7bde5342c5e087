// What forward, backward and their stages refuse, by message; and the edges that they accept: no tokens, no
// rank, nothing trained.
#include <gtest/gtest.h>

#include <limits>
#include <tiedlora/adapter.hpp>
#include <tiedlora/ops.hpp>
#include <vector>

#include "support/bits.hpp"
#include "support/errors.hpp"
#include "support/one_module.hpp"
#include "support/reference.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

// Module "layers.0.proj", 7 → 5, rank 3, 4 tokens.
template <class P>
struct Operands {
  explicit Operands(const OneModule& what = {}, Index count = 4)
      : adapter(one_module_layout(what)), gradients(adapter.layout()) {
    Dice dice(33);
    fill_factors(adapter, dice);
    x = dice.matrix<P>(what.in, count);
    y = dice.matrix<P>(what.out, count);
    h = dice.matrix<P>(what.rank, count);
    dx = dice.matrix<P>(what.in, count);
    dy = dice.matrix<P>(what.out, count);
    dh = dice.matrix<P>(what.rank, count);
  }
  Factors<const P> f() const { return adapter.factors(0); }
  Factors<P> g() { return gradients.factors(0); }

  Adapter<P> adapter;
  Gradients<P> gradients;
  Matrix<P> x, y, h, dx, dy, dh;
};

constexpr const char* module_text = "module \"layers.0.proj\" (5x7, rank 3): ";

TEST(CallErrors, NameTheOperandTheModuleAndBothSizes) {
  Operands<float> o;
  Matrix<float> wrong = Matrix<float>::Zero(8, 4), few = Matrix<float>::Zero(7, 3);
  const auto expect_wide = [&](const char* what, const char* is, const auto& call) {
    SCOPED_TRACE(what);
    expect_error(call, {module_text, what, "8 features", is, "wrong base model"});
  };
  expect_wide("x has", "in_features is 7", [&] { shrink(o.f(), wrong, o.h); });
  expect_wide("h has", "the rank is 3", [&] { shrink(o.f(), o.x, wrong); });
  expect_wide("y has", "out_features is 5", [&] { expand(o.f(), o.h, wrong); });
  expect_wide("h has", "the rank is 3", [&] { expand(o.f(), wrong, o.y); });
  expect_wide("x has", "in_features is 7", [&] { forward(o.f(), wrong, o.y, o.h); });
  expect_wide("x has", "in_features is 7", [&] { forward(o.f(), wrong, o.y); });
  expect_wide("y has", "out_features is 5", [&] { forward(o.f(), o.x, wrong); });
  expect_wide("dy has", "out_features is 5", [&] { expand_backward(o.f(), o.h, wrong, o.g(), o.dh); });
  expect_wide("h has", "the rank is 3", [&] { expand_backward(o.f(), wrong, o.dy, o.g(), o.dh); });
  expect_wide("dh has", "the rank is 3", [&] { expand_backward(o.f(), o.h, o.dy, o.g(), wrong); });
  expect_wide("x has", "in_features is 7", [&] { shrink_backward(o.f(), wrong, o.dh, o.g(), o.dx); });
  expect_wide("dh has", "the rank is 3", [&] { shrink_backward(o.f(), o.x, wrong, o.g(), o.dx); });
  expect_wide("dx has", "in_features is 7", [&] { shrink_backward(o.f(), o.x, o.dh, o.g(), wrong); });
  expect_wide("x has", "in_features is 7", [&] { backward(o.f(), wrong, o.h, o.dy, o.g(), o.dx); });
  expect_wide("h has", "the rank is 3", [&] { backward(o.f(), o.x, wrong, o.dy, o.g(), o.dx); });
  expect_wide("dy has", "out_features is 5", [&] { backward(o.f(), o.x, o.h, wrong, o.g(), o.dx); });
  expect_wide("dx has", "in_features is 7", [&] { backward(o.f(), o.x, o.h, o.dy, o.g(), wrong); });

  expect_error([&] { forward(o.f(), few, o.y); }, {module_text, "y has 4 tokens", "has 3"});
  expect_error([&] { shrink(o.f(), few, o.h); }, {module_text, "h has 4 tokens", "has 3"});
  expect_error([&] { backward(o.f(), few, o.h, o.dy, o.g()); }, {module_text, "x has 3 tokens", "has 4"});
}

TEST(CallErrors, LeaveOutputsAndGradientsAsTheyWere) {
  Operands<float> o;
  const Operands<float> before = o;
  const Matrix<float> wrong = Matrix<float>::Zero(8, 4);
  EXPECT_THROW(forward(o.f(), wrong, o.y), Error);
  EXPECT_THROW(forward(o.f(), wrong, o.y, o.h), Error);
  EXPECT_THROW(backward(o.f(), wrong, o.h, o.dy, o.g(), o.dx), Error);
  EXPECT_THROW(backward(o.f(), none, o.h, o.dy, o.g(), o.dx), Error);
  Matrix<float> wrong_output = wrong;
  EXPECT_THROW(forward(o.f(), o.x, wrong_output, o.h), Error);
  EXPECT_THROW(backward(o.f(), o.x, o.h, o.dy, o.g(), wrong_output), Error);
  EXPECT_TRUE(same_bits(o.y, before.y));
  EXPECT_TRUE(same_bits(o.h, before.h));
  EXPECT_TRUE(same_bits(o.dx, before.dx));
  EXPECT_TRUE(same_bits<float>(o.gradients.values(), before.gradients.values()));
}

TEST(CallErrors, TheGradientOfATrainedANeedsX) {
  Operands<double> o;
  expect_error([&] { backward(o.f(), none, o.h, o.dy, o.g(), o.dx); },
               {module_text, "A is trained", "x is none"});
  expect_error([&] { shrink_backward(o.f(), none, o.dh, o.g(), none); }, {module_text, "A is trained"});
}

TEST(CallErrors, GradientsOfAnotherModule) {
  Operands<double> o, other({.in = 6}), wide({.out = 6}), thin({.rank = 2});
  for (Operands<double>* foreign : {&other, &wide, &thin}) {
    expect_error([&] { backward(o.f(), o.x, o.h, o.dy, foreign->g()); },
                 {module_text, "the gradient is that of module \"layers.0.proj\" ("});
    expect_error([&] { shrink_backward(o.f(), o.x, o.dh, foreign->g(), none); }, {"the gradient is that of"});
  }
  // q's and k's have one shape.
  Factors<const double> q = o.f();
  Factors<double> of_k = o.g();
  q.module = 0, of_k.module = 1;
  expect_error([&] { backward(q, o.x, o.h, o.dy, of_k, o.dx); }, {"the gradient is that of module"});
  of_k.module = -1;  // one made by hand says no module
  backward(q, o.x, o.h, o.dy, of_k, o.dx);
  // Gradients without any pointer belong to no module.
  backward(o.f(), none, o.h, o.dy, Factors<double>{}, o.dx);
}

TEST(CallErrors, Slices) {
  Operands<float> o;
  for (const Slice slice : {Slice{0, 0}, Slice{2, 2}, Slice{-1, 2}, Slice{0, -1}}) {
    expect_error([&] { shrink(o.f(), o.x, o.h, {.slice = slice}); },
                 {module_text, "slice", "does not exist"});
    expect_error([&] { expand(o.f(), o.h, o.y, {.slice = slice}); }, {"does not exist"});
  }
  const CallOptions sliced = {.slice = {0, 2}};
  expect_error([&] { forward(o.f(), o.x, o.y, o.h, sliced); }, {module_text, "takes no slice", "barrier"});
  expect_error([&] { forward(o.f(), o.x, o.y, sliced); }, {"takes no slice"});
  expect_error([&] { backward(o.f(), o.x, o.h, o.dy, o.g(), o.dx, sliced); }, {"takes no slice"});
  expect_error([&] { expand_backward(o.f(), o.h, o.dy, o.g(), o.dh, sliced); },
               {module_text, "takes no slice", "backward_in_blocks"});
  expect_error([&] { shrink_backward(o.f(), o.x, o.dh, o.g(), o.dx, sliced); }, {"takes no slice"});
}

// What a host checks at load time is what the calls would throw later.
TEST(CallErrors, ChecksAtLoadTime) {
  Operands<float> o, wide({.rank = 5000}, 2);
  const CpuBackend cpu;
  const auto view = [](auto& matrix) {
    return Tokens<std::remove_pointer_t<decltype(matrix.data())>>{matrix.data(), matrix.rows(), matrix.cols(),
                                                                  matrix.rows()};
  };
  check_forward(cpu, o.f(), view(o.x), view(o.y), view(o.h));
  check_forward(cpu, o.f(), view(o.x), view(o.y));
  check_backward(cpu, o.f(), view(o.x), view(o.h), view(o.dy), o.g(), view(o.dx));
  const char* no_room = "without scratch the rank can be at most 4096";
  check_forward(cpu, wide.f(), view(wide.x), view(wide.y), view(wide.h));
  expect_error([&] { check_forward(cpu, wide.f(), view(wide.x), view(wide.y)); },
               {"module \"layers.0.proj\"", no_room});
  expect_error([&] { forward(wide.f(), wide.x, wide.y); }, {no_room});
  expect_error(
      [&] {
        check_backward(cpu, wide.f(), view(wide.x), view(wide.h), view(wide.dy), wide.g(), view(wide.dx));
      },
      {no_room});
  std::vector<std::byte> scratch(scratch_bytes(wide.f(), 1));
  check_forward(cpu, wide.f(), view(wide.x), view(wide.y), {.scratch = scratch});
  forward(wide.f(), wide.x, wide.y, {.scratch = scratch});
  expect_error([&] { check_forward(cpu, o.f(), view(wide.x), view(o.y), view(o.h)); }, {"tokens"});
}

TEST(CallErrors, ModulesThatReadTheSameX) {
  Operands<float> o;
  const std::vector<Factors<const float>> modules(2, o.f());
  const std::vector<Factors<float>> gradients(2, o.g());
  const Tokens<float> h = {o.h.data(), 3, 4, 3};
  const std::vector<Tokens<float>> hs(2, h);
  const std::vector<Tokens<const float>> dhs(2, h);
  const std::span all(modules);
  const Matrix<float> wrong = Matrix<float>::Zero(8, 4);
  expect_error([&] { shrink(all, o.x, std::span(hs).first(1)); }, {"h must have", "2 modules, but has 1"});
  expect_error([&] { shrink(all, wrong, hs); }, {module_text, "in_features is 7", "8 features"});
  expect_error([&] { shrink_backward(all, none, dhs, gradients, none); },
               {module_text, "A is trained and its gradient needs x"});
  expect_error([&] { shrink_backward(all, wrong, dhs, gradients, none); }, {module_text, "8 features"});
  expect_error([&] { shrink_backward(all, o.x, std::span(dhs).first(1), gradients, none); },
               {"dh must have", "but has 1"});
  expect_error([&] { shrink_backward(all, o.x, dhs, std::span(gradients).first(1), none); },
               {"gradients must have", "but has 1"});
}

TEST(CallErrors, ARankOfZeroStillSetsDx) {
  Operands<float> o({.rank = 0});
  Matrix<float> wrong = Matrix<float>::Zero(8, 4), few = Matrix<float>::Zero(7, 3);
  const CallOptions overwrite = {.overwrite = true};
  const auto backward_into = [&](Matrix<float>& dx) {
    return [&] { backward(o.f(), o.x, o.h, o.dy, o.g(), dx, overwrite); };
  };
  expect_error(backward_into(wrong), {"dx has 8 features", "in_features is 7"});
  expect_error(backward_into(few), {"dx has 3 tokens"});
  expect_error([&] { shrink_backward(o.f(), o.x, o.dh, o.g(), wrong, overwrite); },
               {"dx has 8 features", "in_features is 7"});
}

TEST(CallErrors, DropoutProbabilities) {
  Operands<float> o;
  for (const double p : {1.0, -0.1, std::numeric_limits<double>::quiet_NaN()})
    expect_error([&] { forward(o.f(), o.x, o.y, {.dropout = {.probability = p}}); },
                 {module_text, "dropout.probability is"});
}

TEST(CallErrors, TokensThatOverlapOrLieNowhere) {
  Operands<float> o;
  const Tokens<const float> overlapping = {.data = o.x.data(), .width = 7, .count = 4, .stride = 6};
  expect_error([&] { shrink(o.f(), overlapping, o.h); },
               {module_text, "x has stride 6", "7 features wide", "overlap"});
  const Tokens<const float> nowhere = {.width = 7, .count = 4, .stride = 7};
  expect_error([&] { shrink(o.f(), nowhere, o.h); }, {module_text, "x is null"});
  // One token needs no stride.
  shrink(o.f(), Tokens<const float>{.data = o.x.data(), .width = 7, .count = 1}, o.h.leftCols(1));
}

TEST(CallErrors, RanksThatOverlap) {
  Operands<float> o;
  Factors<const float> f = o.f();
  f.a_stride = 0;
  expect_error([&] { shrink(f, o.x, o.h); }, {module_text, "a_stride is 0, less than in_features, 7"});
  expect_error([&] { forward(f, o.x, o.y, o.h); }, {"a_stride is 0"});
  expect_error([&] { shrink_backward(f, o.x, o.dh, o.g(), o.dx); }, {"a_stride is 0"});
  f = o.f(), f.b_stride = 4;
  expect_error([&] { expand(f, o.h, o.y); }, {module_text, "b_stride is 4, less than out_features, 5"});
  expect_error([&] { expand_backward(f, o.h, o.dy, o.g(), o.dh); }, {"b_stride is 4"});
  Factors<float> g = o.g();
  g.a_stride = 0;
  expect_error([&] { backward(o.f(), o.x, o.h, o.dy, g, o.dx); },
               {module_text, "the gradient's a_stride is 0"});
  g = o.g(), g.b_stride = 0;
  expect_error([&] { backward(o.f(), o.x, o.h, o.dy, g, o.dx); }, {"the gradient's b_stride is 0"});
  // One rank needs no stride.
  Operands<float> one({.rank = 1});
  f = one.f(), f.a_stride = f.b_stride = 0;
  forward(f, one.x, one.y, one.h);
}

TEST(CallErrors, AHugeRankWithoutScratch) {
  // The stack holds h of one token up to 16 KB.
  const Index rank = 16 * 1024 / static_cast<Index>(sizeof(double)) + 1;
  Operands<double> o({.in = 2, .out = 2, .rank = rank}, 1);
  expect_error([&] { forward(o.f(), o.x, o.y); }, {"rank can be at most 2048", "scratch_bytes"});
  std::vector<std::byte> scratch(scratch_bytes(o.f(), 1));
  Matrix<double> y = o.y;
  forward(o.f(), o.x, y, {.scratch = scratch});
  forward(o.f(), o.x, o.y, o.h);
  EXPECT_TRUE(same_bits(y, o.y));
}

// ---------------------------------------------------------------------------------------------------------------------
// Edges that are not errors

TEST(CallEdges, NoTokens) {
  Operands<float> o({}, 0);
  const std::vector<float> before(o.gradients.values().begin(), o.gradients.values().end());
  forward(o.f(), o.x, o.y);
  forward(o.f(), o.x, o.y, o.h, {.overwrite = true, .dropout = {.probability = 0.5}});
  backward(o.f(), o.x, o.h, o.dy, o.g(), o.dx, {.overwrite = true});
  for (Index nth = 1; nth < 4; ++nth) shrink(o.f(), o.x, o.h, {.slice = {nth - 1, nth}});
  expand_backward(o.f(), o.h, o.dy, o.g(), o.dh);
  shrink_backward(o.f(), o.x, o.dh, o.g(), o.dx);
  EXPECT_TRUE(same_bits<float>(o.gradients.values(), before));
  // What may be left out may be so here too, by a view of nothing.
  Factors<float> frozen = o.g();
  frozen.A = nullptr;
  backward(o.f(), Tokens<const float>(), o.h, o.dy, frozen, Tokens<float>());
  check_backward(o.f(), none, o.h, o.dy, frozen, Tokens<float>());
  shrink_backward(o.f(), Tokens<const float>(), o.dh, frozen, none);
  // A cut of no features has no memory, and is there.
  for (const Index count : {0, 2}) {
    Operands<float> cut({}, count);
    backward(slice_in(cut.f(), 0, 0), Matrix<float>(0, count), cut.h, cut.dy, slice_in(cut.g(), 0, 0));
  }
}

TEST(CallEdges, ModulesWithoutRankNeedNoDx) {
  Operands<float> o({.rank = 0});
  const std::vector<Factors<const float>> modules(2, o.f());
  const std::vector<Factors<float>> gradients(2, o.g());
  const std::vector<Tokens<const float>> dhs(2, Tokens<const float>{.count = 4});
  shrink_backward(std::span(modules), o.x, dhs, gradients, Tokens<float>());
  shrink_backward(std::span(modules), o.x, dhs, gradients,
                  Tokens<float>{.width = 7, .count = 4, .stride = 7});
}

TEST(CallEdges, AModuleOfRankZeroDoesNothing) {
  const Layout layout(one_kind(1, 7, 5), schemes::tied_lora(), 0);
  const Adapter<float> adapter(layout);
  Gradients<float> gradients(layout);
  Operands<float> o;
  const Operands<float> before = o;
  const auto f = adapter.factors(0);
  EXPECT_EQ(f.rank, 0);
  Matrix<float> h(0, 4);
  shrink(f, o.x, h);
  expand(f, h, o.y);
  forward(f, o.x, o.y);
  forward(f, o.x, o.y, h);
  backward(f, o.x, h, o.dy, gradients.factors(0), o.dx);
  backward(f, none, h, o.dy, gradients.factors(0));
  expand_backward(f, h, o.dy, gradients.factors(0), h);
  EXPECT_TRUE(same_bits(o.y, before.y));
  EXPECT_TRUE(same_bits(o.dx, before.dx));

  // Except that an output to be set is set: to zero.
  forward(f, o.x, o.y, {.overwrite = true});
  backward(f, o.x, h, o.dy, gradients.factors(0), o.dx, {.overwrite = true});
  EXPECT_TRUE(o.y.isZero(0));
  EXPECT_TRUE(o.dx.isZero(0));
  o = before;
  for (Index ith = 0; ith < 3; ++ith) expand(f, h, o.y, {.overwrite = true, .slice = {ith, 3}});
  shrink_backward(f, o.x, h, gradients.factors(0), o.dx, {.overwrite = true});
  EXPECT_TRUE(o.y.isZero(0));
  EXPECT_TRUE(o.dx.isZero(0));
}

TEST(CallEdges, FrozenFactorsHaveNoGradient) {
  for (const char* trained : {"", "A", "B", "u", "v", "AB", "uv", "Bv", "Au", "ABuv"}) {
    SCOPED_TRACE(std::string("trained: ") + trained);
    const std::string_view letters = trained;
    Operands<float> o({.trained = letters});
    const auto has = [&](char letter) { return letters.find(letter) != std::string_view::npos; };
    EXPECT_EQ(o.g().A != nullptr, has('A'));
    EXPECT_EQ(o.g().B != nullptr, has('B'));
    EXPECT_EQ(o.g().u != nullptr, has('u'));
    EXPECT_EQ(o.g().v != nullptr, has('v'));
    const std::vector<float> frozen(o.adapter.frozen().begin(), o.adapter.frozen().end());
    const Matrix<float> dx_before = o.dx;
    backward(o.f(), o.x, o.h, o.dy, o.g(), o.dx);
    EXPECT_FALSE(same_bits(o.dx, dx_before));  // dx is there whatever is trained
    // A view without memory stands for what is not there, as `none` does.
    const Tokens<const float> no_x = {nullptr, 7, 4, 7};
    const Tokens<float> no_dx = {nullptr, 7, 4, 7};
    Operands<float> without({.trained = letters});
    if (has('A')) {
      expect_error([&] { backward(o.f(), no_x, o.h, o.dy, o.g(), o.dx); },
                   {module_text, "A is trained", "x is none"});
      backward(without.f(), without.x, without.h, without.dy, without.g(), no_dx);
    } else {
      check_backward(o.f(), no_x, o.h, o.dy, o.g(), no_dx);
      backward(without.f(), no_x, without.h, without.dy, without.g(), no_dx);
    }
    EXPECT_TRUE(same_bits<float>(without.gradients.values(), o.gradients.values()));
    for (const float g : o.gradients.values()) EXPECT_NE(g, 0);
    EXPECT_TRUE(same_bits<float>(o.adapter.frozen(), frozen));
  }
}

}  // namespace
}  // namespace tiedlora_test
