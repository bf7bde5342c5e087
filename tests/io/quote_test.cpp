// Names out of files, in messages.
#include <gtest/gtest.h>

#include <string>
#include <tiedlora/io/quote.hpp>

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using tiedlora::detail::in_quotes;

TEST(Quote, ShowsTextAsItIs) {
  EXPECT_EQ(in_quotes("blk.0.q"), "\"blk.0.q\"");
  EXPECT_EQ(in_quotes(""), "\"\"");
  EXPECT_EQ(in_quotes("m\xC3\xB6"
                      "del"),
            "\"m\xC3\xB6"
            "del\"");
}

TEST(Quote, ShowsNoControlCharacters) {
  EXPECT_EQ(in_quotes("a\x1b[2Jb\n\x7f"), "\"a?[2Jb??\"");
  EXPECT_EQ(in_quotes(std::string_view("\0", 1)), "\"?\"");
}

TEST(Quote, CutsLongText) {
  EXPECT_EQ(in_quotes(std::string(200, 'x')), "\"" + std::string(200, 'x') + "\"");
  EXPECT_EQ(in_quotes(std::string(201, 'x')), "\"" + std::string(200, 'x') + "...\"");
}

}  // namespace
}  // namespace tiedlora_test
