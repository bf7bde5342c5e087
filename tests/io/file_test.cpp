#include <gtest/gtest.h>

#include <csignal>
#include <tiedlora/io/file.hpp>

#include "support/io_files.hpp"

#ifndef _WIN32
#include <sys/resource.h>
#endif

namespace tiedlora_test {
namespace {

using namespace tiedlora;

std::string_view text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

TEST(MappedFile, HoldsTheBytesAndKeepsThemWhenMoved) {
  const Folder folder;
  write_text(folder / "x", "some text");
  Result<MappedFile> opened = MappedFile::try_open(folder / "x");
  ASSERT_TRUE(opened) << opened.error();
  const auto* place = opened->bytes().data();
  MappedFile file = *std::move(opened);
  EXPECT_EQ(file.bytes().data(), place);
  MappedFile other;
  other = std::move(file);
  EXPECT_EQ(text_of(other), "some text");
}

TEST(MappedFile, AnEmptyFileHasNoBytes) {
  const Folder folder;
  write_text(folder / "x", "");
  EXPECT_TRUE(MappedFile::try_open(folder / "x")->bytes().empty());
}

TEST(MappedFile, NamesWhatCannotBeOpened) {
  const Folder folder;
  expect_failure(MappedFile::try_open(folder / "x"), {"x\" cannot be opened", not_there});
}

TEST(MappedFile, AReplacedFileStaysAsItWas) {
  const Folder folder;
  ASSERT_TRUE(try_write_file(folder / "x", "old"));
  const MappedFile file = *MappedFile::try_open(folder / "x");
  const Status done = try_write_file(folder / "x", "longer than before");
  ASSERT_TRUE(done) << done.error();
  EXPECT_EQ(text_of(file), "old");
  EXPECT_EQ(read_text(folder / "x"), "longer than before");
}

TEST(AtomicFile, TheTargetAppearsAtCommit) {
  const Folder folder;
  write_text(folder / "x", "old");
  Result<AtomicFile> file = AtomicFile::try_create(folder / "x");
  ASSERT_TRUE(file) << file.error();
  ASSERT_TRUE(file->try_append("one, "));
  ASSERT_TRUE(file->try_append("two"));
  EXPECT_EQ(read_text(folder / "x"), "old");
  ASSERT_TRUE(file->try_commit());
  EXPECT_EQ(read_text(folder / "x"), "one, two");
  EXPECT_EQ(folder.entries(), 1);
}

TEST(AtomicFile, WithoutCommitNothingIsLeft) {
  const Folder folder;
  {
    Result<AtomicFile> file = AtomicFile::try_create(folder / "x");
    ASSERT_TRUE(file);
    AtomicFile moved = *std::move(file);
    ASSERT_TRUE(moved.try_append("half"));
    EXPECT_EQ(folder.entries(), 1);
  }
  EXPECT_EQ(folder.entries(), 0);
}

TEST(AtomicFile, TheOldFileCanGoFirst) {
  const Folder folder;
  for (const char* before : {"old", ""}) {
    if (*before) write_text(folder / "x", before);
    Result<AtomicFile> file = AtomicFile::try_create(folder / "x");
    ASSERT_TRUE(file) << file.error();
    ASSERT_TRUE(file->try_append("new"));
    ASSERT_TRUE(file->try_remove_old());
    EXPECT_FALSE(std::filesystem::exists(folder / "x"));
    ASSERT_TRUE(file->try_commit());
    EXPECT_EQ(read_text(folder / "x"), "new");
    EXPECT_EQ(folder.entries(), 1);
    std::filesystem::remove(folder / "x");
  }
}

TEST(AtomicFile, TwoWritersAtOnceDoNotMix) {
  const Folder folder;
  Result<AtomicFile> first = AtomicFile::try_create(folder / "x");
  Result<AtomicFile> second = AtomicFile::try_create(folder / "x");
  ASSERT_TRUE(first && second);
  ASSERT_TRUE(first->try_append("first") && second->try_append("second"));
  ASSERT_TRUE(second->try_commit());
  EXPECT_EQ(read_text(folder / "x"), "second");
  ASSERT_TRUE(first->try_commit());
  EXPECT_EQ(read_text(folder / "x"), "first");
  EXPECT_EQ(folder.entries(), 1);
}

TEST(AtomicFile, RefusesFoldersThatAreMissingAndTargetsThatAreNoFiles) {
  const Folder folder;
  expect_failure(AtomicFile::try_create(folder / "no/x"), {"x\" cannot be written", not_there});
  expect_failure(AtomicFile::try_create(folder.path()), {"not a regular file"});
#ifndef _WIN32
  expect_failure(AtomicFile::try_create("/dev/null"), {"/dev/null", "not a regular file"});
#endif
}

TEST(AtomicFile, WritesIntoTheCurrentFolder) {
  const Folder folder;
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  const Status done = try_write_file("x", "here");
  std::filesystem::current_path(before);
  ASSERT_TRUE(done) << done.error();
  EXPECT_EQ(read_text(folder / "x"), "here");
}

TEST(AtomicFile, TakesNamesUpToTheLongest) {
  const Folder folder;
  const std::string name(255, 'x');
  const Status done = try_write_file(folder / name, "here");
  ASSERT_TRUE(done) << done.error();
  EXPECT_EQ(read_text(folder / name), "here");
}

// More than the 260 characters that Windows takes without being told, in folders and names of several
// scripts.
TEST(AtomicFile, TakesLongPathsAndEveryScript) {
  const Folder folder;
  std::filesystem::path path = folder.path();
  for (int i = 0; i < 4; ++i)
    path /= std::filesystem::path(std::u8string(u8"Übung 練習 упражнение ") + std::u8string(50, u8'x'));
  std::filesystem::create_directories(detail::system::openable(path));
  path /= u8"Gewichte 重み.safetensors";
  ASSERT_GT(path.native().size(), 260u);
  const auto write = [](const std::filesystem::path& to, std::string_view text) {
    const Status done = try_write_file(to, text);
    EXPECT_TRUE(done) << done.error();
  };
  write(path, "old");
  const MappedFile file = *MappedFile::try_open(path);
  write(path, "new");
  EXPECT_EQ(text_of(file), "old");
  EXPECT_EQ(text_of(*MappedFile::try_open(path)), "new");
  path += u8"x";
  expect_failure(MappedFile::try_open(path), {"Übung 練習", "cannot be opened"});
}

TEST(MappedFile, RefusesFolders) {
  const Folder folder;
  expect_failure(MappedFile::try_open(folder.path()), {"not a file but a folder"});
}

TEST(AtomicFile, WhatAKilledWriterLeftGoesWithTheNext) {
  const Folder folder;
  write_text(folder / ".x.0123456789ab.partial", "half");  // nobody holds its lock
  write_text(folder / ".y.0123456789ab.partial", "of another target");
  ASSERT_TRUE(try_write_file(folder / "x", "new"));
  EXPECT_FALSE(std::filesystem::exists(folder / ".x.0123456789ab.partial"));
  EXPECT_TRUE(std::filesystem::exists(folder / ".y.0123456789ab.partial"));
}

TEST(AtomicFile, FlushesAheadOfCommit) {
  const Folder folder;
  write_text(folder / "x", "old");
  Result<AtomicFile> file = AtomicFile::try_create(folder / "x");
  ASSERT_TRUE(file) << file.error();
  ASSERT_TRUE(file->try_append("new"));
  ASSERT_TRUE(file->try_flush());
  EXPECT_EQ(read_text(folder / "x"), "old");
  ASSERT_TRUE(file->try_commit());
  EXPECT_EQ(read_text(folder / "x"), "new");
}

#ifdef _WIN32
TEST(AtomicFile, LeavesATargetThatIsReadOnly) {
  const Folder folder;
  write_text(folder / "x", "old");
  std::filesystem::permissions(folder / "x", std::filesystem::perms::owner_read);
  const Status done = try_write_file(folder / "x", "new");
  std::filesystem::permissions(folder / "x", std::filesystem::perms::owner_all);
  expect_failure(done, {"x\" cannot be written"});
  EXPECT_EQ(read_text(folder / "x"), "old");
  EXPECT_EQ(folder.entries(), 1);
}
#endif

#ifndef _WIN32
TEST(MappedFile, RefusesPipes) {
  const Folder folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  expect_failure(MappedFile::try_open(folder / "pipe"), {"not a file"});
}

TEST(AtomicFile, KeepsPermissionsAndFollowsLinks) {
  const Folder folder;
  write_text(folder / "x", "old");
  ASSERT_EQ(::chmod((folder / "x").c_str(), 0640), 0);
  std::filesystem::create_symlink("x", folder / "link");
  ASSERT_TRUE(try_write_file(folder / "link", "new"));
  EXPECT_EQ(read_text(folder / "x"), "new");
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link"));
  EXPECT_EQ(static_cast<int>(std::filesystem::status(folder / "x").permissions()), 0640);

  // A new one is as any program of the user's would make it, not for the owner alone.
  ASSERT_TRUE(try_write_file(folder / "y", ""));
  const mode_t mask = ::umask(0);
  ::umask(mask);
  EXPECT_EQ(static_cast<unsigned>(std::filesystem::status(folder / "y").permissions()), 0666u & ~mask);
}

TEST(AtomicFile, FollowsLinksToWhatIsNotThereYet) {
  const Folder folder;
  std::filesystem::create_directory(folder / "sub");
  std::filesystem::create_symlink("sub/second", folder / "first");
  std::filesystem::create_symlink("../x", folder / "sub/second");
  const Status done = try_write_file(folder / "first", "new");
  ASSERT_TRUE(done) << done.error();
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "first"));
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "sub/second"));
  EXPECT_FALSE(std::filesystem::is_symlink(folder / "x"));
  EXPECT_EQ(read_text(folder / "x"), "new");
  EXPECT_EQ(folder.entries(), 3);
  std::filesystem::create_symlink(folder / "y", folder / "absolute");
  ASSERT_TRUE(try_write_file(folder / "absolute", "new"));
  EXPECT_EQ(read_text(folder / "y"), "new");
  std::filesystem::create_symlink("no/x", folder / "nowhere");
  expect_failure(try_write_file(folder / "nowhere", "new"), {"nowhere\" cannot be written", not_there});
}

TEST(AtomicFile, RefusesLinksThatNeverEnd) {
  const Folder folder;
  std::filesystem::create_symlink("b", folder / "a");
  std::filesystem::create_symlink("a", folder / "b");
  expect_failure(try_write_file(folder / "a", "new"),
                 {"/a\" is a symbolic link that leads back to itself", "give the path of the file itself"});
  EXPECT_EQ(folder.entries(), 2);
}

TEST(AtomicFile, AFullDiskIsAFailureAndLeavesNothing) {
  const Folder folder;
  write_text(folder / "x", "old");
  // The largest file this process may write stands for the disk; SIGXFSZ would end the process.
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before = {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small = {.rlim_cur = 1000, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const Status done = try_write_file(folder / "x", std::string(5000, 'x'));
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  expect_failure(done, {"x\" cannot be written", "too large"});
  EXPECT_EQ(read_text(folder / "x"), "old");
  EXPECT_EQ(folder.entries(), 1);
}
#endif

}  // namespace
}  // namespace tiedlora_test
