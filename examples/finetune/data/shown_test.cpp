// What of a file's text is shown, and how.
#include "shown.hpp"

#include <gtest/gtest.h>

namespace finetune {
namespace {

TEST(Escaped, ShowsTextAndNothingElse) {
  EXPECT_EQ(escaped("Él \"so\" 漢 😀"), "Él \"so\" 漢 😀");
  EXPECT_EQ(escaped("a\n\t\r\x1b[31m\x7f"), "a\\n\\t\\x0d\\x1b[31m\\x7f");
  EXPECT_EQ(escaped("\xc2\x9b"
                    "31m"),
            "\\xc2\\x9b31m");  // CSI as one character
  EXPECT_EQ(escaped("a\u202e"
                    "b\u2066"),
            "a\\xe2\\x80\\xae"
            "b\\xe2\\x81\\xa6");  // right to left
  EXPECT_EQ(escaped("\xff\xc0\xaf\xed\xa0\x80\xe2\x82"), "\\xff\\xc0\\xaf\\xed\\xa0\\x80\\xe2\\x82");
  EXPECT_EQ(quoted("ééééé", 3), "\"ééé…\"");
  EXPECT_EQ(quoted("ééé", 3), "\"ééé\"");
}

TEST(FindBroken, FindsTheFirst) {
  EXPECT_EQ(find_broken("Él \xe2\x82\xac \xf0\x9f\x98\x80\xf4\x8f\xbf\xbf"), std::string_view::npos);
  EXPECT_EQ(find_broken(std::string_view("a\0b", 3)), 1u);
  for (const char* text : {"a\x80", "a\xc1\x80", "a\xe0\x9f\x80", "a\xed\xa0\x80", "a\xf0\x8f\x80\x80",
                           "a\xf4\x90\x80\x80", "a\xf5\x80\x80\x80", "a\xe2\x82", "a\xff"})
    EXPECT_EQ(find_broken(text), 1u) << text;
}

}  // namespace
}  // namespace finetune
