// Chat templates: which form a model's Jinja text describes, and what that form makes of a conversation.
#pragma once

#include <cstddef>      // size_t
#include <ctime>        // time, localtime, strftime
#include <optional>     // optional
#include <span>         // span
#include <stdexcept>    // invalid_argument, runtime_error
#include <string>       // string
#include <string_view>  // string_view
#include <utility>      // move
#include <vector>       // vector

#include <fmt/format.h>
#include <tiedlora/adapter/quote.hpp>

#include "chat_text.hpp"

namespace llama {

/// What somebody says: a role, "system", "user" or "assistant", and the words.
struct Message {
  std::string role = {}, content = {};
};

/// A part of the text of a conversation.
struct ChatPart {
  std::string text = {};
  bool is_template = true;  ///< names of control tokens in it are those tokens
  bool is_answer = false;   ///< what a model is to learn: an answer and the end of its turn
};

struct ChatOptions {
  bool generation_prompt = false;  ///< ends with the start of an answer
  bool thinking = true;        ///< enable_thinking of Qwen 3: false puts an empty thought before an answer
  bool default_system = true;  ///< the template's own system message where there is none
  /// What Llama 3.1 and later call today, "26 Jul 2024"; empty for the template's date or else that of the
  /// day.
  std::string date = {};
  /// Where a template asks for the day: false gives the date that it has for programs without a clock, and so
  /// the same text every day.
  bool clock = true;
};

/// The forms that are known. None is interpreted: a text is recognised by what all published versions of a
/// form have, and refused where it has something else that changes the result.
class ChatTemplate {
 public:
  /// `text`: the Jinja. `bos`, `eos`: the names of those tokens, where the tokenizer has them. Throws
  /// std::runtime_error for a text of another form.
  ChatTemplate(std::string_view text, std::string bos, std::string eos)
      : bos_(std::move(bos)), eos_(std::move(eos)), jinja_(text) {
    if (jinja_.has("<|im_start|>"))
      recognise_chatml();
    else if (jinja_.has("<|start_header_id|>"))
      recognise_llama3();
    else if (jinja_.has("[INST]"))
      jinja_.has("<<SYS>>") ? recognise_llama2() : recognise_mistral();
    else
      refuse(text.empty() ? "there is none" : "it is none of them");
    if (jinja_.has_outside()) refuse("it has text outside of {{ }} and {% %}");
    if (const auto own = jinja_.own_system_message()) refuse("it sets a system message of its own: " + *own);
    if (has_bos_ && bos_.empty())
      refuse("it begins with the token bos_token, which the tokenizer does not name");
    if (answer_end_ == "eos_token") {
      if (eos_.empty()) refuse("it ends turns with the token eos_token, which the tokenizer does not name");
      answer_end_ = eos_;
    }
  }

  /// What a conversation without a system message begins with, if anything.
  const std::string& default_system() const { return default_system_; }
  /// The name of the token that ends an answer.
  const std::string& answer_end() const { return answer_end_; }

  /// Throws std::invalid_argument for messages that the template does not allow.
  std::vector<ChatPart> parts(std::span<const Message> messages, const ChatOptions& options) const {
    if (messages.empty()) throw std::invalid_argument("a conversation has no message");
    for (const Message& message : messages) {
      check_utf8(message.content);
      if (message.role != "system" && message.role != "user" && message.role != "assistant")
        throw std::invalid_argument(fmt::format(
            "a message has the role \"{}\"; the roles are system, user and assistant", message.role));
    }
    Parts result;
    if (form_ == Form::chatml || form_ == Form::qwen3)
      write_chatml(messages, options, result);
    else if (form_ == Form::llama3)
      write_llama3(messages, options, result);
    else
      write_instructions(messages, result);
    return std::move(result.list);
  }

 private:
  enum class Form { chatml, qwen3, llama3, llama2, mistral };
  struct Parts {
    std::vector<ChatPart> list;
    void add(std::string_view text) { list.push_back({.text = std::string(text)}); }
    void add_said(std::string_view text, bool is_answer) {
      list.push_back({.text = std::string(text), .is_template = false, .is_answer = is_answer});
    }
    void add_answer(std::string_view text) { list.push_back({.text = std::string(text), .is_answer = true}); }
  };

  [[noreturn]] static void refuse(std::string_view why) {
    throw std::runtime_error(fmt::format(
        "the model's chat template is not one of ChatML, Qwen, Llama 2, Llama 3 and Mistral as they were "
        "published: {}. Give texts without a template (--raw, or data that is plain text), or a model file "
        "with such a template",
        tiedlora::detail::escaped(why)));
  }

  // The begin, which every form has at its first message or before all.
  void recognise_bos() { has_bos_ = jinja_.has_code("bos_token"); }

