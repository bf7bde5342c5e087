// What an error says.
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <tiedlora/views/error.hpp>

#include "support/errors.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

TEST(Error, IsARuntimeErrorThatNamesTheLibrary) {
  try {
    detail::fail("x has ", 3, " features");
    FAIL() << "nothing was thrown";
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "tiedlora: x has 3 features");
  }
}

TEST(Error, PartsAreTextsAndNumbersOfAnyType) {
  const std::string text = "text";
  EXPECT_EQ(detail::message(text, std::string_view("view").substr(0, 2), "!"), "textvi!");
  EXPECT_EQ(detail::message(-1, ' ', 2.5, ' '), detail::message("-1", 32, "2.5", 32)) << "char is a number";
  EXPECT_EQ(detail::message(std::numeric_limits<std::int64_t>::min()), "-9223372036854775808");
  EXPECT_EQ(detail::message(std::numeric_limits<std::uint64_t>::max()), "18446744073709551615");
  EXPECT_EQ(detail::message(0.1), "0.1");
  EXPECT_EQ(detail::message(1.5f), "1.5");
}

TEST(Error, NothingOfANameReachesTheTerminal) {
  expect_error([] { detail::fail("module \"", "a\x1b[2J\nb\xff", "\""); }, {R"(module "a\x1b[2J\nb\xff")"});
}

TEST(Error, ALongMessageIsWhole) {
  const std::string text(100000, 'x');
  expect_error([&] { detail::fail("begin ", text, " end"); }, {"begin x", text, "x end"});
}

}  // namespace
}  // namespace tiedlora_test
