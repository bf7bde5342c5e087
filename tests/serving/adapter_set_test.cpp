// Adapters that come and go: matched to the host by name, known by ids that are never used again, alive as
// long as a snapshot or a plan holds them.
#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <tiedlora/eigen.hpp>
#include <tiedlora/ops.hpp>
#include <tiedlora/serving.hpp>
#include <utility>
#include <vector>

#include "support/bits.hpp"
#include "support/errors.hpp"
#include "support/models.hpp"
#include "support/reference.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

ModuleList host() { return projections(2, {"q", "k", "v"}, 6, "x"); }

Adapter<float> adapter_for(const ModuleList& modules, Index rank = 2, std::uint64_t seed = 1) {
  Adapter<float> adapter(Layout(modules, schemes::tied_lora(), rank));
  Dice dice(seed);
  fill_factors(adapter, dice);
  return adapter;
}

TEST(AdapterSet, FindsTheModulesByName) {
  // k and v of the host, in another order.
  const ModuleList all = host();
  ModuleList some;
  for (const Index m : {5, 1, 2, 4}) some.add(all[m]);
  const Adapter<float> adapter = adapter_for(some);
  AdapterSet<float> set(all);
  const AdapterId id = set.add(adapter);
  const AdapterSnapshot<float> snapshot = set.snapshot();
  const Matrix<float> x = Dice(2).matrix<float>(6, 1);
  for (Index m = 0; m < all.size(); ++m) {
    const auto own = some.try_find(all[m].name);
    const Factors<const float> f = snapshot.factors(id, m);
    EXPECT_EQ(f.rank, own ? 2 : 0);
    EXPECT_STREQ(f.name, all[m].name.c_str());
    Matrix<float> y = Matrix<float>::Zero(6, 1), expected = y;
    forward(f, x, y);
    if (!own) {
      EXPECT_TRUE(same_bits(y, expected));
      y.setOnes();
      forward(f, x, y, {.overwrite = true});
      EXPECT_TRUE(same_bits(y, expected));
      continue;
    }
    forward(adapter.factors(*own), x, expected);
    EXPECT_TRUE(same_bits(y, expected));
  }
}

TEST(AdapterSet, RefusesWhatDoesNotLandOnTheHost) {
  AdapterSet<float> set(host());
  ModuleList modules;
  modules.add({.name = "blk.0.attn_q", .in_features = 6, .out_features = 6});
  modules.add({.name = "layers.1.attention.q", .in_features = 6, .out_features = 6});
  modules.add({.name = "blk.1.attn_k", .in_features = 6, .out_features = 6});
  expect_error(
      [&] { set.add(Adapter<float>(Layout(modules, schemes::lora(), 2))); },
      {"2 of the adapter's 3", "\"blk.0.attn_q\", \"blk.1.attn_k\"", "layers.0.attention.q", "mapping"});
  // Modules that are not adapted need not be there.
  const LayoutOptions unadapted = {.ranks = {{"blk.0.attn_q", 0}, {"blk.1.attn_k", 0}}};
  EXPECT_TRUE(set.try_add(Adapter<float>(Layout(modules, schemes::lora(), 2, unadapted))));

  ModuleList wide;
  wide.add({.name = "layers.1.attention.k", .in_features = 7, .out_features = 6});
  const auto refused = set.try_add(Adapter<float>(Layout(wide, schemes::lora(), 2)));
  ASSERT_FALSE(refused);
  for (const char* part : {"layers.1.attention.k", "6x6 in the host", "for 6x7", "wrong base model"})
    EXPECT_NE(refused.error().find(part), std::string::npos) << refused.error();
  EXPECT_FALSE(set.try_add(std::shared_ptr<const Adapter<float>>()));
  EXPECT_EQ(set.size(), 1);
}

TEST(AdapterSet, NamesManyMissingModulesBriefly) {
  AdapterSet<float> set(host());
  expect_error([&] { set.add(adapter_for(one_kind(30, 6, 6))); },
               {"30 of the adapter's 30", "layers.7.proj\", …"});
}

