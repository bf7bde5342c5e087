// For the tests: arguments of a short run.
#pragma once

#include <string>
#include <vector>

#include <finetune/test_folder.hpp>

namespace finetune {

/// Small enough for seconds, with text of our own so that reading it takes no time.
inline std::vector<std::string> tiny(const TestFolder& folder, const std::vector<std::string>& more) {
  for (int i = 0; i < 400; ++i) {
    const std::string n = std::to_string(i * i);
    folder.write("base/" + std::to_string(i % 10) + "/" + n,
                 "the base text says " + n + " in file number " + n + "\n");
    folder.write("task/" + std::to_string(i % 10) + "/" + n,
                 "int task_" + n + " = " + n + ";  // the task counts\n");
  }
  std::vector<std::string> arguments = {"--smoke",
                                        "--base-text",
                                        folder.path() / "base",
                                        "--task-text",
                                        folder.path() / "task",
                                        "--out",
                                        folder.path() / "out",
                                        "--cache",
                                        folder.path() / "cache"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

}  // namespace finetune
