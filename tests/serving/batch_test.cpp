// Mixed batches: every token has the bits of a call for it alone with its adapter alone, whatever the plan,
// the slices and the views.
#include <gtest/gtest.h>

#include <iostream>
#include <tiedlora/eigen.hpp>
#include <tiedlora/ops.hpp>
#include <tiedlora/serving.hpp>
#include <vector>

#include "support/adapter_pool.hpp"
#include "support/bits.hpp"
#include "support/deck.hpp"
#include "support/errors.hpp"
#include "support/guarded.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using Eigen::bfloat16;
using Eigen::half;

template <class P, class X, class Y>
class BatchCase {
 public:
  using Acc = accumulator_t<P>;

  BatchCase(Index in, Index out, Index count, Dice& dice)
      : dice_(dice), count_(count), set_(host_modules(in, out)), x_(dice.matrix<X>(in, count)) {}

  AdapterSet<P>& set() { return set_; }

  /// Each token none or one of these adapters.
  std::vector<AdapterUse> random_uses(const std::vector<AdapterId>& ids, Index most_per_token) {
    std::vector<AdapterUse> uses;
    for (Index t = 0; t < count_; ++t)
      for (Index n = dice_.integer(0, 4) == 0 ? 0 : dice_.integer(1, most_per_token); n > 0; --n)
        uses.push_back({t, dice_.pick(ids), static_cast<float>(dice_.uniform())});
    return uses;
  }

  void check(const BatchPlan<P>& plan, const std::vector<AdapterUse>& uses, Index module) {
    const Module& host = set_.modules()[module];
    const CallOptions o = {.scale = dice_.coin() ? 1 : dice_.uniform(), .overwrite = dice_.coin()};
    const Matrix<Y> before = dice_.matrix<Y>(host.out_features, count_);
    const Matrix<double> expected = to_double(one_by_one(plan.snapshot(), uses, module, before, o));
    for (const Index nth : {1, 2, 5}) {
      SCOPED_TRACE("parts: " + std::to_string(nth));
      GuardedRows<X> x(host.in_features, count_, dice_.pick(all_views), dice_);
      GuardedRows<Y> y(host.out_features, count_, dice_.pick(all_views), dice_);
      GuardedRows<Acc> h(plan.rank(module) + dice_.integer(0, 2), plan.size() + dice_.integer(0, 2),
                         dice_.pick(all_views), dice_);
      x.set(to_double(x_)), y.set(to_double(before));
      CallOptions options = o;
      for (Index ith = 0; ith < nth; ++ith) {
        options.slice = {ith, nth};
        shrink(plan, module, x.tokens(), h.tokens(), options);
      }
      for (Index ith = nth; ith-- > 0;) {
        options.slice = {ith, nth};
        expand(plan, module, h.tokens(), y.tokens(), options);
      }
      EXPECT_TRUE(same_bits(y.values(), expected));
      EXPECT_TRUE(x.nothing_else_written());
      EXPECT_TRUE(h.nothing_else_written());
      EXPECT_TRUE(y.nothing_else_written());
    }
  }

  const Matrix<X>& x() const { return x_; }

 private:
  Matrix<Y> one_by_one(const AdapterSnapshot<P>& adapters, const std::vector<AdapterUse>& uses, Index module,
                       Matrix<Y> y, const CallOptions& o) {
    std::vector<bool> is_set(static_cast<std::size_t>(count_), !o.overwrite);
    if (o.overwrite) y.setConstant(Y(0));
    for (const AdapterUse& use : uses) {
      const Factors<const P> f = adapters.factors(use.adapter, module);
      const auto t = static_cast<std::size_t>(use.token);
      Matrix<Acc> h(f.rank, 1);
      CallOptions options = {.scale = o.scale, .token_scale = &use.scale, .overwrite = !is_set[t]};
      if (f.rank > 0) {
        shrink(f, x_.col(use.token), h);
        expand(f, h, y.col(use.token), options);
      }
      is_set[t] = true;
    }
    return y;
  }

  Dice& dice_;
  Index count_;
  AdapterSet<P> set_;
  Matrix<X> x_;
};

const std::vector<std::string> all_frozen = {"", "A", "B", "AB", "ABu", "ABv", "ABuv", "Av"};

