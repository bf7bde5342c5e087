// The text of a Jinja template, in a form in which versions of it that differ in writing only are the same.
#pragma once

#include <algorithm>    // any_of, find, min, none_of
#include <cstddef>      // size_t
#include <iterator>     // begin, end
#include <optional>     // optional
#include <span>         // span
#include <string>       // string
#include <string_view>  // string_view
#include <utility>      // move
#include <vector>       // vector

#include "unicode.hpp"

namespace llama {

inline std::string_view strip_front(std::string_view text, std::string_view characters) {
  return text.substr(std::min(text.find_first_not_of(characters), text.size()));
}
inline std::string_view strip_back(std::string_view text, std::string_view characters) {
  return text.substr(0, text.find_last_not_of(characters) + 1);
}
/// Without White_Space and separators (0x1c to 0x1f) at both ends: Python's strip. Of valid UTF-8.
inline std::string_view strip_spaces(std::string_view text) {
  const auto is_space = [&](std::size_t at) {
    const char32_t c = char_at(text, at).code;
    return kind_of(c) == CharKind::space || (c >= 0x1c && c <= 0x1f);
  };
  while (!text.empty() && is_space(0)) text.remove_prefix(char_at(text, 0).size);
  while (!text.empty()) {
    std::size_t at = text.size() - 1;
    while (at > 0 && static_cast<unsigned char>(text[at]) >> 6 == 2) --at;
    if (!is_space(at)) break;
    text = text.substr(0, at);
  }
  return text;
}

/// What a template writes around what somebody says.
struct Surroundings {
  std::string before = {}, after = {};
  bool strips = false;          ///< spaces of what is said
  std::string behind_end = {};  ///< of an answer: what follows the token that ends it
};

/// Its code is kept without spaces and comments, with every text in '…' and with .x for ['x'].
class JinjaText {
 public:
  explicit JinjaText(std::string_view text) : text_(text) {
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t open = text.find('{', at);
      if (open == text.npos || open + 1 == text.size()) {
        add_outside(text.substr(at));
        break;
      }
      const char kind = text[open + 1];
      if (kind != '{' && kind != '%' && kind != '#') {
        add_outside(text.substr(at, open + 1 - at));
        at = open + 1;
        continue;
      }
      add_outside(text.substr(at, open - at));
      at = kind == '#' ? std::min(text.find("#}", open), text.size() - 2) + 2 : add_block(text, open);
    }
    for (const std::string_view name : {"role", "content"}) {
      const std::string item = "['" + std::string(name) + "']";
      code_ = replaced(code_, item, name);
      for (std::string& statement : statements_) statement = replaced(statement, item, name);
    }
  }

  /// Whether this occurs in the text as it was written.
  bool has(std::string_view part) const { return text_.find(part) != text_.npos; }
  /// Whether this occurs in the code.
  bool has_code(std::string_view part) const { return code_.find(part) != code_.npos; }
  /// Whether something stands outside of {{ }} and {% %}, spaces aside.
  bool has_outside() const { return has_outside_; }

  /// What stands between these in a text of the code that begins with `begin`; empty if none does.
  std::string literal_between(std::string_view begin, std::string_view end) const {
    for (const std::string& literal : literals_) {
      if (!literal.starts_with(begin)) continue;
      const std::size_t at = literal.find(end, begin.size());
      if (at != literal.npos) return literal.substr(begin.size(), at - begin.size());
    }
    return {};
  }
  /// The text that follows on this in the code.
  std::string literal_after(std::string_view part) const {
    const std::size_t at = code_.find(std::string(part).append("'"));
    if (at == code_.npos) return {};
    const std::size_t begin = at + part.size() + 1;
    return code_.substr(begin, code_.find('\'', begin) - begin);
  }

  /// Whether a text of the code begins with `begin`, and with `beyond` goes on.
  bool has_literal(std::string_view begin, bool beyond = false) const {
    return std::any_of(literals_.begin(), literals_.end(), [&](const std::string& literal) {
      return literal.starts_with(begin) && (!beyond || literal.size() > begin.size());
    });
  }

  /// What a variable with "system" in its name is set to, where that is neither the message of the
  /// conversation nor empty. Under `{% elif false … %}`, as Llama 2's first template has it, nothing is set.
  std::optional<std::string> own_system_message() const {
    constexpr std::string_view set = "{%set", end = "%}", message = "messages[0].content";
    constexpr std::string_view known[] = {"''", "false", "none"};
    std::string_view branch;
    for (const std::string& statement : statements_) {
      const std::string_view whole = statement;
      const std::size_t equals = whole.find('=');
      if (!whole.starts_with(set)) branch = whole;
      if (!whole.starts_with(set) || equals == whole.npos ||
          whole.substr(0, equals).find("system") == whole.npos || branch.starts_with("{%eliffalse=="))
        continue;
      std::string_view value = whole.substr(equals + 1);
      if (value.ends_with(end)) value.remove_suffix(end.size());
      const bool is_said = value == message || value == std::string(message) + "|trim" ||
                           value == std::string(message) + ".strip()";
      if (!is_said && std::find(std::begin(known), std::end(known), value) == std::end(known))
        return std::string(value);
    }
    return std::nullopt;
  }
  /// Whether anything but one of `parts` follows on `begin` in the code.
  bool has_other_after(std::string_view begin, std::span<const std::string_view> parts) const {
    for (std::size_t at = code_.find(begin); at != code_.npos; at = code_.find(begin, at + 1)) {
      const std::string_view rest = code().substr(at + begin.size());
      if (std::none_of(parts.begin(), parts.end(),
                       [&](std::string_view part) { return rest.starts_with(part); }))
        return true;
    }
    return false;
  }

