// What a run depends on, its learning rate and length, and the cache of its base model.
#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>
#include <finetune/settings.hpp>
#include <finetune/test_folder.hpp>

#include "experiment.hpp"
#include "trainer.hpp"

namespace finetune {
namespace {

Settings with(const std::vector<std::string>& schemes, const std::vector<Index>& ranks) {
  Settings settings;
  settings.schemes = schemes;
  settings.ranks = ranks;
  return settings;
}

TEST(Contenders, AreTheProductOfSchemesAndRanks) {
  EXPECT_EQ(contenders(with({"lora", "tl6"}, {4, 8})),
            (std::vector<Contender>{{"lora", 4}, {"lora", 8}, {"tl6", 4}, {"tl6", 8}}));
  // Full fine-tuning has no rank, a rank of one's own wins, repetitions are one.
  EXPECT_EQ(contenders(with({"full", "lora:1", "lora", "lora:4"}, {4, 8})),
            (std::vector<Contender>{{"full", 0}, {"lora", 1}, {"lora", 4}, {"lora", 8}}));
}

TEST(Contenders, RefuseWhatTheyDoNotKnow) {
  EXPECT_THROW(contenders(with({"loar"}, {4})), std::invalid_argument);
  EXPECT_THROW(contenders(with({"loar:2"}, {4})), std::invalid_argument);
  EXPECT_THROW(contenders(with({"lora:"}, {4})), std::invalid_argument);
  EXPECT_THROW(contenders(with({"lora:2x"}, {4})), std::invalid_argument);
  EXPECT_THROW(contenders(with({"lora:0"}, {4})), std::invalid_argument);
  EXPECT_THROW(contenders(with({"lora"}, {-1})), std::invalid_argument);
}

TEST(Rates, AreOverriddenByNameAndFactor) {
  std::map<std::string, Rates> rates = {{"lora", {1e-3, 1}}, {"tl6", {1e-3, 30}}};
  override_rate(rates, "lora=0.5");
  EXPECT_EQ(rates["lora"], (Rates{0.5, 1}));
  override_rate(rates, "tl6=2e-3");  // u and v go along
  EXPECT_EQ(rates["tl6"], (Rates{2e-3, 30}));
  override_rate(rates, "tl6.uv=0.1");
  EXPECT_EQ(rates["tl6"].rate, 2e-3);
  EXPECT_DOUBLE_EQ(rates["tl6"].rate * rates["tl6"].uv_multiple, 0.1);
  override_rate(rates, "lora:1=0.7");
  Settings settings;
  settings.rates = rates;
  EXPECT_EQ(rates_of(settings, {"lora", 1}).rate, 0.7);
  EXPECT_EQ(rates_of(settings, {"lora", 2}).rate, 0.5);
  for (const char* wrong :
       {"lora", "lora=", "lora=x", "lora=0.1x", "lora=-1", "lora=0", "loar=1", "lora.uv=1", "tl6.ab=1", "=1"})
    EXPECT_THROW(override_rate(rates, wrong), std::invalid_argument) << wrong;
}

TEST(Rates, AreTheSameInWhateverOrderTheyAreGiven) {
  std::vector<std::string> texts = {"tl6.uv=0.3", "tl6:4.uv=0.5", "tl6:8=0.02", "tl6=0.01"};
  std::sort(texts.begin(), texts.end());
  do {
    std::map<std::string, Rates> rates = {{"tl6", {1e-3, 30}}};
    override_rates(rates, texts);
    const auto expect = [&](const char* name, double rate, double uv_rate) {
      EXPECT_DOUBLE_EQ(rates.at(name).rate, rate) << name << " after " << texts[0];
      EXPECT_DOUBLE_EQ(rates.at(name).rate * rates.at(name).uv_multiple, uv_rate)
          << name << " after " << texts[0];
    };
    expect("tl6", 0.01, 0.3);
    expect("tl6:4", 0.01, 0.5);
    expect("tl6:8", 0.02, 0.3);
  } while (std::next_permutation(texts.begin(), texts.end()));
}

TEST(Rates, HaveADefaultForEveryScheme) {
  const std::map<std::string, Rates> rates = default_rates();
  EXPECT_TRUE(rates.count("base"));
  for (const Contender& contender : contenders(Settings()))
    EXPECT_TRUE(rates.count(contender.scheme)) << contender.scheme;
}

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

const nlohmann::ordered_json key = {{"width", 8}, {"seed", 1}};

std::vector<float> numbers() {
  std::vector<float> values(1000);
  std::iota(values.begin(), values.end(), 0.5f);
  return values;
}

TEST(BaseCache, GivesBackWhatWasSaved) {
  const TestFolder folder;
  const BaseCache cache(folder.path() / "cache", key);
  std::vector<float> values(1000);
  std::string problem;
  EXPECT_FALSE(cache.load(values, problem));
  EXPECT_TRUE(problem.empty());
  cache.save(numbers(), {{"steps", 12}});
  const auto notes = cache.load(values, problem);
  ASSERT_TRUE(notes) << problem;
  EXPECT_EQ((*notes)["steps"], 12);
  EXPECT_EQ(values, numbers());
  // Nothing but the finished file is left.
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path() / "cache"), {}), 1);
}

TEST(BaseCache, OtherKeysHaveOtherFiles) {
  const TestFolder folder;
  BaseCache(folder.path(), key).save(numbers(), {});
  nlohmann::ordered_json other = key;
  other["seed"] = 2;
  std::vector<float> values(1000);
  std::string problem;
  EXPECT_FALSE(BaseCache(folder.path(), other).load(values, problem));
}

TEST(BaseCache, NoticesDamage) {
  const TestFolder folder;
  const BaseCache cache(folder.path(), key);
  cache.save(numbers(), {});
  const std::string whole = read_file(cache.path());
  const auto refuses = [&](const std::string& bytes, const std::string& why) {
    write_atomically(cache.path(), bytes);
    std::vector<float> values(1000, -1.0f);
    std::string problem;
    EXPECT_FALSE(cache.load(values, problem)) << why;
    EXPECT_FALSE(problem.empty()) << why;
    EXPECT_EQ(values, std::vector<float>(1000, -1.0f)) << why;
  };
  std::string changed = whole;
  changed[whole.size() - 17] ^= 1;
  refuses(changed, "one bit of the values");
  refuses(whole.substr(0, whole.size() - 4), "one value missing");
  refuses(whole + "abcd", "one value too many");
  refuses(whole.substr(0, 20), "the header cut off");
  refuses("", "an empty file");
  refuses("[1]\n" + std::string(4000, '\0'), "another JSON");
  changed = whole;
  changed.replace(changed.find("\"seed\":1"), 8, "\"seed\":2");
  refuses(changed, "another key");
}

}  // namespace
}  // namespace finetune
