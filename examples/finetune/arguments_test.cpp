// What the program without a command refuses, before any work: numbers, lists, folders, and an output that is
// full.
#include <gtest/gtest.h>
#include <sys/stat.h>  // mkfifo
#include <unistd.h>    // geteuid

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include <finetune/data/files.hpp>
#include "run_program.hpp"
#include "test_folder.hpp"
#include "tiny_run.hpp"

namespace finetune {
namespace {

// Runs the program, which must say that and nothing else.
void expect_refusal(const TestFolder& folder, const std::vector<std::string>& arguments, int expected,
                    const std::string& message) {
  const auto [status, output] = run(folder, arguments);
  EXPECT_EQ(status, expected) << output;
  EXPECT_NE(output.find(message), std::string::npos) << message << " is not in\n" << output;
  EXPECT_EQ(output.find("=="), std::string::npos) << "work was done before it was refused:\n" << output;
  EXPECT_LT(output.size(), 700u) << output;
}

TEST(Finetune, ExplainsWhatIsWrong) {
  const TestFolder folder;
  const auto misused = [&](const std::vector<std::string>& arguments, const std::string& message) {
    expect_refusal(folder, arguments, 2, message);
  };
  misused({"--schemes", "loar"}, "loar");
  misused({"--export", "onnx"}, "onnx");
  misused({"--export", "peft", "--targets", "qkv_proj"}, "qkv_proj");
  misused({"--no-such-option", "3"}, "there is no option --no-such-option\n");
  misused({"--smoke", "rest"}, "\"rest\" is one argument too many");
  misused({"trian", "--model", "model.gguf"}, "there is no command \"trian\"; the commands are train, eval,");
  expect_refusal(folder, {"--targets", "q_porj"}, 1, "q_porj");
  expect_refusal(folder, {"--width", "127"}, 1, "width 127");
  folder.write("tiny.txt", "much too short");
  const auto [status, output] = run(folder, {"--smoke", "--base-text", folder.path() / "tiny.txt", "--out",
                                             folder.path() / "out", "--cache", folder.path() / "cache"});
  EXPECT_EQ(status, 1) << output;
  EXPECT_NE(output.find("are needed"), std::string::npos) << output;
}

TEST(Finetune, NumbersAreNumbersWithinBounds) {
  const TestFolder folder;
  const auto misused = [&](const std::vector<std::string>& arguments, const std::string& message) {
    expect_refusal(folder, arguments, 2, message);
  };
  for (const char* value : {"nan", "inf", "-1", "0", "", "1e999", "0x10", "3.5x"})
    misused({"--minutes", value},
            "--minutes: \"" + std::string(value) + "\" is not a number above 0 and up to 1000000");
  for (const std::string option : {"--layers", "--width", "--heads", "--kv-heads", "--ff", "--base-steps",
                                   "--steps", "--batch", "--length", "--windows", "--threads"})
    for (const char* value : {"0", "-3", "2.5", "", "nan", "99999999999999999999999"})
      misused({option, value}, option + ": \"" + value + "\" is not a whole number from 1 to ");
  for (const char* value : {"0", "-1", "2000000000", "99999999999999999999999", "4097"})
    misused({"--rank", value},
            "--ranks: \"" + std::string(value) + "\" is not a whole number from 1 to 4096");
  for (const char* value : {"-1", "99999999999999999999999", "1.5", "0x1"})
    misused({"--seeds=" + std::string(value)},
            "--seeds: \"" + std::string(value) + "\" is not a whole number from 0 to 18446744073709551615");
  misused({"--seeds", std::string(300, '9')}, "999...\" is not a whole number");
  for (const char* value : {"tl6=inf", "tl6=nan", "tl6=-1", "tl6=0", "tl6=", "tl6", "=1", "tl6=1e999",
                            "tl6=fast", "lora.uv=1", "tl6:0=1", "tl6:x=1", "full:4=1", "tl7=1"})
    misused({"--learning-rate", value}, "--learning-rate: \"" + std::string(value) + "\" is not NAME=RATE");
  for (const char* value :
       {"lora:0", "lora:", "lora:-1", "lora:4097", "full:4", "lora:99999999999999999999999"})
    misused({"--schemes", value}, value);
  expect_refusal(folder, {"--layers", "1000", "--width", "65536", "--ff", "262144"}, 1, "are free");
}

TEST(Finetune, ListsHoldNothingTwiceAndNothingEmpty) {
  const TestFolder folder;
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"--seeds", "1,1"},
                                             {"--seeds", "1", "--seeds", "1"},
                                             {"--seeds", "1,01"},
                                             {"--ranks", "4,8,4"},
                                             {"--schemes", "lora,tl6,lora"},
                                             {"--targets", "q_proj,q_proj"},
                                             {"--learning-rate", "tl6=1,tl6=1"},
                                             {"--learning-rate", "tl6=1,tl6=2"}})
    expect_refusal(folder, arguments, 2, "is given twice");
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"--seeds", "1,,2"},
                                             {"--seeds", ""},
                                             {"--ranks", "4,"},
                                             {"--schemes", ",lora"},
                                             {"--base-text", ""}})
    expect_refusal(folder, arguments, 2, "something in the list is empty");
}

