// For the tests of data: tokenizers and templates, and what examples of them look like.
#pragma once

#include <gtest/gtest.h>

#include <finetune/test_folder.hpp>
#include <llama/chat.hpp>
#include <llama/tokenizer.hpp>
#include <llama/tokenizer_golden.hpp>
#include <memory>
#include <string>

#include "example.hpp"

namespace finetune {

/// A tokenizer of tests/golden/tokenizer, and a template if it is named.
struct TestModel {
  explicit TestModel(const std::string& name, const std::string& template_name = "") : tokenizer(read(name)) {
    if (template_name.empty()) return;
    const llama_test::json all = llama_test::golden_json("chat.json");
    chat = std::make_unique<llama::Chat>(all.at(template_name)["template"].get<std::string>(), tokenizer);
  }

  /// Its text with the names of control tokens; runs of tokens that count stand in "[…]".
  std::string marked(const Example& example) const {
    EXPECT_EQ(example.tokens.size(), example.counted.size());
    std::string result;
    bool is_inside = false;
    for (std::size_t i = 0; i < example.tokens.size(); ++i) {
      if (example.counted[i] != is_inside) result += is_inside ? "]" : "[";
      is_inside = example.counted[i];
      const std::string text = tokenizer.decode(example.tokens[i]);
      result += text.empty() ? tokenizer.piece(example.tokens[i]) : text;
    }
    return result + (is_inside ? "]" : "");
  }

  llama::Tokenizer tokenizer;
  std::unique_ptr<llama::Chat> chat;

 private:
  static llama::Tokenizer read(const std::string& name) {
    const TestFolder folder;
    llama_test::GoldenTokenizer(name).write_folder(folder.path());
    return llama::Tokenizer::from_hugging_face(folder.path());
  }
};

}  // namespace finetune
