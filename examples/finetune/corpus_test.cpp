#include "corpus.hpp"

#include <gtest/gtest.h>

#include "test_folder.hpp"

namespace finetune {
namespace {

TEST(Boilerplate, RemovesLeadingCommentsLicencesAndGuards) {
  const std::string text =
      "// -*- C++ -*-\n"
      "/* Copyright (C) 2001\n"
      "   Some licence. */\n"
      "\n"
      "/** @file vector */\n"
      "\n"
      "#ifndef VECTOR_H\n"
      "#define VECTOR_H 1\n"
      "\n"
      "// What follows is code.\n"
      "int a; // stays\n"
      "// Copyright someone else,\n"
      "// all rights reserved\n"
      "int b; /* stays too */\n"
      "#endif  // VECTOR_H\n";
  EXPECT_EQ(remove_boilerplate(text), "// What follows is code.\nint a; // stays\nint b; /* stays too */\n");
}

TEST(Boilerplate, LeavesOtherTextAlone) {
  EXPECT_EQ(remove_boilerplate("A title\n\nText with // two slashes.\n"),
            "A title\n\nText with // two slashes.\n");
  EXPECT_EQ(remove_boilerplate("#ifndef A\n#define B\nint x;\n#endif\n"),
            "#ifndef A\n#define B\nint x;\n#endif\n");
  EXPECT_EQ(remove_boilerplate("#ifndef A\n#define A\nint x;\n#endif\nint y;\n"),
            "#ifndef A\n#define A\nint x;\n#endif\nint y;\n");
  EXPECT_EQ(remove_boilerplate("/* never closed\nint x;\n"), "/* never closed\nint x;\n");
  EXPECT_EQ(remove_boilerplate("/* c */ int x;\n"), "/* c */ int x;\n");
  EXPECT_EQ(remove_boilerplate(""), "");
  EXPECT_EQ(remove_boilerplate("// only comments\n/* here */\n"), "");
  EXPECT_EQ(remove_boilerplate("#ifndef A\n#define A"), "#ifndef A\n#define A\n");
}

TEST(IsText, AcceptsUtf8AndRefusesTheRest) {
  EXPECT_TRUE(is_text("plain"));
  EXPECT_TRUE(is_text("\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"));  // 2, 3 and 4 bytes
  EXPECT_FALSE(is_text(std::string_view("a\0b", 3)));
  EXPECT_FALSE(is_text("\xff\xfe"));
  EXPECT_FALSE(is_text("caf\xe9"));           // Latin-1
  EXPECT_FALSE(is_text("\xc0\xaf"));          // overlong
  EXPECT_FALSE(is_text("\xed\xa0\x80"));      // a surrogate
  EXPECT_FALSE(is_text("\xf4\x90\x80\x80"));  // beyond U+10FFFF
  EXPECT_FALSE(is_text("\xe2\x82"));          // cut off
}

TEST(Collect, ReadsFoldersSortedAndSkipsBinariesAndDuplicates) {
  const TestFolder folder;
  folder.write("b/two.txt", "two\n");
  folder.write("a/one.txt", "one\n");
  folder.write("a/same.txt", "one\n");
  folder.write("a/image.png", std::string("\x89PNG\0", 5));
  folder.write("misc/out.txt", "left out\n");
  folder.write(".git/config", "hidden\n");
  const Corpus corpus = collect("base text", "--base-text", {folder.path()}, {"misc"});
  ASSERT_EQ(corpus.files.size(), 2u);
  EXPECT_EQ(corpus.files[0].text, "one\n");
  EXPECT_EQ(corpus.files[1].text, "two\n");
  EXPECT_EQ(corpus.files[1].directory,
            folder.path().lexically_relative(folder.path().parent_path().parent_path()) / "b");
  EXPECT_EQ(corpus.skipped_binary, 1u);
  EXPECT_EQ(corpus.skipped_duplicate, 1u);
  EXPECT_EQ(corpus.bytes(), 8u);
}

TEST(Collect, TakesSingleFilesOnce) {
  const TestFolder folder;
  folder.write("one.txt", "one\n");
  const auto file = folder.path() / "one.txt";
  EXPECT_EQ(collect("task text", "--task-text", {file, folder.path(), file}).files.size(), 1u);
}

TEST(Collect, NamesWhatIsMissing) {
  const TestFolder folder;
  try {
    collect("task text", "--task-text", {folder.path() / "nowhere"});
    FAIL() << "a missing path was accepted";
  } catch (const std::runtime_error& error) {
    EXPECT_NE(std::string(error.what()).find("--task-text"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("nowhere"), std::string::npos);
  }
  EXPECT_THROW(collect("task text", "--task-text", {folder.path()}), std::runtime_error);
}

}  // namespace
}  // namespace finetune
