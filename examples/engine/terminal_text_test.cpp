#include "../terminal_text.hpp"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace examples {
namespace {

TEST(TerminalText, PassesTextWhateverThePieces) {
  const std::string text =
      "a\tb\n\xc3\xbc \xe6\x97\xa5 \xf0\x9f\x99\x82 \xd7\xa9\xe2\x80\x8f";  // and a mark of direction
  EXPECT_EQ(TerminalText::of(text), text);
  for (std::size_t size = 1; size < 5; ++size) {
    TerminalText pieces;
    std::string shown;
    for (std::size_t at = 0; at < text.size(); at += size)
      shown += pieces.add(std::string_view(text).substr(at, size));
    EXPECT_EQ(shown + pieces.end(), text) << size;
  }
}

TEST(TerminalText, ShowsControlCharactersAndBrokenBytes) {
  EXPECT_EQ(TerminalText::of("\x1b[2Ka\r\x7f"), "\\x1b[2Ka\\x0d\\x7f");
  EXPECT_EQ(TerminalText::of("\xc2\x9b"
                             "1m"),
            "\\xc2\\x9b1m");  // C1's CSI
  EXPECT_EQ(TerminalText::of("\xff\x80"
                             "a\xe6\x97"),
            "\\xff\\x80a\\xe6\\x97");
  EXPECT_EQ(TerminalText::of("\xe6"
                             "b"),
            "\\xe6"
            "b");
  EXPECT_EQ(TerminalText::of("\xc0\xaf"), "\\xc0\\xaf");  // longer than need be
  TerminalText pieces;                                    // a control character in two pieces
  EXPECT_EQ(pieces.add("\xc2"), "");
  EXPECT_EQ(pieces.add("\x9b"), "\\xc2\\x9b");
}

}  // namespace
}  // namespace examples
