// Which losses end a run.
#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "trainer.hpp"

namespace finetune {
namespace {

/// Its steps have these losses, and had those at the start.
class Scripted final : public Trainable {
 public:
  Scripted(std::vector<double> losses, std::vector<double> at_start)
      : losses_(std::move(losses)), at_start_(std::move(at_start)) {}

  StepResult learn(std::int64_t step, double) override {
    return {.loss = losses_.at(static_cast<std::size_t>(step))};
  }
  double start_loss(std::int64_t step) override { return at_start_.at(static_cast<std::size_t>(step)); }
  double select_loss() override { return not_measured; }
  std::span<float> values() override { return values_; }
  Index activation_bytes() const override { return 0; }
  void save(const std::filesystem::path&, const tiedlora::TrainingPosition&) const override {}
  tiedlora::TrainingPosition resume(const std::filesystem::path&) override { return {}; }
  void share(Communicator&) override {}

 private:
  std::vector<double> losses_, at_start_;
  std::array<float, 1> values_ = {};
};

std::int64_t steps_until_explosion(std::vector<double> losses, std::vector<double> at_start) {
  const auto steps = static_cast<std::int64_t>(losses.size());
  Scripted scripted(std::move(losses), std::move(at_start));
  const TrainingResult result = train_loop(scripted, {.title = "scripted", .steps = steps, .explosion = 2});
  return result.diverged ? result.steps : 0;
}

TEST(Explosion, IsNotThatTheFirstStepWasEasy) {
  std::vector<double> losses(60, 6.0);
  losses[0] = 0.5;
  EXPECT_EQ(steps_until_explosion(losses, losses), 0);
}

TEST(Explosion, IsALossAboveThatOfTheStart) {
  const std::vector<double> at_start(60, 3.0);
  std::vector<double> losses = at_start;
  for (std::size_t i = 1; i < losses.size(); ++i) losses[i] = 11;
  EXPECT_EQ(steps_until_explosion(losses, at_start), 2);  // the mean of 3 and 11
  // By hand: after 20 steps of 3 the mean is 3 + 8 (1 - 0.95^n), above 5 from n = 6 on.
  losses.assign(60, 3.0);
  for (std::size_t i = 20; i < losses.size(); ++i) losses[i] = 11;
  EXPECT_EQ(steps_until_explosion(losses, at_start), 26);
  // A loss that was learned and is lost again comes to no more than that of the start.
  losses.assign(60, 0.5);
  for (std::size_t i = 0; i < 5; ++i) losses[i] = 3;
  for (std::size_t i = 30; i < losses.size(); ++i) losses[i] = 4;
  EXPECT_EQ(steps_until_explosion(losses, at_start), 0);
}

}  // namespace
}  // namespace finetune
