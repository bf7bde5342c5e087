// Where an adapter's parameters lie, who owns them, and what copies, moves, casts and sharing do to them.
#include <gtest/gtest.h>

#include <cstdint>
#include <numeric>
#include <tiedlora/adapter.hpp>
#include <utility>
#include <vector>

#include "support/bits.hpp"
#include "support/errors.hpp"
#include "support/models.hpp"
#include "support/reference.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

// 2 layers, 3 → 5, rank 2: frozen A 6; trained B 10, v 5 + 5, u 2 + 2.
Layout small_layout() {
  Scheme scheme = schemes::tied_lora();
  scheme.A.trained = false;
  return Layout(one_kind(2, 3, 5), scheme, 2, {.scaling = 0.5});
}

// Every value is its own place: trained 0, 1, …; frozen 100, 101, ….
Adapter<float> counted_adapter() {
  const Layout layout = small_layout();
  std::vector<float> trained(static_cast<std::size_t>(layout.trainable_count()));
  std::iota(trained.begin(), trained.end(), 0.0f);
  Adapter<float> adapter(layout);
  std::copy(trained.begin(), trained.end(), adapter.trainable().begin());
  for (Index k = 0; k < 2; ++k)
    for (Index j = 0; j < 3; ++j) adapter.A(0)(k, j) = static_cast<float>(100 + 3 * k + j);
  return adapter;
}

bool aligned(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 64 == 0; }

TEST(Adapter, HasItsNumbersElsewhereInAPageThanItsGradients) {
  const auto place_in_page = [](const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 4096; };
  const Layout layout(one_kind(1, 1024, 1024), schemes::lora(), 4);
  EXPECT_NE(place_in_page(Adapter<float>(layout).trainable().data()),
            place_in_page(Gradients<float>(layout).values().data()));
}

TEST(Adapter, StartsAtZeroInAlignedMemory) {
  const Adapter<float> adapter(small_layout());
  EXPECT_TRUE(aligned(adapter.trainable().data()));
  EXPECT_TRUE(aligned(adapter.frozen().data()));
  EXPECT_EQ(adapter.trainable().size(), 24u);
  EXPECT_EQ(adapter.frozen().size(), 6u);
  for (const float value : adapter.trainable()) EXPECT_EQ(value, 0);
  for (const float value : adapter.frozen()) EXPECT_EQ(value, 0);
}

TEST(Adapter, FactorsPointIntoTheFlatArrays) {
  const Adapter<float> adapter = counted_adapter();
  const float *trained = adapter.trainable().data(), *frozen = adapter.frozen().data();
  const Factors<const float> f = adapter.factors(1);
  EXPECT_EQ(f.A, frozen);
  EXPECT_EQ(f.a_stride, 3);
  EXPECT_EQ(f.B, trained);
  EXPECT_EQ(f.b_stride, 5);
  EXPECT_EQ(f.v, trained + 15);
  EXPECT_EQ(f.u, trained + 22);
  EXPECT_EQ(f.scaling, 0.5f);
  EXPECT_EQ(f.rank, 2);
  EXPECT_EQ(f.in_features, 3);
  EXPECT_EQ(f.out_features, 5);
  EXPECT_EQ(f.module, 1);
  EXPECT_STREQ(f.name, "layers.1.proj");
  static_assert(std::is_trivially_copyable_v<Factors<const float>>);
  static_assert(std::is_convertible_v<Factors<float>, Factors<const float>>);
}

TEST(Adapter, FactorsCarryTheModulesOwnRankAndScaling) {
  const Adapter<double> adapter(
      Layout(one_kind(3, 3, 5), schemes::lora(), 2,
             {.scaling = 0.5, .ranks = {{"layers.1.proj", 4}}, .scalings = {{"layers.2.proj", -3.0}}}));
  const double scalings[] = {0.5, 0.5, -3};
  const Index ranks[] = {2, 4, 2};
  for (Index m = 0; m < 3; ++m) {
    EXPECT_EQ(adapter.factors(m).scaling, scalings[m]);
    EXPECT_EQ(adapter.factors(m).rank, ranks[m]);
  }
}

TEST(Adapter, MapsShowTheMatrices) {
  const Adapter<float> adapter = counted_adapter();
  Matrix<float> A(2, 3), B(5, 2);
  A << 100, 101, 102, 103, 104, 105;          // rows of `in`
  B << 0, 5, 1, 6, 2, 7, 3, 8, 4, 9;          // columns of `out`
  EXPECT_EQ(Matrix<float>(adapter.A(1)), A);  // tied
  EXPECT_EQ(Matrix<float>(adapter.B(0)), B);
  EXPECT_EQ(adapter.v(1)(2), 17);
  EXPECT_EQ(adapter.u(1)(1), 23);
}