TEST(Finetune, FoldersAreLookedAtBeforeAnyWork) {
  const TestFolder folder;
  folder.write("file", "");
  const std::string file = folder.path() / "file";
  for (const std::string option : {"--out", "--cache"}) {
    expect_refusal(folder, {option, ""}, 2, option + ": the path is empty");
    expect_refusal(folder, {option, file}, 1, option + ": \"" + file + "\" is a file, not a folder");
    expect_refusal(folder, {option, file + "/out"}, 1, "cannot be made: \"" + file + "\" is not a folder");
    const std::string nowhere = folder.path() / "link";
    std::filesystem::remove(nowhere);
    std::filesystem::create_symlink(folder.path() / "nothing", nowhere);
    expect_refusal(folder, {option, nowhere + "/out"}, 1, "\"" + nowhere + "\" is a link to nothing");
    if (std::filesystem::exists("/proc/self"))
      expect_refusal(folder, {option, "/proc/out"}, 1, option + ": \"/proc/out\" cannot be written to");
  }
  for (const std::string option : {"--base-text", "--task-text"})
    expect_refusal(folder, {"--smoke", option, "/no/such/folder"}, 1,
                   option + ": \"/no/such/folder\" cannot be read: No such file or directory");
  const std::string pipe = folder.path() / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  expect_refusal(folder, {"--smoke", "--task-text", pipe}, 1,
                 "\"" + pipe + "\" is neither a file nor a folder");
}

TEST(Finetune, AFolderThatCannotBeReadIsNotSkipped) {
  if (geteuid() == 0) GTEST_SKIP() << "the superuser reads everything";
  const TestFolder folder;
  folder.write("text/a/one", "some text");
  folder.write("text/b/two", "some text");
  const std::filesystem::path closed = folder.path() / "text/b";
  std::filesystem::permissions(closed, std::filesystem::perms::none);
  const auto [status, output] = run(folder, tiny(folder, {"--task-text", folder.path() / "text"}));
  std::filesystem::permissions(closed, std::filesystem::perms::owner_all);
  EXPECT_EQ(status, 1) << output;
  EXPECT_NE(output.find("text/b cannot be read"), std::string::npos) << output;
}

TEST(Finetune, AFullOrClosedOutputIsAFailure) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "there is no /dev/full";
  const TestFolder folder;
  const auto errors = folder.path() / "errors.txt", status = folder.path() / "status.txt";
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{tiny(folder, {}), {"--help"}, {"train", "--help"}}) {
    std::string command = FINETUNE_PROGRAM;
    for (const std::string& argument : arguments) command += " '" + argument + "'";
    // The reader of the pipe has gone when the program writes.
    for (const char* output : {">/dev/full", ">&-", "| true"}) {
      const std::string line = "(sleep 0.3; " + command + " 2>'" + errors.string() + "'; echo $? >'" +
                               status.string() + "') " + output;
      ASSERT_EQ(std::system(line.c_str()), 0) << line;
      EXPECT_EQ(read_file(status), "1\n") << line;
      EXPECT_NE(read_file(errors).find("cannot write to"), std::string::npos) << read_file(errors);
    }
  }
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "out/adapters"));  // it stops at once
}

}  // namespace
}  // namespace finetune
