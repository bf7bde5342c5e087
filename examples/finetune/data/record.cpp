// The only file of the data's that reads JSON.
#include "record.hpp"

#include <algorithm>  // count, min
#include <utility>    // move

#include <fmt/format.h>
#include <tiedlora/io/json/json.hpp>  // Json, JsonBuilder

#include "shown.hpp"

namespace finetune {

namespace {

using tiedlora::Json;

constexpr int deepest = 100;  // levels of what is nested in keys that are not read

[[noreturn]] void refuse(const std::string& what) { throw RecordError(what, 0); }

// Keeps the place of what is wrong.
class Builder : public tiedlora::detail::JsonBuilder {
 public:
  Builder() : JsonBuilder(deepest) {}
  bool parse_error(std::size_t position, const std::string& /*last_token*/,
                   const nlohmann::detail::exception& /*error*/) {
    wrong_at = position > 0 ? position - 1 : 0;
    is_broken = true;
    return false;
  }
  std::size_t wrong_at = 0;
  bool is_broken = false;
};

Json parse(std::string_view text) {
  if (const std::size_t broken = find_broken(text); broken != text.npos)
    throw RecordError(text[broken] == '\0'
                          ? "has a zero byte, which no text has"
                          : fmt::format("is not UTF-8: it has the byte {:#04x}; convert the file (iconv)",
                                        static_cast<unsigned char>(text[broken])),
                      broken);
  Builder builder;
  if (Json::sax_parse(text.begin(), text.end(), &builder)) return builder.take();
  if (!builder.is_broken) refuse(builder.problem());
  const std::size_t at = std::min(builder.wrong_at, text.size());
  if (at == text.size())
    throw RecordError(
        "ends in the middle of its JSON; an example is an object on one line or an element of a list", at);
  const char c = text[at];
  throw RecordError(fmt::format("is not valid JSON at \"{}\"{}", escaped(text.substr(at), 20),
                                c == '\'' ? "; strings need double quotes"
                                : static_cast<unsigned char>(c) < 0x20
                                    ? "; inside a string, write it as an escape such as \\n"
                                    : ""),
                    at);
}

std::string_view kind(const Json& value) {
  return value.is_string()    ? "a string"
         : value.is_array()   ? "a list"
         : value.is_object()  ? "an object"
         : value.is_number()  ? "a number"
         : value.is_boolean() ? "true or false"
                              : "null";
}

// The value of a key; null where it is missing or null, as tables have it that hold several forms.
const Json* find(const Json& object, const char* name) {
  const auto at = object.find(name);
  return at == object.end() || at->is_null() ? nullptr : &*at;
}
bool has_more_than_nothing(const Json& object, const char* name) {
  const Json* value = find(object, name);
  return value && !(value->is_string() && value->get_ref<const std::string&>().empty()) &&
         !((value->is_array() || value->is_object()) && value->empty());
}

bool is_blank(std::string_view text) { return text.find_first_not_of(" \t\r\n") == text.npos; }

const std::string& text_of(const Json& value, std::string_view what) {
  if (!value.is_string()) refuse(fmt::format("has {}, which is {}, not a string", what, kind(value)));
  return value.get_ref<const std::string&>();
}
const std::string& filled_text(const Json& object, const char* name, std::string_view what) {
  const std::string& text = text_of(*find(object, name), fmt::format("\"{}\"", name));
  if (is_blank(text)) refuse(fmt::format("has an empty \"{}\"{}", name, what));
  return text;
}

std::string keys_of(const Json& object) {
  if (object.empty()) return "has no keys at all";
  constexpr std::size_t most = 10;
  std::string list;
  std::size_t count = 0;
  for (const auto& [name, value] : object.get_ref<const Json::object_t&>()) {
    if (++count > most) break;
    list += (count > 1 ? ", " : "") + quoted(name, 30);
  }
  if (object.size() > most) list += fmt::format(" and {} more", object.size() - most);
  return fmt::format("has the {} {}", object.size() == 1 ? "key" : "keys", list);
}

// What is not text in an object and would be lost.
void refuse_others(const Json& object, std::string_view where) {
  for (const char* name : {"tool_calls", "function_call", "tools", "functions"})
    if (has_more_than_nothing(object, name))
      refuse(
          fmt::format("has \"{}\"{}: tool calls cannot be trained on; leave such examples out", name, where));
  for (const char* name : {"image", "images", "audio", "audios", "video", "videos"})
    if (has_more_than_nothing(object, name))
      refuse(fmt::format("has \"{}\"{}: only text can be trained on; leave such examples out", name, where));
}

// A text, or parts of which each is one.
std::string content_of(const Json& value, std::size_t number) {
  if (!value.is_array()) return text_of(value, fmt::format("a content in message {}", number));
  std::string content;
  for (const Json& part : value) {
    if (part.is_string()) {
      content += part.get_ref<const std::string&>();
      continue;
    }
    const Json* type = part.is_object() ? find(part, "type") : nullptr;
    const Json* text = part.is_object() ? find(part, "text") : nullptr;
    if (!type || !type->is_string())
      refuse(fmt::format("has a part of the content of message {} that is {} without a \"type\"", number,
                         kind(part)));
    if (type->get_ref<const std::string&>() != "text")
      refuse(fmt::format("has a part of the type {1} in message {0}; only text can be trained on", number,
                         quoted(type->get_ref<const std::string&>(), 30)));
    if (!text) refuse(fmt::format("has a part of the type \"text\" without \"text\" in message {}", number));
    content += text_of(*text, fmt::format("a part's \"text\" in message {}", number));
  }
  return content;
}

std::string role_of(const std::string& role, std::size_t number) {
  if (role == "user" || role == "human") return "user";
  if (role == "assistant" || role == "gpt") return "assistant";
  if (role == "system" || role == "developer") return "system";
  const bool is_tool = role == "tool" || role == "function" || role == "ipython" || role == "observation";
  refuse(fmt::format("has message {} with the role {}; {}", number, quoted(role, 30),
                     is_tool ? "tool calls cannot be trained on, leave such examples out"
                             : "the roles are system, user and assistant (or human and gpt)"));
}

// OpenAI's weight of an answer.
bool is_learned(const Json& message, std::size_t number) {
  const Json* weight = find(message, "weight");
  if (!weight) return true;
  if (*weight != 0 && *weight != 1)
    refuse(fmt::format("has a \"weight\" in message {} that is neither 0 nor 1", number));
  return *weight == 1;
}

// Appends the messages of a list. `may_learn`: whether its answers are for the loss.
void read_messages(const Json& list, const char* name, bool may_learn, Record& record) {
  if (!list.is_array())
    refuse(fmt::format("has \"{}\", which is {}, not a list of messages", name, kind(list)));
  std::size_t number = 0;
  for (const Json& message : list) {
    ++number;
    if (!message.is_object())
      refuse(fmt::format("has \"{}\" with {} as message {}, not an object with a role and a content", name,
                         kind(message), number));
    refuse_others(message, fmt::format(" in message {}", number));
    const bool is_sharegpt = !find(message, "role") && find(message, "from");
    const char* const role_name = is_sharegpt ? "from" : "role";
    const char* const content_name = is_sharegpt ? "value" : "content";
    const Json* role = find(message, role_name);
    const Json* content = find(message, content_name);
    if (!role || !content)
      refuse(fmt::format("has message {} without \"{}\"; it {}", number, role ? content_name : role_name,
                         keys_of(message)));
    record.messages.push_back({role_of(text_of(*role, fmt::format("a role in message {}", number)), number),
                               content_of(*content, number)});
    if (record.messages.back().role != "assistant") continue;
    record.learned.push_back(may_learn && is_learned(message, number));
    if (record.learned.back() && is_blank(record.messages.back().content))
      refuse(fmt::format("has an empty answer, message {} of \"{}\"; leave the example out", number, name));
  }
}

void check_learns(const Record& record, const char* name) {
  if (std::count(record.learned.begin(), record.learned.end(), true) > 0) return;
  refuse(fmt::format("has no answer to learn in \"{}\": no message has the role assistant (or gpt){}", name,
                     record.learned.empty() ? "" : " and a weight other than 0"));
}

Record read_conversation(const Json& object, const char* name) {
  Record record = {.form = Record::Form::conversation, .form_name = name};
  refuse_others(object, "");
  read_messages(*find(object, name), name, true, record);
  check_learns(record, name);
  return record;
}

// TRL's: texts, or messages on both sides.
Record read_pair(const Json& object) {
  const Json &prompt = *find(object, "prompt"), &completion = *find(object, "completion");
  Record record = {.form = Record::Form::pair, .form_name = "prompt/completion"};
  if (prompt.is_array() || completion.is_array()) {
    record.form = Record::Form::conversation;
    refuse_others(object, "");
    read_messages(prompt, "prompt", false, record);
    read_messages(completion, "completion", true, record);
    check_learns(record, "completion");
    return record;
  }
  record.question = text_of(prompt, "\"prompt\"");
  record.answer = filled_text(object, "completion", ", the answer; leave the example out");
  return record;
}

Record read_instruction(const Json& object) {
  Record record = {.form = Record::Form::instruction, .form_name = "instruction"};
  record.question = text_of(*find(object, "instruction"), "\"instruction\"");
  if (const Json* input = find(object, "input")) record.input = text_of(*input, "\"input\"");
  record.answer = filled_text(object, "output", ", the answer; leave the example out");
  return record;
}

}  // namespace

Record read_record(std::string_view json) {
  const Json object = parse(json);
  if (!object.is_object())
    refuse(fmt::format("is {}, not an object such as {{\"text\": \"...\"}}", kind(object)));
  const auto has = [&](const char* name) { return find(object, name) != nullptr; };
  if (has("messages")) return read_conversation(object, "messages");
  if (has("conversations")) return read_conversation(object, "conversations");
  // Some sets have a text beside these, which is the same in another writing.
  if (has("instruction") && has("output")) return read_instruction(object);
  if (has("prompt") && has("completion")) return read_pair(object);
  if (has("text")) return {.text = filled_text(object, "text", "; leave the example out")};
  const char* const lacks = has("prompt")        ? ", but no \"completion\""
                            : has("completion")  ? ", but no \"prompt\""
                            : has("instruction") ? ", but no \"output\""
                            : has("output")      ? ", but no \"instruction\""
                                                 : ", of which none is known";
  refuse(keys_of(object) + (object.empty() ? "" : lacks));
}

}  // namespace finetune
