// Names out of files, in messages.
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <tiedlora/adapter/quote.hpp>

namespace tiedlora_test {
namespace {

using tiedlora::detail::escaped;
using tiedlora::detail::in_quotes;

TEST(Quote, ShowsTextAsItIs) {
  for (const std::string_view text : {"blk.0.q", "", "m\u00f6del \u4f60\u597d \U0001f600", "a\\b \"c\""}) {
    EXPECT_EQ(escaped(text), text);
    EXPECT_EQ(in_quotes(text), "\"" + std::string(text) + "\"");
  }
}

TEST(Quote, EscapesControlCharacters) {
  EXPECT_EQ(escaped("a\x1b[2Jb\n\t\r\x7f"), R"(a\x1b[2Jb\n\t\x0d\x7f)");
  EXPECT_EQ(escaped(std::string_view("\0x", 2)), R"(\x00x)");
  EXPECT_EQ(escaped("\xc2\x80 \xc2\x9b \xc2\x9f \xc2\xa0"), R"(\xc2\x80 \xc2\x9b \xc2\x9f )"
                                                            "\xc2\xa0");
}

TEST(Quote, EscapesWhatTurnsOrEndsALine) {
  EXPECT_EQ(escaped("\u202e|\u202a|\u2066|\u2069|\u200f|\u061c"),
            R"(\xe2\x80\xae|\xe2\x80\xaa|\xe2\x81\xa6|\xe2\x81\xa9|\xe2\x80\x8f|\xd8\x9c)");
  EXPECT_EQ(escaped("\u2028|\u2029|\ufeff"), R"(\xe2\x80\xa8|\xe2\x80\xa9|\xef\xbb\xbf)");
  for (const std::string_view neighbour : {"\u2027", "\u202f", "\u2065", "\u206a", "\u061b", "\u00a0"})
    EXPECT_EQ(escaped(neighbour), neighbour);
}

TEST(Quote, EscapesWhatIsNoUtf8) {
  EXPECT_EQ(escaped("\xff|\x80|\xc0\xaf|\xed\xa0\x80|\xf4\x90\x80\x80|\xe2\x82"),
            R"(\xff|\x80|\xc0\xaf|\xed\xa0\x80|\xf4\x90\x80\x80|\xe2\x82)");
}

TEST(Quote, CutsLongTextBehindACharacter) {
  EXPECT_EQ(in_quotes(std::string(200, 'x')), "\"" + std::string(200, 'x') + "\"");
  EXPECT_EQ(in_quotes(std::string(201, 'x')), "\"" + std::string(200, 'x') + "…\"");
  EXPECT_EQ(escaped("\u00f6\u00f6\u00f6", 2), "\u00f6\u00f6…");
  EXPECT_EQ(escaped("\x1b\x1b", 1), R"(\x1b…)");
}

}  // namespace
}  // namespace tiedlora_test
