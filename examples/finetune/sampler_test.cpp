#include "sampler.hpp"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace finetune {
namespace {

// Bytes that tell their own place: text[i] and text[i + 1] give i mod 65536.
std::string numbered(std::size_t size) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i)
    text[i] = static_cast<char>(i % 2 == 0 ? i / 2 % 256 : i / 512 % 256);
  return text;
}

TEST(Sampler, IsAPureFunctionOfSeedAndStep) {
  const std::string text = numbered(5000);
  const Sampler one(text, 4, 16, 7), same(text, 4, 16, 7), other(text, 4, 16, 8);
  const Tokens third = one.batch(3);
  one.batch(9);  // what was asked before must not matter
  EXPECT_EQ(one.batch(3).tokens, third.tokens);
  EXPECT_EQ(same.batch(3).tokens, third.tokens);
  EXPECT_EQ(same.batch(3).targets, third.targets);
  EXPECT_NE(one.batch(4).tokens, third.tokens);
  EXPECT_NE(other.batch(3).tokens, third.tokens);
}

TEST(Sampler, TargetsFollowTokens) {
  const std::string text = "abcdefghijklmnopqrstuvwxyz";
  const Tokens batch = Sampler(text, 3, 5, 1).batch(0);
  ASSERT_EQ(batch.tokens.size(), 15u);
  for (std::size_t i = 0; i < 15; ++i) {
    EXPECT_EQ(batch.targets[i], batch.tokens[i] + 1);
    if (i % 5 != 0) {
      EXPECT_EQ(batch.tokens[i], batch.targets[i - 1]);
    }
  }
}

TEST(Sampler, ReachesBothEndsOfTheText) {
  const std::string text = "0123456";  // 3 windows of 4 bytes and a target
  const Sampler sampler(text, 1, 4, 1);
  std::set<std::int32_t> first;
  for (std::uint64_t step = 0; step < 50; ++step) first.insert(sampler.batch(step).tokens[0]);
  EXPECT_EQ(first, (std::set<std::int32_t>{'0', '1', '2'}));
}

TEST(Sampler, BytesAboveAsciiArePositive) {
  const Tokens batch = Sampler("\xff\xfe\xfd", 1, 2, 1).batch(0);
  EXPECT_EQ(batch.tokens[0], 0xff);
}

TEST(Sampler, RefusesATextWithoutAWindow) {
  EXPECT_THROW(Sampler("abcd", 1, 4, 1), std::invalid_argument);
  EXPECT_THROW(Sampler("abcd", 0, 2, 1).batch(0), std::invalid_argument);
  EXPECT_THROW(evaluation_batches("abcd", 1, 4, 1), std::invalid_argument);
  EXPECT_THROW(evaluation_batches("", 1, 4, 1), std::invalid_argument);
}

TEST(EvaluationBatches, AreFixedDisjointWindowsSpreadOverTheText) {
  const std::string text = numbered(10 * 100 + 1);  // 100 windows of 10
  const std::vector<Tokens> batches = evaluation_batches(text, 4, 10, 20);
  ASSERT_EQ(batches.size(), 5u);
  std::set<std::size_t> begins;
  for (const Tokens& batch : batches)
    for (std::ptrdiff_t row = 0; row < 4; ++row) {
      std::string window;
      for (std::ptrdiff_t i = 0; i < 10; ++i)
        window += static_cast<char>(batch.tokens[static_cast<std::size_t>(row * 10 + i)]);
      std::size_t begin = 0;  // the only multiple of the length with these bytes
      while (text.compare(begin, 10, window) != 0 && begin < 990) begin += 10;
      ASSERT_EQ(text.compare(begin, 10, window), 0);
      begins.insert(begin);
    }
  EXPECT_EQ(begins.size(), 20u);
  EXPECT_EQ(*begins.begin(), 0u);
  EXPECT_EQ(*begins.rbegin(), 950u);
  EXPECT_EQ(evaluation_batches(text, 4, 10, 20)[3].tokens, batches[3].tokens);
}

TEST(EvaluationBatches, TakeWhatFits) {
  EXPECT_EQ(evaluation_batches(numbered(31), 8, 10, 100).size(), 1u);
  EXPECT_EQ(evaluation_batches(numbered(31), 8, 10, 100)[0].sequences, 3);
  EXPECT_EQ(evaluation_batches(numbered(30), 8, 10, 100)[0].sequences, 2);  // the last byte has no target
}

}  // namespace
}  // namespace finetune
