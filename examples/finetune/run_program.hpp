// For the tests: runs the finished program, as a user does.
#pragma once

#include <fcntl.h>  // O_WRONLY
#include <spawn.h>
#include <sys/wait.h>

#include <csignal>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <finetune/data/files.hpp>
#include <finetune/test_folder.hpp>

extern char** environ;

namespace finetune {

/// The program in the background, its output in a file. Killed at the end, unless it was waited for.
class Program {
 public:
  Program(std::vector<std::string> arguments, const std::filesystem::path& output)
      : Program(FINETUNE_PROGRAM, std::move(arguments), output) {}
  /// Another one, looked for where the shell would.
  Program(const std::string& name, std::vector<std::string> arguments, const std::filesystem::path& output) {
    arguments.insert(arguments.begin(), name);
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    if (posix_spawnp(&process_, name.c_str(), &actions, nullptr, argv.data(), environ) != 0)
      throw std::runtime_error("cannot start " + name);
    posix_spawn_file_actions_destroy(&actions);
  }
  ~Program() {
    if (process_ == 0) return;
    kill();
    wait();
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  pid_t id() const { return process_; }
  void interrupt() { send(SIGINT); }
  void kill() { send(SIGKILL); }
  /// 0 where it was waited for before.
  int wait() {
    if (process_ == 0) return 0;
    int status = 0;
    waitpid(process_, &status, 0);
    process_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

 private:
  void send(int signal) const {
    if (process_ != 0) ::kill(process_, signal);  // of 0 it would be this process's own group
  }

  pid_t process_ = 0;
};

struct Outcome {
  int status;
  std::string output;
};
inline Outcome run(const TestFolder& folder, const std::vector<std::string>& arguments) {
  const auto output = folder.path() / "output.txt";
  const int status = Program(arguments, output).wait();
  return {status, read_file(output)};
}

}  // namespace finetune
