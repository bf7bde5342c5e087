// Examples as tokens.
#pragma once

#include <string>       // string
#include <string_view>  // string_view
#include <vector>       // vector

#include <llama/chat.hpp>       // Chat
#include <llama/tokenizer.hpp>  // Tokenizer

#include "example.hpp"
#include "record.hpp"

namespace finetune {

/// What a model without a template reads of an instruction: the words of the data set Alpaca.
std::string instruction_prompt(const std::string& instruction, const std::string& input);

/// Of any length, and perhaps without a token that counts.
class Encoder {
 public:
  /// `chat` may be null: there is no template, or `template_problem` says why it cannot be used. `system`: a
  /// message before questions that have none, through the template. What is given must outlive this.
  Encoder(const llama::Tokenizer& tokenizer, const llama::Chat* chat, std::string system, bool loss_on_all,
          std::string template_problem = {});

  /// Tokens after the last that counts are left out: nothing depends on them. Throws std::invalid_argument
  /// for what the template or the vocabulary does not allow, std::runtime_error for a conversation without a
  /// template, and for all but texts where it cannot be used.
  Example operator()(const Record& record) const;

  /// A whole text, between bos and eos where the model has them. Throws std::invalid_argument likewise.
  Example text(std::string_view text) const;

 private:
  Example pair(std::string_view question, std::string_view answer) const;
  Example conversation(const std::vector<llama::Message>& messages, const std::vector<bool>& learned) const;
  void begin(Example& example) const;
  void end(Example& example) const;
  void finish(Example& example) const;

  const llama::Tokenizer& tokenizer_;
  const llama::Chat* chat_;
  std::string system_, template_problem_;
  bool loss_on_all_;
};

}  // namespace finetune