  void recognise_chatml() {
    form_ = Form::chatml;
    answer_end_ = "<|im_end|>";
    const bool is_qwen3 = jinja_.has_code("enable_thinking") && jinja_.has_code("last_query_index") &&
                          jinja_.has_code("'<think>\n\n</think>\n\n'");
    if (is_qwen3)
      form_ = Form::qwen3;
    else if (jinja_.has("think") || jinja_.has("reasoning"))
      refuse("it is ChatML with thoughts, but not Qwen 3's");
    const bool says = jinja_.has_code("'<|im_start|>'+message.role+'\n'+message.content+'<|im_end|>'+'\n'") ||
                      jinja_.has_code("'<|im_start|>'+message.role+'\n'+message.content+'<|im_end|>\n'");
    const bool says_qwen3 = jinja_.has_code("'<|im_start|>'+message.role+'\n'+content+'<|im_end|>'+'\n'") ||
                            jinja_.has_code("'<|im_start|>'+message.role+'\n'+content+'<|im_end|>\n'");
    if (!says && !(is_qwen3 && says_qwen3))
      refuse("it is ChatML whose turns are not \"<|im_start|>ROLE\\nCONTENT<|im_end|>\\n\"");
    if (!jinja_.has_code("'<|im_start|>assistant\n'"))
      refuse("it is ChatML without \"<|im_start|>assistant\\n\"");
    has_bos_ = jinja_.has_code("{{bos_token}}");
    if (!has_bos_ && jinja_.has_code("bos_token"))
      refuse("it is ChatML with bos_token elsewhere than at the start");
    static constexpr std::string_view known[] = {"messages[0].content", "message.content", "system_message",
                                                 "content"};
    if (jinja_.has_other_after("'<|im_start|>system\n'+", known))
      refuse("it is ChatML with a system message from elsewhere than the conversation");
    default_system_ = jinja_.literal_between("<|im_start|>system\n", "<|im_end|>");
  }

  void recognise_llama3() {
    form_ = Form::llama3;
    answer_end_ = "<|eot_id|>";
    recognise_bos();
    if (!jinja_.has_code("'<|start_header_id|>'+message.role+'<|end_header_id|>\n\n'+message.content|trim+"
                         "'<|eot_id|>'"))
      refuse("it has headers, but not Llama 3's turns");
    has_date_ = jinja_.has("Cutting Knowledge Date");
    // Before the date there is the header alone; without a date not even that.
    if (jinja_.has_literal("<|start_header_id|>system", false) &&
        (!has_date_ || jinja_.has_literal("<|start_header_id|>system<|end_header_id|>\n\n", true)))
      refuse("it has Llama 3's turns and a system message of its own");
    if (!has_date_) return;
    knowledge_ = jinja_.literal_between("Cutting Knowledge Date: ", "\n");
    if (knowledge_.empty()) refuse("it has a \"Cutting Knowledge Date\" that is not a date");
    date_ = jinja_.literal_after("date_string=");
    asks_clock_ = jinja_.has_code("strftime_now");
    if (asks_clock_ && date_.empty()) date_ = "26 Jul 2024";  // as in Llama 3.2's
    if (date_.empty()) refuse("it has \"Today Date\" without one to take");
  }

  void recognise_llama2() {
    form_ = Form::llama2;
    answer_end_ = "eos_token";
    has_bos_ = true;
    if (!jinja_.has_code("bos_token+'[INST] '+content.strip()+' [/INST]'") ||
        !jinja_.has_code("' '+content.strip()+' '+eos_token") ||
        !jinja_.has_code("'<<SYS>>\n'+system_message+'\n<</SYS>>\n\n'+message.content"))
      refuse("it has [INST] and <<SYS>>, but not Llama 2's turns");
    user_ = {"[INST] ", " [/INST]", true};
    answer_ = {" ", " ", true};
  }

  // Versions differ in blanks around [INST], [/INST] and the answer, and in whether there is a system
  // message.
  void recognise_mistral() {
    form_ = Form::mistral;
    answer_end_ = "eos_token";
    has_bos_ = true;
    if (!jinja_.has_code("bos_token")) refuse("it has [INST], but no bos_token");
    const auto user = jinja_.around_content("[INST]", "[/INST]");
    const auto answer = jinja_.around_answer("eos_token");
    if (!user || !answer) refuse("it has [INST], but not Mistral's turns");
    user_ = *user, answer_ = *answer;
    const bool first = jinja_.has_code("loop.firstandsystem_messageisdefined"),
               last = jinja_.has_code("loop.lastandsystem_messageisdefined");
    if ((first || last) && jinja_.has_code("+system_message+'\n\n'+message.content+"))
      system_place_ = first ? SystemPlace::first : SystemPlace::last;
    else if (jinja_.has_code("system_message") || jinja_.has_code("system_prompt") ||
             jinja_.has("[SYSTEM_PROMPT]"))
      refuse("it has [INST] and a system message in an unknown place");
  }

