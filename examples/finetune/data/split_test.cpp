// Train, select and test hold no near-copies of each other.
#include <set>

#include <gtest/gtest.h>
#include <finetune/test_folder.hpp>

#include "split.hpp"
#include "text_data.hpp"

namespace finetune {
namespace {

// `lines` distinctive lines that no other `topic` has.
std::string prose(const std::string& topic, int lines) {
  std::string text;
  for (int i = 0; i < lines; ++i)
    text += "a long line number " + std::to_string(i) + " about " + topic + "\n";
  return text;
}

Corpus corpus_in(const TestFolder& folder) { return collect("task text", "--task-text", {folder.path()}); }

Part part_of(const Split& split, const std::string& unit_end) {
  for (const Split::Row& row : split.rows)
    if (row.unit.size() >= unit_end.size() && row.unit.substr(row.unit.size() - unit_end.size()) == unit_end)
      return row.part;
  throw std::out_of_range(unit_end);
}

TEST(Split, KeepsNearCopiesTogether) {
  const TestFolder folder;
  for (int i = 0; i < 12; ++i)
    folder.write("other" + std::to_string(i) + "/f" + std::to_string(i) + ".txt",
                 prose("other" + std::to_string(i), 30));
  // Copies by content: 60 % of the lines.
  folder.write("original/long.txt", prose("shared", 30) + prose("first", 20));
  folder.write("changed/renamed.txt", prose("shared", 30) + prose("second", 20));
  // Copies by name: side by side, nothing else in common.
  for (const std::string isa : {"SSE", "NEON", "AVX"})
    for (const std::string file : {"Math.h", "Complex.h", "Packet.h"})
      folder.write("arch/" + isa + "/" + file, prose(isa + file, 20));
  const Split split = split_corpus(corpus_in(folder), 100);
  EXPECT_EQ(split.unit_kind, "folder");
  EXPECT_EQ(part_of(split, "original"), part_of(split, "changed"));
  EXPECT_EQ(part_of(split, "SSE"), part_of(split, "NEON"));
  EXPECT_EQ(part_of(split, "SSE"), part_of(split, "AVX"));
  for (const std::string& text : split.texts) EXPECT_GT(text.size(), 100u);
}

TEST(Split, NoNearCopyCrossesThePartsOfTheDefaultTaskText) {
  const Corpus corpus = collect("task text", "--task-text", default_task_text(), left_out_of_task_text());
  const Split split = split_corpus(corpus, 1000);
  ASSERT_EQ(split.unit_kind, "folder");
  EXPECT_EQ(part_of(split, "Core/arch/SSE"), part_of(split, "Core/arch/NEON"));
  EXPECT_EQ(part_of(split, "Core/arch/SSE"), part_of(split, "Core/arch/AltiVec"));
  EXPECT_EQ(part_of(split, "Core/arch/SSE"), part_of(split, "Core/arch/AVX512"));
  // Independent of the grouping: compares every test file with every training file.
  std::vector<std::vector<std::uint64_t>> lines;
  std::vector<Part> parts;
  for (const TextFile& file : corpus.files) {
    lines.push_back(distinctive_lines(file.text));
    for (const Split::Row& row : split.rows)
      if (row.unit == file.directory.string()) parts.push_back(row.part);
  }
  ASSERT_EQ(parts.size(), corpus.files.size());  // folder names are unambiguous
  for (std::size_t a = 0; a < lines.size(); ++a)
    for (std::size_t b = 0; b < lines.size(); ++b) {
      if (parts[a] == parts[b] || lines[a].size() < fewest_lines || lines[a].size() > lines[b].size())
        continue;
      std::size_t shared = 0;
      for (const std::uint64_t line : lines[a])
        shared += std::binary_search(lines[b].begin(), lines[b].end(), line);
      EXPECT_LT(double(shared), file_copy_share * double(lines[a].size()))
          << corpus.files[a].path << " and " << corpus.files[b].path;
    }
  for (std::size_t p = 0; p < 3; ++p) {
    const double share = double(split.texts[p].size()) / double(corpus.bytes());
    EXPECT_NEAR(share, part_shares[p], 0.5 * part_shares[p]) << part_names[p];
  }
}

TEST(Split, IsDeterministic) {
  const TestFolder folder;
  for (int i = 0; i < 20; ++i)
    folder.write("d" + std::to_string(i % 7) + "/" + std::to_string(i) + ".txt",
                 prose(std::to_string(i), 10 + i));
  const Split first = split_corpus(corpus_in(folder), 100), second = split_corpus(corpus_in(folder), 100);
  EXPECT_EQ(first.texts, second.texts);
  EXPECT_EQ(first.hash, second.hash);
  folder.write("d1/1.txt", prose("changed", 11));
  EXPECT_NE(split_corpus(corpus_in(folder), 100).hash, first.hash);
}

TEST(Split, FallsBackToFilesAndBlocks) {
  const TestFolder files;
  for (int i = 0; i < 10; ++i) files.write(std::to_string(i) + ".txt", prose(std::to_string(i), 20));
  EXPECT_EQ(split_corpus(corpus_in(files), 100).unit_kind, "file");

  const TestFolder one;
  one.write("book.txt", prose("one", 100));
  const Corpus corpus = corpus_in(one);
  const Split split = split_corpus(corpus, 100);
  EXPECT_EQ(split.unit_kind, "block");
  EXPECT_EQ(split.text(Part::train) + split.text(Part::select) + split.text(Part::test),
            corpus.files[0].text + '\n');
}

TEST(Split, SaysHowMuchTextIsNeeded) {
  const TestFolder folder;
  folder.write("tiny.txt", "too little text\n");
  try {
    split_corpus(corpus_in(folder), 500);
    FAIL() << "too little text was accepted";
  } catch (const std::runtime_error& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("--task-text"), std::string::npos) << message;
    EXPECT_NE(message.find("16 bytes"), std::string::npos) << message;
    EXPECT_NE(message.find("5010"), std::string::npos) << message;
  }
}

TEST(Overlap, IsRemovedFromTheBaseText) {
  const TestFolder base, task;
  base.write("own.txt", prose("own", 30));
  base.write("copied.txt", prose("task", 30) + prose("more", 10));
  task.write("task.txt", prose("task", 30));
  Corpus corpus = corpus_in(base);
  remove_overlap(corpus, corpus_in(task));
  ASSERT_EQ(corpus.files.size(), 1u);
  EXPECT_EQ(corpus.files[0].path.filename(), "own.txt");
  EXPECT_EQ(corpus.skipped_overlap, 1u);
  Corpus same = corpus_in(task);
  EXPECT_THROW(remove_overlap(same, corpus_in(task)), std::runtime_error);
}

TEST(DefaultText, IsThere) {
  EXPECT_FALSE(default_task_text().empty());
  const Corpus base = collect("base text", "--base-text", default_base_text());
  EXPECT_GT(base.bytes(), 1000000u);
  EXPECT_NO_THROW(split_corpus(base, 1000));
}

}  // namespace
}  // namespace finetune
