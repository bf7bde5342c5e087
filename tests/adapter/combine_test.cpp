// Adapters rewritten as plain LoRA: to_lora and combine.
#include <gtest/gtest.h>

#include <map>
#include <tiedlora/adapter.hpp>
#include <tiedlora/adapter/merge.hpp>
#include <tiedlora/ops.hpp>

#include "support/errors.hpp"
#include "support/models.hpp"
#include "support/reference.hpp"
#include "support/schemes.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

// "down" of layer 1 is not adapted.
ModuleList model() { return unequal_layers(/*k_width=*/3); }

template <class P>
Adapter<P> random_adapter(const Scheme& scheme, Index rank, std::uint64_t seed, LayoutOptions options = {}) {
  options.ranks.emplace_back("layers.1.down", 0);
  Adapter<P> adapter(Layout(model(), scheme, rank, options));
  Dice dice(seed);
  fill_factors(adapter, dice);
  return adapter;
}

// ΔW of every module of `sum` is that of the parts, weighted and added.
template <class Source, class Sum>
void expect_sum(const std::vector<Weighted<Source>>& parts, const Adapter<Sum>& sum) {
  for (Index m = 0; m < sum.layout().size(); ++m) {
    const Module& module = sum.layout().modules()[m];
    Matrix<double> exact = Matrix<double>::Zero(module.out_features, module.in_features), magnitude = exact;
    Index rank = 0;
    for (const Weighted<Source>& part : parts) {
      const auto f = part.adapter->factors(m);
      exact += delta_weight(f, part.weight), magnitude += delta_weight(f, part.weight, true);
      rank += f.rank;
    }
    EXPECT_EQ(sum.layout().rank(m), rank);
    EXPECT_EQ(sum.factors(m).scaling, 1);
    EXPECT_EQ(sum.factors(m).u, nullptr);
    EXPECT_EQ(sum.factors(m).v, nullptr);
    const Matrix<double> actual = delta_weight(sum.factors(m));
    // Exact except for the product w s v B u, which is rounded four times.
    for (Index i = 0; i < exact.size(); ++i)
      EXPECT_NEAR(
          actual.data()[i], exact.data()[i],
          rounding_bound<Sum>(4, magnitude.data()[i]) + rounding_bound<double>(64, magnitude.data()[i]))
          << module.name;
  }
}

template <class P>
void expect_lora_equals(const Scheme& scheme) {
  const Adapter<P> adapter =
      random_adapter<P>(scheme, 3, 120, {.scaling = 0.5, .scalings = {{"layers.2.q", -2.0}}});
  const auto lora = to_lora(adapter);
  EXPECT_TRUE(lora.layout().scheme() == schemes::lora());
  expect_sum<Adapter<P>>({{&adapter, 1}}, lora);

  // And so the forward is the same: here in the accumulator type of both.
  using Acc = accumulator_t<P>;
  for (Index m = 0; m < adapter.layout().size(); ++m) {
    const auto f = adapter.factors(m);
    const Matrix<Acc> x = Dice(121).matrix<Acc>(f.in_features, 2);
    Matrix<Acc> y = Matrix<Acc>::Zero(f.out_features, 2), y_lora = y;
    forward(f, x, y);
    forward(lora.factors(m), x, y_lora);
    const Matrix<double> magnitude = product(delta_weight(f, 1, true), to_double(x).cwiseAbs());
    for (Index i = 0; i < y.size(); ++i)
      EXPECT_NEAR(static_cast<double>(y.data()[i]), static_cast<double>(y_lora.data()[i]),
                  rounding_bound<Acc>(2 * forward_roundings(f), magnitude.data()[i]));
  }
}

TEST(ToLora, IsTheSameFunctionForEveryScheme) {
  for (const NamedScheme& preset : presets()) {
    SCOPED_TRACE(preset.name);
    expect_lora_equals<float>(preset.scheme);
  }
  expect_lora_equals<double>(schemes::tied_lora());
  expect_lora_equals<Eigen::bfloat16>(schemes::tied_lora());
  expect_lora_equals<Eigen::half>(schemes::vera());
}

