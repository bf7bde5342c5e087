// Which examples are held out.
#include <algorithm>
#include <cmath>
#include <set>

#include "expect_error.hpp"
#include "files.hpp"
#include "read_data.hpp"

namespace finetune {
namespace {

// Of a line of JSON; the first token is its name.
Example of_line(std::size_t name, std::uint64_t group) {
  Example example;
  example.tokens = {static_cast<llama::Token>(name), 1};
  example.counted = {false, true};
  example.line = name + 1;
  example.group = group;
  return example;
}
Example of_document(std::size_t name, std::size_t source) {
  Example example = of_line(name, mix(source));
  example.line = 0;
  example.source = source;
  return example;
}

std::vector<std::size_t> names(const std::vector<Example>& examples) {
  std::vector<std::size_t> result;
  for (const Example& example : examples) result.push_back(static_cast<std::size_t>(example.tokens[0]));
  return result;
}

// Everything is on one side, in its order.
DataSplit checked(const std::vector<Example>& examples, double fraction, std::uint64_t seed) {
  DataSplit split = hold_out({examples, {}}, fraction, seed);
  std::vector<std::size_t> train = names(split.train), validation = names(split.validation);
  EXPECT_TRUE(std::is_sorted(train.begin(), train.end()));
  EXPECT_TRUE(std::is_sorted(validation.begin(), validation.end()));
  std::vector<std::size_t> both;
  std::merge(train.begin(), train.end(), validation.begin(), validation.end(), std::back_inserter(both));
  EXPECT_EQ(both, names(examples));
  EXPECT_GE(validation.size(), 1u);
  EXPECT_LE(validation.size(), examples.size() / 2);
  return split;
}

TEST(HoldOut, TakesTheFractionAndDependsOnTheSeed) {
  std::vector<Example> examples;
  for (std::size_t i = 0; i < 200; ++i) examples.push_back(of_line(i, mix(i)));
  const DataSplit split = checked(examples, 0.1, 1);
  EXPECT_EQ(split.validation.size(), 20u);
  EXPECT_EQ(names(checked(examples, 0.1, 1).validation), names(split.validation));
  EXPECT_NE(names(checked(examples, 0.1, 2).validation), names(split.validation));
  EXPECT_EQ(checked(examples, 0.5, 1).validation.size(), 100u);
  EXPECT_EQ(checked(examples, 1e-6, 1).validation.size(), 1u);
}

TEST(HoldOut, GoesByContentNotByPlace) {
  std::vector<Example> examples, turned;
  for (std::size_t i = 0; i < 50; ++i) examples.push_back(of_line(i, mix(i)));
  turned.assign(examples.rbegin(), examples.rend());
  std::vector<std::size_t> other = names(hold_out({turned, {}}, 0.2, 3).validation);
  std::sort(other.begin(), other.end());
  EXPECT_EQ(other, names(checked(examples, 0.2, 3).validation));
}

TEST(HoldOut, KeepsGroupsTogether) {
  std::vector<Example> examples;
  for (std::size_t i = 0; i < 300; ++i) examples.push_back(of_line(i, i / 3));
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    const DataSplit split = checked(examples, 0.1, seed);
    EXPECT_EQ(split.validation.size(), 30u);
    std::set<std::uint64_t> groups;
    for (const Example& example : split.validation) groups.insert(example.group);
    for (const Example& example : split.train) EXPECT_EQ(groups.count(example.group), 0u);
  }
}

TEST(HoldOut, TakesTheSmallestGroupWhereAllAreTooLarge) {
  std::vector<Example> examples;
  for (std::size_t i = 0; i < 10; ++i) examples.push_back(of_line(i, i < 4 ? 1 : 2));
  EXPECT_EQ(names(checked(examples, 0.1, 1).validation), (std::vector<std::size_t>{0, 1, 2, 3}));
}

TEST(HoldOut, CutsAGroupThatIsEverything) {
  std::vector<Example> examples;
  for (std::size_t i = 0; i < 20; ++i) examples.push_back(of_line(i, 7));
  EXPECT_EQ(checked(examples, 0.2, 1).validation.size(), 4u);
  EXPECT_EQ(checked({of_line(0, 7), of_line(1, 7)}, 0.5, 1).validation.size(), 1u);
}

TEST(HoldOut, TakesWholeDocumentsOfMany) {
  std::vector<Example> examples;
  for (std::size_t i = 0; i < 60; ++i) examples.push_back(of_document(i, i / 5));
  const DataSplit split = checked(examples, 0.17, 1);
  EXPECT_EQ(split.validation.size(), 10u);
  std::set<std::size_t> documents;
  for (const Example& example : split.validation) documents.insert(example.source);
  EXPECT_EQ(documents.size(), 2u);
  for (const Example& example : split.train) EXPECT_EQ(documents.count(example.source), 0u);
}

TEST(HoldOut, TakesTheEndsOfFewDocuments) {
  std::vector<Example> examples;
  for (std::size_t i = 0; i < 40; ++i) examples.push_back(of_document(i, i / 20));
  EXPECT_EQ(names(checked(examples, 0.1, 1).validation), (std::vector<std::size_t>{18, 19, 38, 39}));
  // Where a tenth of each is nothing: one of the longest.
  examples.clear();
  for (std::size_t i = 0; i < 7; ++i) examples.push_back(of_document(i, i / 4));
  EXPECT_EQ(names(checked(examples, 0.1, 1).validation), (std::vector<std::size_t>{3}));
  // Where each is one window: a whole document.
  EXPECT_EQ(checked({of_document(0, 0), of_document(1, 1), of_document(2, 2)}, 0.1, 1).validation.size(), 1u);
}

TEST(HoldOut, TakesOfLinesAndOfDocuments) {
  std::vector<Example> examples;
  for (std::size_t i = 0; i < 20; ++i) examples.push_back(of_line(i, mix(i)));
  for (std::size_t i = 20; i < 40; ++i) examples.push_back(of_document(i, 1));
  const std::vector<std::size_t> held = names(checked(examples, 0.1, 1).validation);
  ASSERT_EQ(held.size(), 4u);
  EXPECT_LT(held[1], 20u);
  EXPECT_EQ(held[2], 38u);
  EXPECT_EQ(checked({of_line(0, 1), of_document(1, 1)}, 0.5, 1).validation.size(), 1u);
}

TEST(HoldOut, RefusesWhatCannotBeParted) {
  const Dataset one = {{of_line(0, 1)}, {}}, two = {{of_line(0, 1), of_line(1, 2)}, {}};
  expect_error<std::runtime_error>([&] { hold_out(one, 0.1, 1); }, {"a single example", "--held-out 0"});
  for (const double fraction : {0.0, -1.0, 0.51, double(NAN)})
    expect_error<std::invalid_argument>([&] { hold_out(two, fraction, 1); }, {"above 0 and at most 0.5"});
}

}  // namespace
}  // namespace finetune
