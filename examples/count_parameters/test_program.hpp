// Runs the program as its main() does, in a folder of the test's own.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>  // getpid

#include <filesystem>  // path, remove_all
#include <fstream>     // ofstream
#include <sstream>     // ostringstream
#include <string>      // string
#include <vector>      // vector

#include "program.hpp"

namespace count_parameters::test {

struct Result {
  int code;
  std::string out, err;
};

inline Result run(const std::vector<std::string>& arguments) {
  std::vector<const char*> argv = {"count_parameters"};
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  std::ostringstream out, err;
  const int code = count_parameters::run(static_cast<int>(argv.size()), argv.data(), out, err);
  return {code, out.str(), err.str()};
}

/// A test with a folder of its own, removed at its end.
class CountParameters : public testing::Test {
 protected:
  void SetUp() override {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = std::filesystem::path(testing::TempDir()) /
              ("count_parameters_" + std::to_string(getpid()) + "_" + test->name());
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string write(const std::string& name, const std::string& text) const {
    const std::filesystem::path path = folder_ / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
    return path.string();
  }
  Result run_config(const std::string& text) const {
    return run({"--config", write("config.json", text), "--json"});
  }

  std::filesystem::path folder_;
};

}  // namespace count_parameters::test