TEST(ToLora, CopiesAAsItIs) {
  const Adapter<float> adapter = random_adapter<float>(schemes::tied_lora(), 3, 122);
  const Adapter<float> lora = to_lora(adapter);
  for (Index m = 0; m < adapter.layout().size(); ++m)
    EXPECT_EQ(Matrix<float>(lora.A(m)), Matrix<float>(adapter.A(m)));
  EXPECT_EQ(Matrix<float>(lora.A(0)),
            Matrix<float>(lora.A(4)));  // q of layer 0 and k of layer 1 read one input
}

TEST(ToLora, OfAView) {
  const Adapter<float> adapter = random_adapter<float>(schemes::tied_lora(), 3, 123);
  const AdapterView<const float> view = adapter.view();
  const Adapter<float> of_view = to_lora(view), of_adapter = to_lora(adapter);
  EXPECT_TRUE(
      std::equal(of_view.trainable().begin(), of_view.trainable().end(), of_adapter.trainable().begin()));
}

TEST(Combine, IsTheWeightedSumOfAnySchemesAndRanks) {
  const auto tied = random_adapter<double>(schemes::tied_lora(), 3, 124, {.scaling = 2});
  const auto lora = random_adapter<double>(schemes::lora(), 1, 125, {.ranks = {{"layers.0.k", 4}}});
  const auto vera = random_adapter<double>(schemes::vera(), 5, 126);
  const std::vector<Weighted<Adapter<double>>> parts = {{&tied, 0.25}, {&lora, -1.5}, {&vera, 3}};
  const Adapter<double> sum = combine({parts[0], parts[1], parts[2]});
  expect_sum(parts, sum);
  EXPECT_EQ(sum.layout().rank(1), 3 + 4 + 5);
  EXPECT_EQ(sum.layout().rank(5), 0);
  expect_sum(parts, combine(std::span<const Weighted<Adapter<double>>>(parts)));
}

TEST(Combine, OfPartsThatAdaptDifferentModules) {
  // A module that only one part adapts, and one that none does.
  LayoutOptions only_q, only_k;
  for (int layer = 0; layer < 3; ++layer) {
    only_q.ranks.emplace_back("layers." + std::to_string(layer) + ".k", 0);
    only_k.ranks.emplace_back("layers." + std::to_string(layer) + ".q", 0);
  }
  const auto a = random_adapter<float>(schemes::lora(), 2, 127, only_q);
  const auto b = random_adapter<float>(schemes::tied_lora_ab(), 3, 128, only_k);
  const std::vector<Weighted<Adapter<float>>> parts = {{&a, 1}, {&b, 0.5}};
  const Adapter<float> sum = combine({parts[0], parts[1]});
  EXPECT_EQ(sum.layout().rank(0), 2);
  EXPECT_EQ(sum.layout().rank(1), 3);
  EXPECT_EQ(sum.layout().rank(2), 5);
  expect_sum(parts, sum);
}

TEST(Combine, NarrowAdaptersAddUpInFloat) {
  const auto a = random_adapter<Eigen::bfloat16>(schemes::tied_lora(), 2, 129);
  const auto b = random_adapter<Eigen::bfloat16>(schemes::vera(), 3, 130);
  const auto sum = combine({Weighted<Adapter<Eigen::bfloat16>>{&a, 0.3}, {&b, 0.7}});
  static_assert(std::is_same_v<decltype(sum)::Scalar, float>);
  expect_sum<Adapter<Eigen::bfloat16>>({{&a, 0.3}, {&b, 0.7}}, sum);
}

TEST(Combine, RefusesAdaptersOfDifferentModules) {
  const Adapter<float> a(Layout(one_kind(2, 4, 5), schemes::lora(), 2)),
      longer(Layout(one_kind(3, 4, 5), schemes::lora(), 2)),
      wider(Layout(one_kind(2, 4, 6), schemes::lora(), 2));
  using Part = Weighted<Adapter<float>>;
  expect_error([&] { (void)combine({Part{&a, 1}, Part{&longer, 1}}); },
               {"different module lists", "\"layers.0.proj\""});
  expect_error([&] { (void)combine({Part{&longer, 1}, Part{&a, 1}}); }, {"different module lists"});
  expect_error([&] { (void)combine({Part{&a, 1}, Part{&wider, 1}}); }, {"\"layers.0.proj\""});
  expect_error([&] { (void)combine(std::span<const Part>()); }, {"at least one"});
}

}  // namespace
}  // namespace tiedlora_test