template <class P, class X, class Y>
void check_random_plans(std::uint64_t seed, int cases) {
  Dice dice(seed);
  Deck<Index> sizes(widths()), ranks({1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33}), counts(numbers(1, 40));
  Deck<std::string> presents(present_factors), frozens(all_frozen);
  for (int n = 0; n < cases; ++n) {
    const Index in = sizes.draw(dice), out = sizes.draw(dice), count = counts.draw(dice);
    const std::string text = "case " + std::to_string(n) + ", seed " + std::to_string(seed) + ", " +
                             std::to_string(out) + "x" + std::to_string(in) + ", tokens " +
                             std::to_string(count);
    SCOPED_TRACE(text);
    const CrashNote note(text);
    BatchCase<P, X, Y> batch(in, out, count, dice);
    std::vector<AdapterId> ids;
    for (Index families = dice.integer(1, 4); families > 0; --families) {
      const Scheme scheme = scheme_of(presents.draw(dice), frozens.draw(dice));
      const Index rank = n == 0 ? 300 : ranks.draw(dice);  // 300: more than the kernels take at once
      for (const AdapterId id : add_family(batch.set(), scheme, rank, dice.integer(1, 4), dice))
        ids.push_back(id);
    }
    const auto uses = batch.random_uses(ids, n % 3 == 0 ? 3 : 1);
    const BatchPlan<P> plan(batch.set().snapshot(), count, uses);
    batch.check(plan, uses, dice.integer(0, 5));
  }
}

TEST(Batch, RandomPlansGiveTheBitsOfOneByOneCalls) {
  check_random_plans<float, float, float>(1, 40);
  check_random_plans<bfloat16, bfloat16, bfloat16>(2, 30);
  check_random_plans<half, float, bfloat16>(3, 30);
  check_random_plans<double, double, double>(4, 20);
}

TEST(Batch, AThousandTenantsOverOneAAndBTakeOneProduct) {
  Dice dice(5);
  const Index tenants = 1000, count = 1100, out = 129;
  BatchCase<bfloat16, bfloat16, bfloat16> batch(67, out, count, dice);
  const Scheme scheme = scheme_of("ABuv", "AB");
  const Layout layout(batch.set().modules(), scheme, 5);
  Adapter<bfloat16> base(layout);
  fill_factors(base, dice);
  const auto frozen = base.share_frozen();
  std::vector<AdapterId> ids;
  for (Index n = 0; n < tenants; ++n) {
    Adapter<bfloat16> tenant(layout, frozen);
    dice.fill(tenant.trainable());
    ids.push_back(batch.set().add(std::move(tenant)));
  }
  std::vector<TokenAdapter> tokens;
  std::vector<AdapterUse> uses;
  for (Index t = 0; t < count; ++t) {
    tokens.push_back({ids[static_cast<std::size_t>(t * 389 % tenants)], static_cast<float>(dice.uniform())});
    uses.push_back({t, tokens.back().adapter, tokens.back().scale});
  }
  const BatchPlan<bfloat16> plan(batch.set().snapshot(), tokens);
  EXPECT_EQ(plan.shrink_runs().size(), 1u);
  EXPECT_EQ(plan.expand_runs().size(), 1u);
  EXPECT_TRUE(plan.expand_runs()[0].has_tenants);
  for (const Index module : {0, 4}) batch.check(plan, uses, module);
}

TEST(Batch, ModulesThatReadTheSameXGoThroughItInOneCall) {
  Dice dice(6);
  const Index in = 43, out = 21, count = 9;
  AdapterSet<float> set(host_modules(in, out));
  std::vector<AdapterId> ids = add_family(set, scheme_of("ABuv", "AB"), 5, 3, dice);
  for (const AdapterId id : add_family(set, schemes::lora(), 3, 2, dice)) ids.push_back(id);
  std::vector<TokenAdapter> tokens;
  for (Index t = 0; t < count; ++t) tokens.push_back({t == 4 ? no_adapter : dice.pick(ids)});
  const BatchPlan<float> plan(set.snapshot(), tokens);
  const Matrix<float> x = dice.matrix<float>(in, count);
  std::vector<Index> modules = {0, 1};
  for (int again = 0; again < 5; ++again) modules.insert(modules.end(), {0, 1});  // more than one pass takes
  std::vector<Matrix<float>> together, single;
  std::vector<Tokens<float>> h;
  for (const Index module : modules) {
    single.push_back(Matrix<float>::Zero(5, plan.size()));
    together.push_back(single.back());
    shrink(plan, module, x, single.back());
  }
  for (Matrix<float>& matrix : together) h.push_back(detail::output_tokens(matrix));
  for (const Index nth : {1, 3}) {
    for (Matrix<float>& matrix : together) matrix.setZero();
    for (Index ith = 0; ith < nth; ++ith) shrink(plan, modules, x, h, {.slice = {ith, nth}});
    for (std::size_t i = 0; i < modules.size(); ++i) EXPECT_TRUE(same_bits(together[i], single[i]));
  }
  expect_error([&] { shrink(plan, modules, x, std::span(h).first(1)); },
               {"h must have", "12 modules, but has 1"});
}