TEST(Adapter, AModuleSeesTheCornerOfALargerSharedMatrix) {
  ModuleList modules;
  modules.add({.name = "small", .layer = 0, .in_features = 2, .out_features = 3});
  modules.add({.name = "large", .layer = 0, .in_features = 4, .out_features = 5});
  Adapter<double> adapter(Layout(modules, schemes::vera(), 2));
  Dice dice(80);
  fill_factors(adapter, dice);
  EXPECT_EQ(Matrix<double>(adapter.A(0)), Matrix<double>(adapter.A(1).leftCols(2)));
  EXPECT_EQ(Matrix<double>(adapter.B(0)), Matrix<double>(adapter.B(1).topRows(3)));
  EXPECT_EQ(adapter.A(0).rows(), 2);
  EXPECT_EQ(adapter.factors(0).a_stride, 4);
  EXPECT_EQ(adapter.factors(0).b_stride, 5);
}

TEST(Adapter, WritingThroughAMapChangesAllThatShare) {
  Adapter<float> adapter = counted_adapter();
  adapter.B(0)(4, 1) = -1;
  EXPECT_EQ(std::as_const(adapter).B(1)(4, 1), -1);
  adapter.v(0)(0) = -2;
  EXPECT_EQ(adapter.v(1)(0), 15);
}

TEST(Adapter, MapsOfAbsentFactorsAreEmpty) {
  Adapter<float> adapter(Layout(one_kind(2, 3, 5), schemes::lora(), 2, {.ranks = {{"layers.1.proj", 0}}}));
  EXPECT_EQ(adapter.u(0).size(), 0);
  EXPECT_EQ(adapter.v(0).size(), 0);
  EXPECT_EQ(adapter.A(1).size(), 0);
  EXPECT_EQ(std::as_const(adapter).B(1).size(), 0);
  EXPECT_EQ(adapter.A(0).size(), 6);
}

TEST(Adapter, CopiesAreDeep) {
  Adapter<float> adapter = counted_adapter();
  const Adapter<float> copy = adapter;
  EXPECT_NE(copy.trainable().data(), std::as_const(adapter).trainable().data());
  EXPECT_NE(copy.frozen().data(), adapter.frozen().data());
  adapter.B(0)(0, 0) = 50;
  adapter.A(0)(0, 0) = 60;
  EXPECT_EQ(copy.trainable()[0], 0);
  EXPECT_EQ(copy.frozen()[0], 100);
  adapter = copy;
  EXPECT_EQ(adapter.trainable()[0], 0);
  EXPECT_EQ(adapter.frozen()[0], 100);
}

TEST(Adapter, ViewsStayValidAcrossAMove) {
  Adapter<float> adapter = counted_adapter();
  const Factors<const float> f = adapter.factors(1);
  const std::span<const float> trained = std::as_const(adapter).trainable();
  Adapter<float> moved = std::move(adapter);
  EXPECT_EQ(moved.factors(1).B, f.B);
  EXPECT_EQ(moved.factors(1).A, f.A);
  EXPECT_EQ(moved.factors(1).name, f.name);
  EXPECT_EQ(trained[23], 23);
  Adapter<float> other(small_layout());
  other = std::move(moved);
  EXPECT_EQ(other.factors(1).v, f.v);
  EXPECT_STREQ(f.name, "layers.1.proj");
}

TEST(Adapter, CastRoundsEveryNumberOnce) {
  Adapter<double> adapter(small_layout());
  Dice dice(81);
  fill_factors(adapter, dice);
  const Adapter<float> narrow = adapter.cast<float>();
  const Adapter<Eigen::bfloat16> narrower = adapter.cast<Eigen::bfloat16>();
  const auto wide = std::as_const(adapter).trainable();
  for (std::size_t i = 0; i < wide.size(); ++i) {
    EXPECT_EQ(narrow.trainable()[i], static_cast<float>(wide[i]));
    EXPECT_EQ(narrower.trainable()[i], static_cast<Eigen::bfloat16>(wide[i]));
  }
  for (std::size_t i = 0; i < adapter.frozen().size(); ++i)
    EXPECT_EQ(narrow.frozen()[i], static_cast<float>(adapter.frozen()[i]));
  EXPECT_TRUE(narrow.layout() == adapter.layout());
  static_assert(std::is_same_v<decltype(narrower.factors(0).scaling), float>);
}

