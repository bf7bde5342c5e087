// Conversations as tokens, in the form in which a chat model reads them.
#pragma once

#include <cstddef>      // size_t
#include <filesystem>   // path, exists, is_directory
#include <optional>     // optional
#include <span>         // span
#include <stdexcept>    // runtime_error
#include <string>       // string
#include <string_view>  // string_view
#include <vector>       // vector

#include <fmt/format.h>
#include <tiedlora/io/gguf.hpp>

#include "chat_template.hpp"
#include "json_file.hpp"
#include "tokenizer.hpp"

namespace llama {

/// What a model is trained on.
struct ChatTokens {
  std::vector<Token> tokens;
  std::vector<bool> is_answer;  ///< by token: whether it is of an answer or the end of its turn
};

class Chat {
 public:
  /// `jinja`: the template's text. The tokenizer must outlive this. Throws std::runtime_error for a template
  /// of a form that is not known (chat_template.hpp) and for a tokenizer without its control tokens.
  Chat(std::string_view jinja, const Tokenizer& tokenizer)
      : tokenizer_(tokenizer), template_(jinja, name(tokenizer.bos()), name(tokenizer.eos())) {
    const auto end = tokenizer.find_special(template_.answer_end());
    if (!end)
      throw std::runtime_error(
          fmt::format("the model's chat template ends turns with \"{}\", but its tokenizer has no such "
                      "control token; give "
                      "texts without a template (--raw, or data that is plain text)",
                      template_.answer_end()));
    end_ = *end;
  }
  /// The template of a GGUF file.
  Chat(const tiedlora::gguf::File& file, const Tokenizer& tokenizer) : Chat(template_of(file), tokenizer) {}
  /// The template beside a tokenizer.json: chat_template.jinja, or "chat_template" of tokenizer_config.json.
  static Chat from_hugging_face(const std::filesystem::path& path, const Tokenizer& tokenizer) {
    return Chat(template_beside(path), tokenizer);
  }

  /// The template's text in a GGUF file; empty if there is none.
  static std::string_view template_of(const tiedlora::gguf::File& file) {
    const auto* value = file.find_value("tokenizer.chat_template");
    return value ? value->text().value_or("") : "";
  }
  /// Likewise beside a tokenizer.json.
  static std::string template_beside(const std::filesystem::path& path) {
    const std::filesystem::path folder = std::filesystem::is_directory(path) ? path : path.parent_path();
    if (std::filesystem::exists(folder / "chat_template.jinja"))
      return read_file(folder / "chat_template.jinja");
    if (!std::filesystem::exists(folder / "tokenizer_config.json")) return {};
    const JsonFile config(folder / "tokenizer_config.json");
    const JsonNode node = config.root()["chat_template"];
    if (!node) return {};
    if (!node.is_array()) return node.text();
    // Several by name.
    for (std::size_t i = 0; i < node.array().size(); ++i)
      if (node.element(i)["name"].text() == "default") return node.element(i)["template"].text();
    node.fail("has no template named \"default\"");
  }

  Token end_of_turn() const { return end_; }
  const std::string& default_system() const { return template_.default_system(); }

  /// What transformers' apply_chat_template gives. Throws std::invalid_argument for messages that the
  /// template does not allow.
  std::string text(std::span<const Message> messages, const ChatOptions& options = {}) const {
    std::string result;
    for (const ChatPart& part : template_.parts(messages, options)) result += part.text;
    return result;
  }

  /// Its tokens. Those of what is said are text, names of control tokens too, where apply_chat_template would
  /// let a user end his turn. A token that is of an answer and of what is before it counts as of the answer.
  ChatTokens encode(std::span<const Message> messages, const ChatOptions& options = {}) const {
    return encode_parts(template_.parts(messages, options));
  }

  /// A first message, up to where the answer begins; `system` may be empty. `clock`: as of ChatOptions.
  std::vector<Token> begin(std::string_view system, std::string_view message, bool clock = true) const {
    std::vector<Message> messages;
    if (!system.empty()) messages.push_back({"system", std::string(system)});
    messages.push_back({"user", std::string(message)});
    return encode(messages, {.generation_prompt = true, .default_system = false, .clock = clock}).tokens;
  }
  /// A further one, after an answer and the token that ends it.
  std::vector<Token> next(std::string_view message) const {
    const Message messages[] = {{"user", "?"}, {"assistant", "!"}, {"user", std::string(message)}};
    std::vector<ChatPart> parts = template_.parts(messages, {.generation_prompt = true});
    std::size_t behind = 0;
    for (std::size_t i = 0; i < parts.size(); ++i)
      if (parts[i].is_answer) behind = i + 1;
    parts.erase(parts.begin(), parts.begin() + static_cast<std::ptrdiff_t>(behind));
    return encode_parts(parts, false).tokens;
  }

 private:
  // Text between control tokens is encoded as one, whoever said what of it.
  ChatTokens encode_parts(const std::vector<ChatPart>& parts, bool is_begin = true) const {
    ChatTokens result;
    std::string run;
    std::vector<std::size_t> answers;  // of the run: where answers begin and end, in turns
    const auto end_run = [&] {
      if (answers.size() % 2 == 1) answers.push_back(run.size());
      const Encoding encoding = tokenizer_.encode_with_ends(run, is_begin && result.tokens.empty());
      std::size_t begin = 0, at = 0;
      for (std::size_t i = 0; i < encoding.tokens.size(); ++i) {
        while (at < answers.size() && answers[at + 1] <= begin) at += 2;
        result.tokens.push_back(encoding.tokens[i]);
        result.is_answer.push_back(at < answers.size() && answers[at] < encoding.ends[i]);
        begin = encoding.ends[i];
      }
      run.clear(), answers.clear();
    };
    const auto add = [&](std::string_view text, bool is_answer) {
      if (text.empty()) return;
      if (is_answer != (answers.size() % 2 == 1)) answers.push_back(run.size());
      run += text;
    };
    for (const ChatPart& part : parts) {
      const std::string text = tokenizer_.normalized(part.text);
      if (!part.is_template) {
        add(text, part.is_answer);
        continue;
      }
      tokenizer_.cut_control(
          text,
          [&](std::size_t from, std::size_t to) {
            add(std::string_view(text).substr(from, to - from), part.is_answer);
          },
          [&](Token token, std::size_t) {
            end_run();
            result.tokens.push_back(token);
            result.is_answer.push_back(part.is_answer);
          });
    }
    end_run();
    return result;
  }

  std::string name(std::optional<Token> token) const {
    return token ? tokenizer_.piece(*token) : std::string();
  }

  const Tokenizer& tokenizer_;
  ChatTemplate template_;
  Token end_ = 0;
};

}  // namespace llama