  /// What is added before and after message.content where the texts hold `left` and `right`.
  std::optional<Surroundings> around_content(std::string_view left, std::string_view right) const {
    for (std::size_t at = code_.find(content); at != code_.npos; at = code_.find(content, at + 1)) {
      Surroundings found;
      std::size_t end = at + content.size();
      found.strips = skip_strip(end);
      const auto before = literal_ending_at(at), after = literal_at(end);
      if (!before || !after || before->find(left) == before->npos || after->find(right) == after->npos)
        continue;
      found.before = *before, found.after = *after;
      return found;
    }
    return std::nullopt;
  }
  /// Likewise of an answer, after which `end_token` is added.
  std::optional<Surroundings> around_answer(std::string_view end_token) const {
    for (std::size_t at = code_.find(content); at != code_.npos; at = code_.find(content, at + 1)) {
      Surroundings found;
      std::size_t end = at + content.size();
      found.strips = skip_strip(end);
      if (!code().substr(end).starts_with("+" + std::string(end_token))) continue;
      end += 1 + end_token.size();
      found.before = literal_ending_at(at).value_or("");
      found.behind_end = literal_at(end).value_or("");
      return found;
    }
    return std::nullopt;
  }

 private:
  static constexpr std::string_view content = "message.content";

  std::string_view code() const { return code_; }
  void add_outside(std::string_view text) {
    if (!strip_front(text, " \t\r\n").empty()) has_outside_ = true;
  }
  // {{ }} or {% %}, without the minus signs that take spaces away; where it ends.
  std::size_t add_block(std::string_view text, std::size_t open) {
    const std::size_t begin = code_.size(), at = add_code(text, open);
    if (text[open + 1] == '%') statements_.push_back(code_.substr(begin));
    return at;
  }
  std::size_t add_code(std::string_view text, std::size_t open) {
    const std::string end = text[open + 1] == '{' ? "}}" : "%}";
    code_ += text.substr(open, 2);
    std::size_t at = open + 2;
    if (at < text.size() && text[at] == '-') ++at;
    while (at < text.size()) {
      if (text.substr(at).starts_with(end) || text.substr(at).starts_with("-" + end)) {
        code_ += end;
        return text.find(end, at) + end.size();
      }
      const char c = text[at++];
      if (c == '\'' || c == '"')
        at = add_literal(text, at, c);
      else if (c != ' ' && c != '\n' && c != '\t' && c != '\r')
        code_ += c;
    }
    return at;
  }
  std::size_t add_literal(std::string_view text, std::size_t at, char quote) {
    std::string literal;
    for (; at < text.size() && text[at] != quote; ++at) {
      if (text[at] != '\\' || at + 1 == text.size()) {
        literal += text[at];
        continue;
      }
      const char c = text[++at];
      literal += c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c;
    }
    code_.append("'").append(literal).append("'");
    literals_.push_back(std::move(literal));
    return at + 1;
  }
  static std::string replaced(const std::string& code, const std::string& what, std::string_view name) {
    std::string result;
    std::size_t begin = 0;
    for (std::size_t at = code.find(what); at != code.npos; at = code.find(what, begin)) {
      result.append(code, begin, at - begin).append(".").append(name);
      begin = at + what.size();
    }
    return result.append(code, begin);
  }

  // "|trim" and ".strip()" at a place, which moves past it.
  bool skip_strip(std::size_t& at) const {
    for (const std::string_view strip : {"|trim", ".strip()"})
      if (code().substr(at).starts_with(strip)) {
        at += strip.size();
        return true;
      }
    return false;
  }
  // The X of 'X'+ that ends at a place, and of +'X' that begins there.
  std::optional<std::string> literal_ending_at(std::size_t at) const {
    if (at < 3 || !code().substr(0, at).ends_with("'+")) return std::nullopt;
    const std::size_t end = at - 2, begin = code_.rfind('\'', end - 1);
    if (begin == code_.npos) return std::nullopt;
    return code_.substr(begin + 1, end - begin - 1);
  }
  std::optional<std::string> literal_at(std::size_t at) const {
    if (!code().substr(at).starts_with("+'")) return std::nullopt;
    return code_.substr(at + 2, code_.find('\'', at + 2) - at - 2);
  }

  std::string text_, code_;
  std::vector<std::string> statements_;  // the code of each {% %}
  std::vector<std::string> literals_;
  bool has_outside_ = false;
};

}  // namespace llama
