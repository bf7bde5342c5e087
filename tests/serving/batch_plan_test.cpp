// What a plan makes of a batch: which tokens go through which adapters, in what order, and which of them
// together.
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <tiedlora/eigen.hpp>
#include <tiedlora/serving.hpp>
#include <utility>
#include <vector>

#include "support/adapter_pool.hpp"
#include "support/errors.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using Plan = BatchPlan<float>;

template <class T>
std::vector<T> listed(const T* data, Index count) {
  return {data, data + count};
}

TEST(BatchPlan, SortsUsesByAdapterAndKeepsTheirScales) {
  Dice dice(1);
  AdapterSet<float> set(host_modules(6, 5));
  const auto ids = add_family(set, schemes::lora(), 3, 2, dice);
  const Plan plan(set.snapshot(), std::vector<TokenAdapter>{{ids[1], 0.5f}, {}, {ids[0], 2}, {ids[1], 3}});
  EXPECT_EQ(plan.tokens(), 4);
  ASSERT_EQ(plan.size(), 3);
  EXPECT_EQ(plan.max_rank(), 3);
  EXPECT_FALSE(plan.revisits());
  EXPECT_EQ(std::vector<Index>(plan.idle().begin(), plan.idle().end()), std::vector<Index>{1});
  // Two runs, of one adapter each.
  ASSERT_EQ(plan.expand_runs().size(), 2u);
  ASSERT_EQ(plan.shrink_runs().size(), 2u);
  for (const Plan::Run& run : plan.expand_runs()) {
    EXPECT_FALSE(run.has_tenants);
    EXPECT_TRUE(run.is_first);
    const auto rows = listed(plan.rows() + run.begin, run.end - run.begin);
    const auto scales = listed(plan.scales() + run.begin, run.end - run.begin);
    if (rows.size() == 1) {
      EXPECT_EQ(rows, std::vector<Index>{2});
      EXPECT_EQ(scales, std::vector<float>{2});
    } else {
      EXPECT_EQ(rows, (std::vector<Index>{0, 3}));
      EXPECT_EQ(scales, (std::vector<float>{0.5f, 3}));
    }
  }
}

TEST(BatchPlan, TenantsOverOneAAndBAreOneRun) {
  Dice dice(2);
  AdapterSet<float> set(host_modules(6, 5));
  const auto ids = add_family(set, schemes::vera(), 3, 4, dice);
  const Plan plan(set.snapshot(), std::vector<TokenAdapter>{{ids[3]}, {ids[0]}, {ids[2]}, {ids[1]}});
  ASSERT_EQ(plan.shrink_runs().size(), 1u);
  ASSERT_EQ(plan.expand_runs().size(), 1u);
  EXPECT_TRUE(plan.expand_runs()[0].has_tenants);
  EXPECT_EQ(plan.expand_runs()[0].end, 4);
}

TEST(BatchPlan, SeveralAdaptersOfATokenAreAddedInTheOrderGiven) {
  Dice dice(3);
  AdapterSet<float> set(host_modules(6, 5));
  const auto ids = add_family(set, schemes::lora(), 3, 2, dice);
  const std::vector<AdapterUse> uses = {{0, ids[1], 1}, {0, ids[0], 2}, {1, ids[0], 3}};
  const Plan plan(set.snapshot(), 2, uses);
  EXPECT_TRUE(plan.revisits());
  ASSERT_EQ(plan.size(), 3);
  // The second adapter of token 0 comes last, in a run that is not the first for its token.
  EXPECT_EQ(plan.rows()[2], 0);
  EXPECT_EQ(plan.scales()[2], 2);
  EXPECT_FALSE(plan.expand_runs().back().is_first);
  EXPECT_EQ(plan.expand_runs().back().end - plan.expand_runs().back().begin, 1);
}

TEST(BatchPlan, RefusesWhatTheSnapshotDoesNotHold) {
  Dice dice(9);
  AdapterSet<float> set(host_modules(4, 4));
  const AdapterId id = add_family(set, schemes::lora(), 2, 1, dice)[0];
  const auto before = set.snapshot();
  EXPECT_TRUE(set.remove(id));
  Plan plan(before, std::vector<TokenAdapter>{{id}});
  expect_error([&] { plan.assign(set.snapshot(), std::vector<TokenAdapter>{{}, {}, {id}}); },
               {"token 2", "adapter 0", "removed"});
  EXPECT_EQ(plan.tokens(), 0);
  expect_error([&] { plan.assign(before, std::vector<TokenAdapter>{{-2}}); }, {"token 0", "adapter -2"});
  const std::vector<AdapterUse> uses = {{3, id, 1}};
  expect_error([&] { plan.assign(before, 3, uses); }, {"adapter 0", "token 3", "batch has 3 tokens"});
  for (const Index count : {Index{-1}, std::numeric_limits<Index>::max()})
    expect_error([&] { plan.assign(before, count, uses); }, {std::to_string(count) + " tokens"});
}

TEST(BatchPlan, RefusesModulesThatTheHostDoesNotHave) {
  Dice dice(5);
  AdapterSet<float> set(host_modules(4, 4));
  const AdapterId id = add_family(set, schemes::lora(), 2, 1, dice)[0];
  const Plan plan(set.snapshot(), std::vector<TokenAdapter>{{id}});
  for (const Index m : {Index{-1}, set.modules().size(), Index{99}})
    expect_error([&] { (void)plan.rank(m); }, {"module", "does not exist"});
}

TEST(BatchPlan, WithoutASetNoTokenHasAnAdapterAndThereIsNothingToDo) {
  const Plan plan({}, std::vector<TokenAdapter>(3));
  EXPECT_EQ(plan.tokens(), 3);
  EXPECT_EQ(plan.size(), 0);
  EXPECT_EQ(plan.rank(7), 0);
  const Eigen::MatrixXf x = Eigen::MatrixXf::Ones(4, 3);
  Eigen::MatrixXf y = Eigen::MatrixXf::Ones(5, 3), h(0, 0);
  shrink(plan, 0, x, h);
  expand(plan, 0, h, y);
  forward(plan, 0, x, y, h);
  EXPECT_EQ(y.minCoeff(), 1);
  expand(plan, 0, h, y, {.overwrite = true});
  EXPECT_EQ(y.cwiseAbs().maxCoeff(), 0);
  y.setOnes();
  forward(plan, 0, x, y, h, {.overwrite = true});
  EXPECT_EQ(y.cwiseAbs().maxCoeff(), 0);
  expect_error([] { Plan({}, std::vector<TokenAdapter>{{0}}); }, {"token 0", "not made by an AdapterSet"});
}

TEST(BatchPlan, WhatWasMovedFromHasNothingToDo) {
  Dice dice(6);
  AdapterSet<float> set(host_modules(4, 4));
  const AdapterId id = add_family(set, schemes::lora(), 2, 1, dice)[0];
  Plan plan(set.snapshot(), std::vector<TokenAdapter>{{id}});
  const Plan taken = std::move(plan);
  const Eigen::MatrixXf x = Eigen::MatrixXf::Ones(4, 1);
  Eigen::MatrixXf y = Eigen::MatrixXf::Ones(4, 1), h(2, 1);
  forward(plan, 0, x, y, h);  // NOLINT(bugprone-use-after-move): what is tested
  EXPECT_EQ(y.minCoeff(), 1);
  EXPECT_EQ(taken.size(), 1);
}

}  // namespace
}  // namespace tiedlora_test
