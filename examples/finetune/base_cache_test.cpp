#include "base_cache.hpp"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "test_folder.hpp"

namespace finetune {
namespace {

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
  refuses(changed, "one bit of the numbers");
  refuses(whole.substr(0, whole.size() - 4), "one number missing");
  refuses(whole + "abcd", "one number too many");
  refuses(whole.substr(0, 20), "the header cut off");
  refuses("", "an empty file");
  refuses("[1]\n" + std::string(4000, '\0'), "another JSON");
  changed = whole;
  changed.replace(changed.find("\"seed\":1"), 8, "\"seed\":2");
  refuses(changed, "another key");
}

}  // namespace
}  // namespace finetune
