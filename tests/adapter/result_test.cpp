// A value, or why there is none.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <tiedlora/adapter/result.hpp>
#include <utility>

#include "support/errors.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

TEST(Result, HoldsAValue) {
  Result<std::string> result(std::string("abc"));
  ASSERT_TRUE(result);
  EXPECT_EQ(*result, "abc");
  EXPECT_EQ(result->size(), 3u);
  *result += "d";
  EXPECT_EQ(*std::as_const(result), "abcd");
}

TEST(Result, HoldsAFailureInstead) {
  const Result<std::string> result = Failure{"no file"};
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error(), "no file");
  const Result<int> other = result.failure();
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error(), "no file");
}

TEST(Result, GivesAwayWhatOnlyMoves) {
  Result<std::unique_ptr<int>> result(std::make_unique<int>(7));
  const std::unique_ptr<int> taken = *std::move(result);
  EXPECT_EQ(*taken, 7);
  EXPECT_EQ(*detail::value_or_fail(Result<std::unique_ptr<int>>(std::make_unique<int>(8))), 8);
}

TEST(Result, OfATextIsNoFailure) { EXPECT_TRUE(Result<std::string>(std::string("no file"))); }

TEST(Result, WithoutAValueIsAnErrorWithTheReason) {
  expect_error([] { (void)detail::value_or_fail(Result<int>(Failure{"no file"})); }, {"tiedlora: no file"});
}

TEST(Status, IsSuccessOrWhyNot) {
  EXPECT_TRUE(success());
  EXPECT_FALSE(Status(Failure{"full"}));
}

}  // namespace
}  // namespace tiedlora_test
