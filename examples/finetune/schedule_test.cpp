#include "schedule.hpp"

#include <gtest/gtest.h>

#include <limits>

namespace finetune {
namespace {

TEST(Schedule, WarmsUpThenFallsToItsFloor) {
  const Schedule schedule{.steps = 101, .warm_up = 10, .floor = 0.1};
  EXPECT_DOUBLE_EQ(schedule(0), 1.0 / 11);
  EXPECT_DOUBLE_EQ(schedule(9), 10.0 / 11);
  EXPECT_DOUBLE_EQ(schedule(10), 1);
  EXPECT_DOUBLE_EQ(schedule(55), 0.55);  // half way: the mean of 1 and the floor
  EXPECT_DOUBLE_EQ(schedule(100), 0.1);
  EXPECT_DOUBLE_EQ(schedule(200), 0.1);
  for (std::int64_t step = 1; step <= 10; ++step) EXPECT_GT(schedule(step), schedule(step - 1));
  for (std::int64_t step = 11; step <= 100; ++step) EXPECT_LT(schedule(step), schedule(step - 1));
}

TEST(Schedule, WorksForShortRuns) {
  for (std::int64_t steps = 1; steps < 5; ++steps)
    for (std::int64_t step = 0; step < steps; ++step) {
      EXPECT_GT(default_schedule(steps)(step), 0);
      EXPECT_LE(default_schedule(steps)(step), 1);
    }
}

TEST(EarlyStopping, WaitsForItsPatience) {
  EarlyStopping stopping(2);
  EXPECT_TRUE(stopping.improves(3.0));
  EXPECT_FALSE(stopping.improves(3.0));
  EXPECT_FALSE(stopping.stop());
  EXPECT_TRUE(stopping.improves(2.0));
  EXPECT_FALSE(stopping.improves(std::numeric_limits<double>::quiet_NaN()));
  EXPECT_FALSE(stopping.stop());
  EXPECT_FALSE(stopping.improves(2.5));
  EXPECT_TRUE(stopping.stop());
  EXPECT_EQ(stopping.best(), 2.0);
}

TEST(EarlyStopping, OfNoPatienceNeverStops) {
  EarlyStopping stopping(0);
  for (int i = 0; i < 100; ++i) stopping.improves(i);
  EXPECT_FALSE(stopping.stop());
}

}  // namespace
}  // namespace finetune