TEST(AdapterSet, IdsAreNeverUsedAgain) {
  AdapterSet<float> set(host());
  AdapterId first = no_adapter;
  for (AdapterId n = 0; n < 1000; ++n) {
    const AdapterId id = set.add(adapter_for(host()));
    if (n == 0) first = id;
    EXPECT_EQ(id, first + n);
    if (n % 3 > 0) {
      EXPECT_TRUE(set.remove(id));
    }
  }
  EXPECT_EQ(set.size(), 334);
  const auto snapshot = set.snapshot();
  EXPECT_EQ(snapshot.size(), 334);
  for (AdapterId n = 0; n < 1000; ++n) EXPECT_EQ(snapshot.contains(first + n), n % 3 == 0) << n;
  for (const AdapterId id : {AdapterId{-1}, AdapterId{-2}, std::numeric_limits<AdapterId>::min(), first + 1,
                             first + 1000, first + 5000}) {
    EXPECT_FALSE(set.remove(id));
    EXPECT_FALSE(snapshot.contains(id));
  }
  expect_error([&] { (void)snapshot.factors(first + 1, 0); }, {"no adapter 1", "removed"});
}

TEST(AdapterSet, RefusesAnIdOfAnotherSet) {
  AdapterSet<float> one(host()), other(host());
  const AdapterId id = one.add(adapter_for(host())), foreign = other.add(adapter_for(host()));
  EXPECT_NE(id, foreign);
  EXPECT_FALSE(one.snapshot().contains(foreign));
  EXPECT_FALSE(one.remove(foreign));
  EXPECT_FALSE(other.remove(id));
  expect_error([&] { (void)one.snapshot().factors(foreign, 0); }, {"to another AdapterSet"});
  expect_error([&] { BatchPlan<float>(other.snapshot(), std::vector<TokenAdapter>{{foreign}, {id}}); },
               {"token 1", "to another AdapterSet"});
}

TEST(AdapterSet, RefusesModulesThatTheHostDoesNotHave) {
  AdapterSet<float> set(host());
  const AdapterId id = set.add(adapter_for(host()));
  for (const Index m : {Index{-1}, host().size(), Index{99}})
    expect_error([&] { (void)set.snapshot().factors(id, m); }, {"module", "does not exist", "has 6"});
}

TEST(AdapterSet, RefusesAnAdapterThatWasMovedFrom) {
  AdapterSet<float> set(host());
  Adapter<float> adapter = adapter_for(host());
  set.add(std::move(adapter));
  const auto again = set.try_add(std::move(adapter));  // NOLINT(bugprone-use-after-move): what is tested
  ASSERT_FALSE(again);
  EXPECT_NE(again.error().find("moved from"), std::string::npos) << again.error();
  EXPECT_EQ(set.size(), 1);
}

TEST(AdapterSet, ASnapshotThatNoSetMadeIsEmpty) {
  const AdapterSnapshot<float> none;
  EXPECT_EQ(none.size(), 0);
  EXPECT_EQ(none.modules().size(), 0);
  EXPECT_FALSE(none.has_set());
  EXPECT_FALSE(none.contains(0));
  expect_error([&] { (void)none.factors(0, 0); }, {"not made by an AdapterSet"});
}

TEST(AdapterSet, SnapshotsDoNotChange) {
  AdapterSet<float> set(host());
  std::vector<AdapterSnapshot<float>> snapshots = {set.snapshot()};
  std::vector<AdapterId> ids;
  for (int n = 0; n < 300; ++n) {
    ids.push_back(set.add(adapter_for(host())));
    snapshots.push_back(set.snapshot());
  }
  for (const AdapterId id : ids) {
    EXPECT_TRUE(set.remove(id));
    snapshots.push_back(set.snapshot());
  }
  for (int n = 0; n <= 600; ++n) {
    const auto& snapshot = snapshots[static_cast<std::size_t>(n)];
    EXPECT_EQ(snapshot.size(), n <= 300 ? n : 600 - n);
    for (const int i : {0, 1, 127, 128, 255, 299})
      EXPECT_EQ(snapshot.contains(ids[static_cast<std::size_t>(i)]), n <= 300 ? i < n : i >= n - 300)
          << i << " of snapshot " << n;
  }
}

TEST(AdapterSet, ARemovedAdapterLivesUntilTheLastPlanIsGone) {
  AdapterSet<float> set(host());
  auto adapter = std::make_shared<const Adapter<float>>(adapter_for(host()));
  const std::weak_ptr<const Adapter<float>> watched = adapter;
  const AdapterId id = set.add(std::move(adapter));
  BatchPlan<float> plan(set.snapshot(), std::vector<TokenAdapter>{{id}});
  EXPECT_TRUE(set.remove(id));
  EXPECT_FALSE(watched.expired());
  const Matrix<float> x = Dice(3).matrix<float>(6, 1);
  Matrix<float> y = Matrix<float>::Zero(6, 1), h(2, 1), expected = y;
  forward(plan, 0, x, y, h);
  forward(watched.lock()->factors(0), x, expected);
  EXPECT_TRUE(same_bits(y, expected));
  plan.assign(set.snapshot(), std::vector<TokenAdapter>(1));
  EXPECT_TRUE(watched.expired());
}

