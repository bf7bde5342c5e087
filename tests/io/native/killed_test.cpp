// A process that saves over and over is killed at random moments: what it leaves must be a whole file, the
// last it finished or the one after. POSIX's processes alone: what Windows does with a writer's file is
// tested by file_test.cpp.
#ifndef _WIN32
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <iostream>
#include <thread>
#include <tiedlora/io/native.hpp>

#include "support/io_files.hpp"
#include "support/native.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

// Saves files whose values are all equal: one more than in the file before.
[[noreturn]] void save_for_ever(const std::filesystem::path& path, std::int64_t step, int pipe) {
  const Layout layout(one_kind(4, 512, 512), schemes::lora(), 8);  // 32,768 parameters, 3 times
  Adapter<float> adapter(layout);
  AdamW<float> optimizer(layout);
  while (true) {
    ++step;
    for (const auto span : {adapter.trainable(), optimizer.first_moment(), optimizer.second_moment()})
      std::fill(span.begin(), span.end(), static_cast<float>(step));
    if (!try_save_checkpoint(path, adapter, optimizer, {.step = step})) ::_exit(1);
    if (::write(pipe, &step, sizeof step) != sizeof step) ::_exit(1);
  }
}

// Starts it, waits until it has saved once, unless it is killed `at_once`, and kills it after a part of the
// time that this took: a fixed time would be none on a slow machine. Returns the last step that it knew to be
// saved, or -1.
std::int64_t save_until_killed(const std::filesystem::path& path, std::int64_t step, bool at_once,
                               double part) {
  int ends[2] = {};
  if (::pipe(ends) != 0) return -1;
  const auto begin = std::chrono::steady_clock::now();
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(ends[0]);
    save_for_ever(path, step, ends[1]);
  }
  ::close(ends[1]);
  std::int64_t saved = 0;
  if (!at_once) {
    EXPECT_EQ(::read(ends[0], &saved, sizeof saved), ssize_t{sizeof saved}) << "the child could not save";
    step = saved;
    std::this_thread::sleep_for((std::chrono::steady_clock::now() - begin) * part);
  }
  ::kill(child, SIGKILL);
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status)) << "the child could not save";
  while (::read(ends[0], &saved, sizeof saved) == sizeof saved) step = saved;
  ::close(ends[0]);
  return step;
}

TEST(Killed, LeavesTheOldFileOrTheNewOne) {
  constexpr std::uint64_t seed = 20261124;
  SCOPED_TRACE("seed " + std::to_string(seed));
  const Folder folder;
  Dice dice(seed);
  std::int64_t step = 0;
  int within = 0;  // kills that found a file in the making
  for (int kill = 0; kill < 60; ++kill) {
    SCOPED_TRACE("kill " + std::to_string(kill));
    const double part = static_cast<double>(dice.integer(0, 1000)) / 1000;
    const std::int64_t known = save_until_killed(folder / "x", step, kill == 0, part);
    within += folder.entries() > (std::filesystem::exists(folder / "x") ? 1 : 0);
    ASSERT_LE(folder.entries(), 2);  // what earlier ones left is gone
    if (!std::filesystem::exists(folder / "x")) {
      ASSERT_EQ(known, 0);
      continue;
    }
    const auto checkpoint = try_load_checkpoint<float>(folder / "x");
    ASSERT_TRUE(checkpoint) << checkpoint.error();
    step = checkpoint->position.step;
    EXPECT_GE(step, known);
    EXPECT_LE(step, known + 1);
    for (const auto span : {checkpoint->adapter.trainable(), checkpoint->optimizer.first_moment(),
                            checkpoint->optimizer.second_moment()})
      ASSERT_TRUE(std::all_of(span.begin(), span.end(),
                              [&](float number) { return number == static_cast<float>(step); }));
  }
  RecordProperty("seed", std::to_string(seed));
  RecordProperty("saved", std::to_string(step));
  RecordProperty("killed_while_writing", within);
  std::cout << "seed " << seed << ": " << step << " files saved, " << within
            << " of 60 kills while writing one\n";
  EXPECT_GT(step, 0);
  EXPECT_GT(within, 0);
}

}  // namespace
}  // namespace tiedlora_test

#endif
