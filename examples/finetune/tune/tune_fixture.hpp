// For the tests: the commands for real models on a small random one.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <llama/tiny_model.hpp>
#include <regex>
#include <string>
#include <vector>

#include <finetune/run_program.hpp>

namespace finetune {

using Arguments = std::vector<std::string>;

/// A folder with model.gguf and chat.jsonl in it.
class TuneTest : public testing::Test {
 protected:
  TuneTest() {
    llama_test::TinyModel(llama_test::TinyModel::Numbers::blocks).write(folder_.path() / "model.gguf");
    std::string lines;
    for (int i = 0; i < 60; ++i)
      lines += "{\"prompt\": \"say " + std::to_string(i * 7) + "\", \"completion\": \"hello world\"}\n";
    folder_.write("chat.jsonl", lines);
  }

  std::string path(const std::string& name) const { return (folder_.path() / name).string(); }

  Outcome command(const std::string& name, const Arguments& more) const {
    Arguments arguments = {name, "--model", path("model.gguf")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(folder_, arguments);
  }
  /// A few steps on chat.jsonl with --out OUT, unless `more` says otherwise.
  Arguments training(const std::string& out, const Arguments& more = {}) const {
    Arguments arguments = more;
    const auto by_default = [&](const std::string& option, const std::string& value) {
      if (std::find(more.begin(), more.end(), option) == more.end())
        arguments.insert(arguments.end(), {option, value});
    };
    by_default("--data", path("chat.jsonl"));
    by_default("--out", path(out));
    by_default("--batch-tokens", "256");
    by_default("--scheme", "tl6");  // every kind of factor
    by_default("--rank", "4");
    by_default("--threads", "1");
    by_default("--evaluations", "3");
    return arguments;
  }
  Outcome train(const std::string& out, const Arguments& more = {}) const {
    return command("train", training(out, more));
  }
  /// The losses that `finetune eval` prints, of the base and of each adapter.
  std::vector<double> losses(const Arguments& adapters) const {
    Arguments arguments = {"--data", path("chat.jsonl")};
    for (const std::string& adapter : adapters) arguments.insert(arguments.end(), {"--adapter", adapter});
    const auto [status, output] = command("eval", arguments);
    EXPECT_EQ(status, 0) << output;
    std::vector<double> values;
    const std::regex line("\n.* ([0-9.]+) +[0-9.]+(?=\n)");
    for (std::sregex_iterator match(output.begin(), output.end(), line), end; match != end; ++match)
      values.push_back(std::stod((*match)[1]));
    return values;
  }

  TestFolder folder_;
};

inline void expect_error(const Outcome& outcome, int status, const std::string& part) {
  EXPECT_EQ(outcome.status, status) << outcome.output;
  EXPECT_NE(outcome.output.find(part), std::string::npos) << outcome.output;
}

}  // namespace finetune