TEST(Batch, APlanIsMadeAnewInItsMemory) {
  Dice dice(7);
  BatchCase<float, float, float> batch(16, 16, 12, dice);
  const auto ids = add_family(batch.set(), schemes::tied_lora(), 4, 3, dice);
  BatchPlan<float> plan;
  EXPECT_EQ(plan.tokens(), 0);
  for (int n = 0; n < 4; ++n) {
    const auto uses = batch.random_uses(ids, 2);
    plan.assign(batch.set().snapshot(), 12, uses);
    batch.check(plan, uses, 0);
  }
  plan.assign(batch.set().snapshot(), std::vector<TokenAdapter>(12));
  EXPECT_EQ(plan.size(), 0);
  EXPECT_EQ(plan.max_rank(), 0);
  batch.check(plan, {}, 1);
}

TEST(Batch, ForwardIsBothHalves) {
  Dice dice(8);
  AdapterSet<float> set(host_modules(10, 7));
  const auto ids = add_family(set, schemes::lora(), 3, 2, dice);
  const BatchPlan<float> plan(set.snapshot(), std::vector<TokenAdapter>{{ids[1]}, {}, {ids[0], 0.5f}});
  const Matrix<float> x = dice.matrix<float>(10, 3);
  Matrix<float> y = dice.matrix<float>(7, 3), other = y, h(plan.max_rank(), plan.size());
  forward(plan, 0, x, y, h);
  shrink(plan, 0, x, h);
  expand(plan, 0, h, other);
  EXPECT_TRUE(same_bits(y, other));
  expect_error([&] { forward(plan, 0, x, y, h, {.slice = {0, 2}}); }, {"layers.0.q", "takes no slice"});
}

TEST(Batch, OfNoTokensDoesNothing) {
  const BatchPlan<float> plan;
  Matrix<float> nothing(0, 0);
  forward(plan, 0, nothing, nothing, nothing);
  Matrix<float> some(4, 2);
  expect_error([&] { forward(plan, 0, some, some, nothing); }, {"plan has no tokens", "x has 2"});
  const AdapterSet<float> set(host_modules(4, 4));
  const BatchPlan<float> empty(set.snapshot(), std::vector<TokenAdapter>());
  const Matrix<float> x(4, 0);
  Matrix<float> y(4, 0);
  forward(empty, 0, x, y, nothing, {.overwrite = true});
}

TEST(Batch, CallsRefuseWrongOperands) {
  Dice dice(10);
  AdapterSet<float> set(host_modules(6, 5));
  Adapter<float> adapter(Layout(set.modules(), schemes::lora(), 3));
  fill_factors(adapter, dice);
  const AdapterId id = set.add(std::move(adapter));
  const BatchPlan<float> plan(set.snapshot(), std::vector<TokenAdapter>{{id}, {id}});
  const Matrix<float> x = dice.matrix<float>(6, 2), wide = dice.matrix<float>(7, 2);
  Matrix<float> y = dice.matrix<float>(5, 2), h(3, 2);
  const float scales[] = {1, 1};
  expect_error([&] { shrink(plan, 6, x, h); }, {"module 6", "the host has 6"});
  expect_error([&] { shrink(plan, 0, wide, h); },
               {"layers.0.q", "7 features", "in_features is 6", "base model"});
  expect_error([&] { shrink(plan, 0, x.leftCols(1), h); }, {"layers.0.q", "x has 1 tokens"});
  expect_error([&] { shrink(plan, 0, x, h.topRows(2)); }, {"h is 2x2", "needs 3x2", "plan.max_rank()"});
  expect_error([&] { shrink(plan, 0, x, h.leftCols(1)); }, {"h is 3x1", "needs 3x2"});
  expect_error([&] { expand(plan, 0, h.leftCols(1), y); }, {"h is 3x1", "needs 3x2"});
  expect_error([&] { expand(plan, 1, h, y); }, {"layers.0.k", "5 features", "out_features is 8"});
  expect_error([&] { expand(plan, 0, h, y, {.token_scale = scales}); }, {"token_scale", "plan"});
  expect_error([&] { shrink(plan, 0, x, h, {.dropout = {.probability = 0.1}}); }, {"dropout"});
  expect_error([&] { shrink(plan, 0, x, h, {.slice = {2, 2}}); }, {"slice 2 of 2"});
  const Matrix<float> old_h = h;
  expect_error([&] { forward(plan, 1, x, y, h); }, {"layers.0.k", "5 features", "out_features is 8"});
  expect_error([&] { forward(plan, 0, x, y, h, {.slice = {0, 2}}); }, {"takes no slice"});
  EXPECT_TRUE(same_bits(h, old_h));
}

}  // namespace
}  // namespace tiedlora_test
