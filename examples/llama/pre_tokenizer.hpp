// How byte-level tokenizers cut text into words before they merge within each: four regular expressions,
// written out.
#pragma once

#include <array>        // array
#include <cstddef>      // size_t
#include <optional>     // optional
#include <string>       // string
#include <string_view>  // string_view
#include <vector>       // vector

#include "unicode.hpp"

namespace llama {

/// By the model that they became known with. smollm is gpt2 with every number character alone; qwen2 is
/// llama3 likewise, where llama3 has up to three together.
enum class PreTokenizer { gpt2, smollm, llama3, qwen2 };

struct PreTokenizerName {
  std::string_view name;
  PreTokenizer kind;
};
/// What tokenizer.ggml.pre calls them.
inline constexpr std::array<PreTokenizerName, 9> pre_tokenizer_names = {{
    {"gpt-2", PreTokenizer::gpt2},
    {"gpt2", PreTokenizer::gpt2},
    {"phi-2", PreTokenizer::gpt2},
    {"smollm", PreTokenizer::smollm},
    {"llama-bpe", PreTokenizer::llama3},
    {"llama3", PreTokenizer::llama3},
    {"llama-v3", PreTokenizer::llama3},
    {"qwen2", PreTokenizer::qwen2},
    {"deepseek-r1-qwen", PreTokenizer::qwen2},
}};
inline std::optional<PreTokenizer> find_pre_tokenizer(std::string_view name) {
  for (const PreTokenizerName& known : pre_tokenizer_names)
    if (known.name == name) return known.kind;
  return std::nullopt;
}
/// For messages.
inline std::string known_pre_tokenizers() {
  std::string list;
  for (const PreTokenizerName& known : pre_tokenizer_names)
    list.append(list.empty() ? "" : ", ").append(known.name);
  return list;
}

/// Which kind the regular expression of a tokenizer.json is.
inline std::optional<PreTokenizer> pre_tokenizer_of_regex(std::string_view regex) {
  if (regex == R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)")
    return PreTokenizer::gpt2;
  constexpr std::string_view begin = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N})",
                             end = R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  if (!regex.starts_with(begin) || !regex.ends_with(end)) return std::nullopt;
  regex.remove_prefix(begin.size()), regex.remove_suffix(end.size());
  if (regex == "{1,3}") return PreTokenizer::llama3;
  return regex.empty() ? std::optional(PreTokenizer::qwen2) : std::nullopt;
}

/// Finds one word after the other in valid UTF-8.
class WordCutter {
 public:
  WordCutter(PreTokenizer kind, std::string_view text) : kind_(kind), text_(text) {}

  /// Empty at the end.
  std::string_view next() {
    const std::size_t begin = at_;
    if (begin < text_.size())
      at_ = kind_ == PreTokenizer::gpt2 || kind_ == PreTokenizer::smollm ? gpt2_end() : llama3_end();
    return text_.substr(begin, at_ - begin);
  }

 private:
  bool is(std::size_t i, char c) const { return i < text_.size() && text_[i] == c; }
  bool is_line_break(std::size_t i) const { return is(i, '\n') || is(i, '\r'); }
  bool is(std::size_t i, CharKind kind) const {
    return i < text_.size() && kind_of(char_at(text_, i).code) == kind;
  }
  std::size_t end_of_run(std::size_t i, CharKind kind) const {
    for (; i < text_.size();) {
      const Char c = char_at(text_, i);
      if (kind_of(c.code) != kind) break;
      i += c.size;
    }
    return i;
  }

  /// The end of 's 't 'm 'd 're 've 'll; where it begins if it is not one of them.
  std::size_t contraction_end(bool any_case) const {
    if (!is(at_, '\'')) return at_;
    const auto letter = [&](std::size_t i) {
      const char c = i < text_.size() ? text_[i] : '\0';
      return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    };
    const char a = letter(at_ + 1), b = letter(at_ + 2);
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return at_ + 2;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return at_ + 3;
    // The long s is an s in another case.
    if (any_case && text_.substr(at_ + 1, 2) == "\u017f") return at_ + 3;
    return at_;
  }

  // '(s|t|re|ve|m|ll|d) | ?L+ | ?N+ | ?other+ | spaces, without the last where a word follows
  std::size_t gpt2_end() const {
    if (const std::size_t end = contraction_end(false); end > at_) return end;
    const bool is_apart = kind_ == PreTokenizer::smollm;
    if (is_apart && is(at_, CharKind::number)) return at_ + char_at(text_, at_).size;
    const std::size_t first = is(at_, ' ') ? at_ + 1 : at_;
    for (const CharKind kind : {CharKind::letter, CharKind::number, CharKind::other}) {
      if (is_apart && kind == CharKind::number) continue;
      if (const std::size_t end = end_of_run(first, kind); end > first) return end;
    }
    return space_end(is_apart);
  }

  // '(s|t|re|ve|m|ll|d) in any case | one character that is not a line break, L or N, and L+ | N{1,3} |
  // ?other+ and line breaks | spaces up to their last line break | spaces as above
  std::size_t llama3_end() const {
    if (const std::size_t end = contraction_end(true); end > at_) return end;
    const Char c = char_at(text_, at_);
    const CharKind kind = kind_of(c.code);
    if (kind == CharKind::letter) return end_of_run(at_ + c.size, CharKind::letter);
    if (kind == CharKind::number) {
      std::size_t end = at_ + c.size;
      for (int more = kind_ == PreTokenizer::llama3 ? 2 : 0; more > 0 && is(end, CharKind::number); --more)
        end += char_at(text_, end).size;
      return end;
    }
    if (!is_line_break(at_) && is(at_ + c.size, CharKind::letter))
      return end_of_run(at_ + c.size, CharKind::letter);
    const std::size_t first = is(at_, ' ') ? at_ + 1 : at_;
    if (std::size_t end = end_of_run(first, CharKind::other); end > first) {
      while (is_line_break(end)) ++end;
      return end;
    }
    const std::size_t spaces = end_of_run(at_, CharKind::space);
    for (std::size_t end = spaces; end > at_; --end)
      if (is_line_break(end - 1)) return end;
    return space_end(false);
  }

  // The last of several spaces belongs to the word after them.
  std::size_t space_end(bool numbers_are_apart) const {
    const std::size_t end = end_of_run(at_, CharKind::space);
    if (end == text_.size() || (numbers_are_apart && is(end, CharKind::number))) return end;
    std::size_t last = end - 1;
    while (static_cast<unsigned char>(text_[last]) >> 6 == 2) --last;
    return last > at_ ? last : end;
  }

  PreTokenizer kind_;
  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace llama
