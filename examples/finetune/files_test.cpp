#include "files.hpp"

#include <gtest/gtest.h>

#include "test_folder.hpp"

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

}  // namespace
}  // namespace finetune