  void write_chatml(std::span<const Message> messages, const ChatOptions& options, Parts& out) const {
    if (has_bos_) out.add(bos_);
    if (options.default_system && !default_system_.empty() && messages[0].role != "system")
      out.add("<|im_start|>system\n" + default_system_ + "<|im_end|>\n");
    std::size_t last_question = messages.size() - 1;
    for (std::size_t i = messages.size(); i-- > 0;)
      if (messages[i].role == "user" && !is_tool_response(messages[i].content)) {
        last_question = i;
        break;
      }
    for (std::size_t i = 0; i < messages.size(); ++i) {
      const auto& [role, content] = messages[i];
      const bool is_answer = role == "assistant";
      out.add("<|im_start|>" + role + "\n");
      if (is_answer && form_ == Form::qwen3)
        write_qwen3_answer(content, i > last_question, i + 1 == messages.size(), out);
      else
        out.add_said(content, is_answer);
      is_answer ? out.add_answer("<|im_end|>") : out.add("<|im_end|>");
      out.add("\n");
    }
    if (!options.generation_prompt) return;
    out.add("<|im_start|>assistant\n");
    if (form_ == Form::qwen3 && !options.thinking) out.add("<think>\n\n</think>\n\n");
  }
  static bool is_tool_response(std::string_view content) {
    return content.starts_with("<tool_response>") && content.ends_with("</tool_response>");
  }
  // Thoughts stay in answers to the last question only; in the last answer they are written even if empty.
  static void write_qwen3_answer(std::string_view content, bool is_after_question, bool is_last, Parts& out) {
    constexpr std::string_view begin = "<think>", end = "</think>";
    std::string_view thought;
    if (const std::size_t at = content.find(end); at != content.npos) {
      thought = strip_back(content.substr(0, at), "\n");
      if (const std::size_t from = thought.rfind(begin); from != thought.npos)
        thought.remove_prefix(from + begin.size());
      thought = strip_front(thought, "\n");
      content = strip_front(content.substr(content.rfind(end) + end.size()), "\n");
    }
    if (is_after_question && (is_last || !thought.empty())) {
      out.add_answer("<think>\n");
      out.add_said(strip_back(thought, "\n"), true);
      out.add_answer("\n</think>\n\n");
      content = strip_front(content, "\n");
    }
    out.add_said(content, true);
  }

  void write_llama3(std::span<const Message> messages, const ChatOptions& options, Parts& out) const {
    if (has_bos_) out.add(bos_);
    const auto header = [&](std::string_view role) {
      out.add(fmt::format("<|start_header_id|>{}<|end_header_id|>\n\n", role));
    };
    if (has_date_) {
      header("system");
      const std::string own = asks_clock_ && options.clock ? today() : date_;
      out.add(fmt::format("Cutting Knowledge Date: {}\nToday Date: {}\n\n", knowledge_,
                          options.date.empty() ? own : options.date));
      if (messages[0].role == "system") {
        out.add_said(strip_spaces(messages[0].content), false);
        messages = messages.subspan(1);
      }
      out.add("<|eot_id|>");
    }
    for (const auto& [role, content] : messages) {
      header(role);
      out.add_said(strip_spaces(content), role == "assistant");
      role == "assistant" ? out.add_answer("<|eot_id|>") : out.add("<|eot_id|>");
    }
    if (options.generation_prompt) header("assistant");
  }
  static std::string today() {
    const std::time_t now = std::time(nullptr);
    char text[32];
    return {text, std::strftime(text, sizeof text, "%d %b %Y", std::localtime(&now))};
  }

  // Llama 2 and Mistral: [INST] question [/INST] answer eos.
  void write_instructions(std::span<const Message> messages, Parts& out) const {
    std::optional<std::string> system;
    if (messages[0].role == "system") {
      if (form_ == Form::mistral && system_place_ == SystemPlace::none)
        throw std::invalid_argument(
            "the model's chat template has no system message; say it in the first user message");
      system = messages[0].content;
      messages = messages.subspan(1);
    }
    if (form_ == Form::mistral) out.add(bos_);
    for (std::size_t i = 0; i < messages.size(); ++i) {
      const auto& [role, content] = messages[i];
      if (role != (i % 2 == 0 ? "user" : "assistant"))
        throw std::invalid_argument(
            fmt::format("message {} of a conversation has the role \"{}\"; the model's chat template needs "
                        "user and assistant to alternate, after a system message if there is one",
                        i + (system ? 2 : 1), role));
      if (role == "user") {
        const bool is_place = system_place_ == SystemPlace::last ? i + 1 == messages.size() : i == 0;
        std::string said = content;
        if (system && is_place)
          said = form_ == Form::llama2 ? fmt::format("<<SYS>>\n{}\n<</SYS>>\n\n{}", *system, content)
                                       : fmt::format("{}\n\n{}", *system, content);
        out.add((form_ == Form::llama2 ? bos_ : "") + user_.before);
        out.add_said(user_.strips ? strip_spaces(said) : said, false);
        out.add(user_.after);
      } else {
        out.add_answer(answer_.before);
        out.add_said(answer_.strips ? strip_spaces(content) : content, true);
        out.add_answer(answer_.after + answer_end_);
        out.add(answer_.behind_end);
      }
    }
  }

  enum class SystemPlace { none, first, last };

  std::string bos_, eos_;
  JinjaText jinja_;
  Form form_ = Form::chatml;
  bool has_bos_ = false, has_date_ = false, asks_clock_ = false;
  std::string default_system_, answer_end_, knowledge_, date_;
  Surroundings user_, answer_;
  SystemPlace system_place_ = SystemPlace::none;
};

}  // namespace llama
