// Which tokens an example becomes, and which of them count.
#include "encoder.hpp"

#include <cstddef>    // size_t
#include <optional>   // optional
#include <stdexcept>  // runtime_error
#include <utility>    // move

#include <llama/unicode.hpp>  // char_at, kind_of

#include "files.hpp"  // fnv1a

namespace finetune {

namespace {

// Letters, small where they are ASCII, and digits.
std::string squeezed(std::string_view text) {
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    const llama::Char c = llama::char_at(text, at);
    const llama::CharKind kind = llama::kind_of(c.code);
    if (kind == llama::CharKind::letter || kind == llama::CharKind::number)
      result += c.code >= 'A' && c.code <= 'Z' ? std::string(1, static_cast<char>(text[at] - 'A' + 'a'))
                                               : std::string(text.substr(at, c.size));
    at += c.size;
  }
  return result;
}

// By the question; by the answer where that says nothing.
std::uint64_t group_of(std::string_view question, std::string_view answer) {
  const std::string said = squeezed(question);
  return said.empty() ? fnv1a(squeezed(answer), 1) : fnv1a(said);
}

}  // namespace

std::string instruction_prompt(const std::string& instruction, const std::string& input) {
  const bool has_input = !input.empty();
  return std::string("Below is an instruction that describes a task") +
         (has_input ? ", paired with an input that provides further context" : "") +
         ". Write a response that appropriately completes the request.\n\n### Instruction:\n" + instruction +
         (has_input ? "\n\n### Input:\n" + input : "") + "\n\n### Response:\n";
}

Encoder::Encoder(const llama::Tokenizer& tokenizer, const llama::Chat* chat, std::string system,
                 bool loss_on_all, std::string template_problem)
    : tokenizer_(tokenizer),
      chat_(chat),
      system_(std::move(system)),
      template_problem_(std::move(template_problem)),
      loss_on_all_(loss_on_all) {}

Example Encoder::operator()(const Record& record) const {
  if (record.form == Record::Form::text) return text(record.text);
  if (!template_problem_.empty()) throw std::runtime_error("needs a template, but " + template_problem_);
  if (record.form == Record::Form::conversation) return conversation(record.messages, record.learned);
  const bool is_instruction = record.form == Record::Form::instruction;
  if (!chat_)
    return pair(is_instruction ? instruction_prompt(record.question, record.input) : record.question,
                record.answer);
  const std::string question =
      record.input.empty() ? record.question : record.question + "\n\n" + record.input;
  std::vector<llama::Message> messages;
  if (!system_.empty()) messages.push_back({"system", system_});
  messages.push_back({"user", question});
  // The blank that parts it from the prompt where both stand in one text.
  const std::string_view answer = record.answer;
  const bool has_blank = answer.size() > 1 && answer[0] == ' ' && answer[1] != ' ';
  messages.push_back({"assistant", std::string(answer.substr(has_blank ? 1 : 0))});
  return conversation(messages, {true});
}

Example Encoder::text(std::string_view text) const {
  Example example;
  begin(example);
  const std::vector<llama::Token> tokens = tokenizer_.encode(text, false);
  example.tokens.insert(example.tokens.end(), tokens.begin(), tokens.end());
  end(example);
  example.counted.assign(example.tokens.size(), true);
  finish(example);
  example.group = group_of(text, text);
  return example;
}

// One text, as it is read when the model answers. A token across the border is of the answer.
Example Encoder::pair(std::string_view question, std::string_view answer) const {
  const std::string before = tokenizer_.normalized(question);
  const llama::Encoding encoding = tokenizer_.encode_with_ends(before + tokenizer_.normalized(answer));
  Example example;
  begin(example);
  example.counted.assign(example.tokens.size(), false);
  for (std::size_t i = 0; i < encoding.tokens.size(); ++i) {
    example.tokens.push_back(encoding.tokens[i]);
    example.counted.push_back(encoding.ends[i] > before.size());
  }
  end(example);
  example.counted.resize(example.tokens.size(), true);
  finish(example);
  example.group = group_of(question, answer);
  return example;
}

Example Encoder::conversation(const std::vector<llama::Message>& messages,
                              const std::vector<bool>& learned) const {
  if (!chat_)
    throw std::runtime_error(
        "is a conversation, but the model has no chat template; take a model that has one, or give the data "
        "as "
        "{\"prompt\": \"...\", \"completion\": \"...\"} or {\"text\": \"...\"}");
  // The same tokens on whatever day they are made.
  llama::ChatTokens tokens = chat_->encode(messages, {.clock = false});
  Example example;
  example.tokens = std::move(tokens.tokens);
  // Between two answers there is something of the template, and every answer has a token: the end of its
  // turn.
  std::size_t answers = 0;
  bool is_inside = false;
  for (const bool is_answer : tokens.is_answer) {
    if (is_answer && !is_inside) ++answers;
    is_inside = is_answer;
    example.counted.push_back(is_answer && learned.at(answers - 1));
  }
  finish(example);
  std::string question, answer;
  answers = 0;
  for (const auto& [role, content] : messages) {
    const bool is_learned = role == "assistant" && learned.at(answers++);
    if (is_learned) {
      answer = content;
      break;
    }
    question += content + "\n";
  }
  example.group = group_of(question, answer);
  return example;
}

void Encoder::begin(Example& example) const {
  const std::optional<llama::Token> bos = tokenizer_.bos();
  if (tokenizer_.adds_bos() && bos) example.tokens.push_back(*bos);
}
void Encoder::end(Example& example) const {
  if (const std::optional<llama::Token> eos = tokenizer_.eos()) example.tokens.push_back(*eos);
}
void Encoder::finish(Example& example) const {
  if (loss_on_all_) example.counted.assign(example.tokens.size(), true);
  if (!example.counted.empty()) example.counted[0] = false;
  while (!example.counted.empty() && !example.counted.back()) {
    example.counted.pop_back();
    example.tokens.pop_back();
  }
}

}  // namespace finetune
