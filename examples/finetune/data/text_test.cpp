// Files and tables, the text collected from folders, and the batches cut from it.
#include <set>
#include <string>

#include <gtest/gtest.h>
#include <finetune/test_folder.hpp>

#include "corpus.hpp"
#include "files.hpp"
#include "text_data.hpp"

namespace finetune {
namespace {

TEST(WriteAtomically, ReplacesWholeFilesAndLeavesNothingElse) {
  const TestFolder folder;
  const auto path = folder.path() / "deep" / "file.txt";
  write_atomically(path, "first");
  write_atomically(path, "second");
  EXPECT_EQ(read_file(path), "second");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(path.parent_path()), {}), 1);
}

TEST(WriteAtomically, SaysWhatItCannotWrite) {
  const TestFolder folder;
  folder.write("file", "");
  EXPECT_THROW(write_atomically(folder.path() / "file" / "below", "x"), std::exception);
}

TEST(CsvTable, ReadsBackWhatItWrites) {
  const TestFolder folder;
  const auto path = folder.path() / "table.csv";
  CsvTable table({"name", "value"});
  table.add({"plain", "1"});
  table.add({"a, b", "say \"hi\""});
  table.add({"", ""});
  table.save(path);
  EXPECT_EQ(read_file(path), "name,value\nplain,1\n\"a, b\",\"say \"\"hi\"\"\"\n,\n");
  const CsvTable loaded = CsvTable::load(path, {"name", "value"});
  EXPECT_EQ(loaded.rows(), table.rows());
}

TEST(CsvTable, DropsARowThatWasCutOff) {
  const TestFolder folder;
  folder.write("table.csv", "name,value\nwhole,1\ncut,");
  EXPECT_EQ(CsvTable::load(folder.path() / "table.csv", {"name", "value"}).rows().size(), 1u);
}

TEST(CsvTable, RefusesOtherColumns) {
  const TestFolder folder;
  folder.write("table.csv", "name\nx\n");
  EXPECT_THROW(CsvTable::load(folder.path() / "table.csv", {"name", "value"}), std::runtime_error);
}

TEST(CsvTable, RemovesRowsByTheirFirstFields) {
  CsvTable table({"a", "b", "c"});
  table.add({"1", "x", "old"});
  table.add({"1", "y", "old"});
  table.remove({"1", "x"});
  ASSERT_EQ(table.rows().size(), 1u);
  EXPECT_EQ(table.rows()[0][1], "y");
  EXPECT_THROW(table.add({"too", "few"}), std::invalid_argument);
}

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