TEST(AdapterSet, ARemovedAdapterThatNobodyUsesDiesAtOnce) {
  AdapterSet<float> set(host());
  std::vector<std::weak_ptr<const Adapter<float>>> watched;
  std::vector<AdapterId> ids;
  for (int n = 0; n < 200; ++n) {
    auto adapter = std::make_shared<const Adapter<float>>(adapter_for(host()));
    watched.push_back(adapter);
    ids.push_back(set.add(std::move(adapter)));
    (void)set.snapshot();  // gone at once
  }
  for (std::size_t n = 0; n < 200; ++n) {
    EXPECT_TRUE(set.remove(ids[n]));
    EXPECT_TRUE(watched[n].expired()) << n;
  }
}

TEST(AdapterSet, HoldsTheOwnerOfAView) {
  AdapterSet<float> set(host());
  const Layout layout(host(), schemes::vera(1), 3);
  auto memory = std::make_shared<std::vector<float>>(layout.trainable_count() + layout.frozen_count(), 0.5f);
  const std::weak_ptr<std::vector<float>> watched = memory;
  const std::span<const float> all = *memory;
  const auto trained = static_cast<std::size_t>(layout.trainable_count());
  const AdapterId id =
      set.add(AdapterView<const float>(layout, all.first(trained), all.subspan(trained)), std::move(memory));
  EXPECT_EQ(set.snapshot().factors(id, 0).v[0], 0.5f);
  EXPECT_FALSE(watched.expired());
  set.remove(id);
  EXPECT_TRUE(watched.expired());
}

TEST(AdapterSet, AdaptersOfEqualLayoutsAndOneFrozenArrayMakeOneRun) {
  AdapterSet<float> set(host());
  const auto layout = [] { return Layout(host(), schemes::vera(1), 3); };  // another object each time
  Adapter<float> base(layout());
  base.initialize(1);
  const auto frozen = base.share_frozen();
  std::vector<TokenAdapter> tokens;
  for (int n = 0; n < 3; ++n) tokens.push_back({set.add(Adapter<float>(layout(), frozen))});
  EXPECT_EQ(BatchPlan<float>(set.snapshot(), tokens).expand_runs().size(), 1u);
  // Equal values, but in an array of its own.
  Adapter<float> apart(layout());
  apart.initialize(1);
  tokens.push_back({set.add(std::move(apart))});
  EXPECT_EQ(BatchPlan<float>(set.snapshot(), tokens).expand_runs().size(), 2u);
  // LoRA-FA shares A only, and LoRA nothing.
  const Layout lora_fa(host(), schemes::lora_fa(), 3);
  Adapter<float> other(lora_fa);
  other.initialize(1);
  const auto frozen_a = other.share_frozen();
  tokens.clear();
  for (int n = 0; n < 3; ++n) tokens.push_back({set.add(Adapter<float>(lora_fa, frozen_a))});
  for (int n = 0; n < 2; ++n) tokens.push_back({set.add(Adapter<float>(Layout(host(), schemes::lora(), 3)))});
  const BatchPlan<float> plan(set.snapshot(), tokens);
  EXPECT_EQ(plan.shrink_runs().size(), 3u);
  EXPECT_EQ(plan.expand_runs().size(), 5u);
}

TEST(AdapterSet, APlanKnowsTheLargestRank) {
  AdapterSet<float> set(host());
  ModuleList q;
  q.add(host()[0]);
  const AdapterId small = set.add(adapter_for(host(), 2)), large = set.add(adapter_for(q, 9));
  const BatchPlan<float> plan(set.snapshot(), std::vector<TokenAdapter>{{small}, {}, {large}});
  EXPECT_EQ(plan.tokens(), 3);
  EXPECT_EQ(plan.size(), 2);
  EXPECT_EQ(plan.max_rank(), 9);
  EXPECT_EQ(plan.rank(0), 9);
  EXPECT_EQ(plan.rank(1), 2);
}

}  // namespace
}  // namespace tiedlora_test
