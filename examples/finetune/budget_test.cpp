#include "budget.hpp"

#include <gtest/gtest.h>

namespace finetune {
namespace {

TextData data_with(std::size_t select, std::size_t test, std::size_t base_test) {
  TextData data;
  data.select.resize(select);
  data.test.resize(test);
  data.base_test.resize(base_test);
  return data;
}

TEST(Budget, FillsTheTimeAndNoMore) {
  const TextData data = data_with(2, 10, 5);
  const Costs costs{0.05, 0.01, {0.1, 0.2}};
  Settings settings;
  settings.seeds = {1, 2};
  const StepCounts counts = plan_steps(settings, data, costs, 1000);
  EXPECT_EQ(counts.base, 8000);  // two fifths of the time
  const double evaluations = 2 * 2 * ((rows_per_run + 1) * 2 + 15) * 0.01;
  const double spent = 8000 * 0.05 + double(counts.task) * 2 * 0.3 + evaluations;
  EXPECT_LE(spent, 1000);
  EXPECT_GT(spent, 1000 - 10 * 2 * 0.3);  // counts are multiples of ten
}

TEST(Budget, KeepsWhatTheUserGave) {
  const Costs costs{0.05, 0.01, {0.1}};
  Settings settings;
  settings.steps = 123;
  settings.base_steps = 456;
  const StepCounts counts = plan_steps(settings, data_with(1, 1, 1), costs, 1000);
  EXPECT_EQ(counts.task, 123);
  EXPECT_EQ(counts.base, 456);
}

TEST(Budget, GivesAFewStepsWhenThereIsNoTime) {
  const StepCounts counts = plan_steps(Settings(), data_with(1, 1, 1), {10, 10, {10}}, 1);
  EXPECT_EQ(counts.task, 10);
  EXPECT_EQ(counts.base, 10);
}

TEST(Budget, OnlySlowsDown) {
  Costs costs{1, 2, {3}};
  costs.slow_down(0.5);
  EXPECT_EQ(costs.evaluation, 2);
  costs.slow_down(2);
  EXPECT_EQ(costs.base_step, 2);
  EXPECT_EQ(costs.evaluation, 4);
  EXPECT_EQ(costs.steps[0], 6);
}

}  // namespace
}  // namespace finetune
