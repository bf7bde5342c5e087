// What is packed together, how often, and in which order.
#include "batches.hpp"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "expect_error.hpp"

namespace finetune {
namespace {

// Example i has the tokens 1000 i, 1000 i + 1, …, of which those with odd places count.
Example example(std::size_t i, std::size_t size) {
  Example result;
  for (std::size_t k = 0; k < size; ++k) {
    result.tokens.push_back(static_cast<llama::Token>(1000 * i + k));
    result.counted.push_back(k % 2 == 1);
  }
  return result;
}
std::vector<Example> examples(std::size_t count) {
  std::vector<Example> result;
  for (std::size_t i = 0; i < count; ++i) result.push_back(example(i, 2 + 7 * i % 11));
  return result;
}

// Checks what must hold of any batch of these; returns which examples are in it.
std::vector<std::size_t> check(const TokenBatch& batch, const std::vector<Example>& examples, Index most) {
  std::vector<std::size_t> found;
  EXPECT_LE(static_cast<Index>(batch.tokens.size()), most);
  EXPECT_EQ(batch.targets.size(), batch.tokens.size());
  EXPECT_EQ(std::accumulate(batch.lengths.begin(), batch.lengths.end(), Index{0}),
            static_cast<Index>(batch.tokens.size()));
  Index counted = 0;
  std::size_t at = 0;
  for (const Index length : batch.lengths) {
    const auto i = static_cast<std::size_t>(batch.tokens.at(at) / 1000);
    const Example& source = examples.at(i);
    EXPECT_EQ(static_cast<std::size_t>(length), source.tokens.size() - 1);
    for (std::size_t k = 0; k < static_cast<std::size_t>(length); ++k, ++at) {
      EXPECT_EQ(batch.tokens[at], source.tokens[k]);
      EXPECT_EQ(batch.targets[at], source.counted[k + 1] ? source.tokens[k + 1] : -1);
      counted += source.counted[k + 1];
    }
    found.push_back(i);
  }
  EXPECT_EQ(batch.counted, counted);
  return found;
}

TEST(Batches, HaveEveryExampleOnceAnEpoch) {
  const std::vector<Example> all = examples(40);
  const Batches batches(all, 23, 5);
  std::int64_t step = 0;
  for (int epoch = 0; epoch < 5; ++epoch) {
    std::multiset<std::size_t> seen;
    for (; seen.size() < all.size(); ++step)
      for (const std::size_t i : check(batches.batch(step), all, 23)) seen.insert(i);
    EXPECT_EQ(seen.size(), all.size()) << "a batch reaches into the next epoch";
    for (std::size_t i = 0; i < all.size(); ++i) EXPECT_EQ(seen.count(i), 1u) << i;
    if (epoch == 0) {
      EXPECT_EQ(step, batches.per_epoch());
    }
  }
}

TEST(Batches, AreFullBeforeTheNextBegins) {
  const std::vector<Example> all = examples(40);
  const Batches batches(all, 23, 5);
  for (std::int64_t step = 0; step + 1 < batches.per_epoch(); ++step)
    EXPECT_GT(static_cast<Index>(batches.batch(step).tokens.size()) + batches.batch(step + 1).lengths[0], 23);
}

TEST(Batches, AreAPureFunctionOfSeedAndStep) {
  const std::vector<Example> all = examples(40);
  const Batches one(all, 23, 5), other_way(all, 23, 5), other_seed(all, 23, 6);
  constexpr std::int64_t count = 100;
  std::map<std::int64_t, TokenBatch> forward;
  for (std::int64_t step = 0; step < count; ++step) forward[step] = one.batch(step);
  for (std::int64_t step = count; step-- > 0;) {
    const TokenBatch batch = other_way.batch(step);
    EXPECT_EQ(batch.tokens, forward[step].tokens) << step;
    EXPECT_EQ(batch.targets, forward[step].targets);
    EXPECT_EQ(batch.lengths, forward[step].lengths);
    EXPECT_EQ(one.batch(step * 7 % count).tokens, forward[step * 7 % count].tokens);
  }
  EXPECT_NE(other_seed.batch(0).tokens, forward[0].tokens);
}

TEST(Batches, AreShuffledAnewEveryEpoch) {
  std::vector<Example> numbered;
  for (std::size_t i = 0; i < 64; ++i) numbered.push_back(example(i, 3));
  const Batches batches(numbered, 2 * 64, 1);  // an epoch is a batch
  ASSERT_EQ(batches.per_epoch(), 1);
  std::set<std::vector<std::int32_t>> orders;
  for (std::int64_t step = 0; step < 10; ++step) orders.insert(batches.batch(step).tokens);
  EXPECT_EQ(orders.size(), 10u);
  EXPECT_EQ(orders.count(in_order(numbered, 2 * 64)[0].tokens), 0u);
}

TEST(Batches, RefuseWhatCannotBePacked) {
  expect_error<std::invalid_argument>([] { Batches({}, 8, 1); }, {"no examples"});
  expect_error<std::invalid_argument>(
      [] { Batches({example(0, 10), example(0, 12)}, 8, 1); },
      {"has 12 tokens", "batches of 8; give --batch-tokens 12 or more, or --window 8"});
  expect_error<std::invalid_argument>([] { Batches({example(0, 1)}, 8, 1); },
                                      {"1 tokens", "nothing to predict"});
  expect_error<std::invalid_argument>([] { (void)Batches({example(0, 9)}, 8, 1).batch(-1); }, {"-1"});
  EXPECT_EQ(Batches({example(0, 9)}, 8, 1).per_epoch(), 1);
}

TEST(InOrder, KeepsTheOrderAndPacks) {
  const std::vector<Example> all = examples(20);
  std::vector<std::size_t> seen;
  for (const TokenBatch& batch : in_order(all, 12))
    for (const std::size_t i : check(batch, all, 12)) seen.push_back(i);
  std::vector<std::size_t> expected(20);
  std::iota(expected.begin(), expected.end(), std::size_t{0});
  EXPECT_EQ(seen, expected);
  EXPECT_TRUE(in_order({}, 12).empty());
  EXPECT_THROW(in_order({example(0, 14)}, 12), std::invalid_argument);
}

}  // namespace
}  // namespace finetune