TEST(AdapterView, WrapsTheCallersMemory) {
  const Adapter<float> adapter = counted_adapter();
  std::vector<float> trained(adapter.trainable().begin(), adapter.trainable().end()),
      frozen(adapter.frozen().begin(), adapter.frozen().end());
  const AdapterView<float> view(adapter.layout(), trained, frozen);
  EXPECT_EQ(view.factors(1).v, trained.data() + 15);
  EXPECT_EQ(view.factors(0).A, frozen.data());
  EXPECT_EQ(view.trainable().data(), trained.data());
  view.trainable()[15] = -5;
  EXPECT_EQ(view.v(1)(0), -5);
  EXPECT_EQ(Matrix<float>(view.A(0)), Matrix<float>(adapter.A(0)));
  EXPECT_EQ(Matrix<float>(view.B(0)), Matrix<float>(adapter.B(0)));
  EXPECT_EQ(view.u(1)(1), 23);

  const AdapterView<const float> of_adapter = adapter.view();
  EXPECT_EQ(of_adapter.factors(1).u, adapter.factors(1).u);
}

TEST(AdapterView, RefusesArraysOfAnotherLength) {
  const Layout layout = small_layout();
  std::vector<float> right(24), frozen(6), wrong(23);
  expect_error([&] { AdapterView<float>(layout, wrong, frozen); }, {"24 trainable and 6 frozen", "23 and 6"});
  expect_error([&] { AdapterView<float>(layout, right, wrong); }, {"24 trainable and 6 frozen", "24 and 23"});
}

TEST(Gradients, HaveTheLayoutOfTheTrainedNumbers) {
  Gradients<float> gradients(small_layout());
  EXPECT_TRUE(aligned(gradients.values().data()));
  EXPECT_EQ(gradients.values().size(), 24u);
  const Factors<float> g = gradients.factors(1);
  EXPECT_EQ(g.A, nullptr);  // frozen
  EXPECT_EQ(g.B, gradients.values().data());
  EXPECT_EQ(g.v, gradients.values().data() + 15);
  EXPECT_EQ(g.u, gradients.values().data() + 22);
  EXPECT_EQ(gradients.A(1).size(), 0);
  EXPECT_EQ(gradients.B(1).rows(), 5);
  gradients.v(1)(0) = 3;
  EXPECT_EQ(std::as_const(gradients).values()[15], 3);
  EXPECT_EQ(std::as_const(gradients).v(1)(0), 3);
  gradients.set_zero();
  for (const float value : gradients.values()) EXPECT_EQ(value, 0);
}

TEST(Gradients, AddUp) {
  Gradients<double> a(small_layout()), b(small_layout());
  std::iota(a.values().begin(), a.values().end(), 1.0);
  std::iota(b.values().begin(), b.values().end(), 100.0);
  a.add(b);
  for (std::size_t i = 0; i < 24; ++i) EXPECT_EQ(a.values()[i], 101.0 + 2 * static_cast<double>(i));
  EXPECT_EQ(b.values()[0], 100);
  const Gradients<double> other(Layout(one_kind(2, 3, 5), schemes::lora(), 2));
  expect_error([&] { a.add(other); }, {"different layouts"});
}

TEST(Gradients, CopiesAreDeepAndViewsSurviveAMove) {
  Gradients<float> gradients(small_layout());
  const Factors<float> g = gradients.factors(0);
  const Gradients<float> copy = gradients;
  *g.B = 9;
  EXPECT_EQ(copy.values()[0], 0);
  Gradients<float> moved = std::move(gradients);
  EXPECT_EQ(moved.factors(0).B, g.B);
  EXPECT_EQ(moved.values()[0], 9);
}

TEST(GradientsView, WrapsTheCallersMemory) {
  std::vector<float> numbers(24);
  const GradientsView<float> view(small_layout(), numbers);
  const Factors<float> g = view.factors(1);
  EXPECT_EQ(g.A, nullptr);  // frozen
  EXPECT_EQ(g.B, numbers.data());
  EXPECT_EQ(g.v, numbers.data() + 15);
  EXPECT_EQ(g.u, numbers.data() + 22);
  view.v(1)(0) = 3;
  EXPECT_EQ(numbers[15], 3);
  EXPECT_EQ(view.A(1).size(), 0);
  EXPECT_EQ(view.B(0).rows(), 5);
  EXPECT_EQ(view.u(0).size(), 2);
  EXPECT_EQ(view.values().data(), numbers.data());
}

TEST(GradientsView, RefusesAnArrayOfAnotherLength) {
  std::vector<float> numbers(23);
  expect_error([&] { GradientsView<float>(small_layout(), numbers); }, {"24 values", "holds 23"});
}

}  // namespace
}  // namespace tiedlora_test
