// The form in which chat models read a conversation: ChatML, "<|im_start|>role\ncontent<|im_end|>\n".
#pragma once

#include <stdexcept>    // runtime_error
#include <string>       // string
#include <string_view>  // string_view
#include <vector>       // vector

#include <tiedlora/io/gguf.hpp>

#include "tokenizer.hpp"

namespace llama {

class Chat {
 public:
  /// Throws std::runtime_error for a model whose template is another.
  Chat(const tiedlora::gguf::File& file, const Tokenizer& tokenizer) : tokenizer_(tokenizer) {
    const auto* value = file.find_value("tokenizer.chat_template");
    const std::string_view text = value ? value->text().value_or("") : "";
    const auto start = tokenizer.find_special("<|im_start|>"), end = tokenizer.find_special("<|im_end|>");
    if (text.find("<|im_start|>") == text.npos || !start || !end)
      throw std::runtime_error("the model has no chat template of the form ChatML; run it with --raw");
    start_ = *start, end_ = *end;
    // What the template says where a conversation has no system message, after a line break that the file has
    // as one or as Jinja's "\n".
    for (const std::string_view before : {"'<|im_start|>system\n", "'<|im_start|>system\\n"})
      if (const std::size_t begin = text.find(before); begin != text.npos) {
        const std::string_view rest = text.substr(begin + before.size());
        default_system_ = rest.substr(0, rest.find("<|im_end|>"));
      }
  }

  Token end_of_turn() const { return end_; }
  const std::string& default_system() const { return default_system_; }

  /// A first message, up to where the answer begins. What is in it, names of control tokens too, is text.
  std::vector<Token> begin(std::string_view system, std::string_view message) const {
    std::vector<Token> tokens;
    if (!system.empty()) append("system", system, tokens);
    append_message(message, tokens);
    return tokens;
  }
  /// A further one, after an answer and its <|im_end|>.
  std::vector<Token> next(std::string_view message) const {
    std::vector<Token> tokens = tokenizer_.encode("\n", false);
    append_message(message, tokens);
    return tokens;
  }

 private:
  void append_message(std::string_view message, std::vector<Token>& tokens) const {
    append("user", message, tokens);
    tokens.push_back(start_);
    append_text("assistant\n", tokens);
  }
  void append(std::string_view role, std::string_view content, std::vector<Token>& tokens) const {
    tokens.push_back(start_);
    append_text(std::string(role).append("\n").append(content), tokens);
    tokens.push_back(end_);
    append_text("\n", tokens);
  }
  void append_text(std::string_view text, std::vector<Token>& tokens) const {
    const std::vector<Token> added = tokenizer_.encode(text, false);
    tokens.insert(tokens.end(), added.begin(), added.end());
  }

  const Tokenizer& tokenizer_;
  Token start_ = 0, end_ = 0;
  std::string default_system_;
};

}  // namespace llama
