// For the tests of data: files that are written and read.
#pragma once

#include <cstddef>
#include <filesystem>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "expect_error.hpp"
#include "read_data.hpp"
#include "test_model.hpp"

namespace finetune {

class ReadDataTest : public ::testing::Test {
 protected:
  Dataset read(const std::vector<std::string>& names, Index window = 512, bool loss_on_all = false) const {
    std::vector<std::filesystem::path> paths;
    for (const std::string& name : names) paths.push_back(folder.path() / name);
    return read_data(paths, model().tokenizer, model().chat.get(),
                     {.window = window, .loss_on_all = loss_on_all});
  }
  // The files of these names must be refused.
  void expect_wrong(const std::vector<std::string>& names, std::initializer_list<std::string_view> parts,
                    Index window = 512) const {
    expect_error<std::runtime_error>([&] { read(names, window); }, parts);
  }
  static const TestModel& model() {
    static const TestModel model("gpt2", "chatml");
    return model;
  }
  static std::vector<std::string> marked(const Dataset& data) {
    std::vector<std::string> result;
    for (const Example& example : data.examples) result.push_back(model().marked(example));
    return result;
  }
  static std::string turn(const std::string& question, const std::string& answer) {
    return "<|im_start|>user\n" + question + "<|im_end|>\n<|im_start|>assistant\n[" + answer + "<|im_end|>]";
  }
  // A line with an answer of `tokens` tokens, the end of its turn included.
  static std::string line_of(std::size_t tokens) {
    std::string answer;
    for (std::size_t i = 1; i < tokens; ++i) answer += "~";
    return "{\"prompt\": \"Q\", \"completion\": \"" + answer + "\"}\n";
  }
  static std::size_t size_of_question() {
    return model().tokenizer.encode("<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n", true).size();
  }

  TestFolder folder;
};

}  // namespace finetune
