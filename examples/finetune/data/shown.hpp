// Text from strangers' files, made fit to be shown, and places in it.
#pragma once

#include <cstddef>      // size_t
#include <string>       // string
#include <string_view>  // string_view

#include <fmt/format.h>
#include <llama/unicode.hpp>  // character_size

namespace finetune {

using llama::character_size;

/// Where the first byte stands that is zero or not of UTF-8; npos if none is.
inline std::size_t find_broken(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t size = text[at] == '\0' ? 0 : character_size(text, at);
    if (size == 0) return at;
    at += size;
  }
  return std::string_view::npos;
}

/// With everything escaped that could change what a terminal shows: control characters, marks that turn the
/// direction of writing, and bytes that are no text. Cut behind so many characters.
inline std::string escaped(std::string_view text, std::size_t longest = std::string_view::npos) {
  std::string result;
  std::size_t count = 0;
  for (std::size_t at = 0; at < text.size(); ++count) {
    if (count == longest) return result + "…";
    const std::string_view character = text.substr(at, character_size(text, at));
    const auto lead = static_cast<unsigned char>(text[at]);
    at += character.empty() ? 1 : character.size();
    const bool turns = character.starts_with("\u200e") || character.starts_with("\u200f") ||
                       (character >= "\u2028" && character <= "\u202e") ||
                       (character >= "\u2066" && character <= "\u2069");
    if (lead == '\n')
      result += "\\n";
    else if (lead == '\t')
      result += "\\t";
    else if (character.empty() || lead < 0x20 || lead == 0x7f)
      result += fmt::format("\\x{:02x}", lead);
    else if (turns || (lead == 0xc2 && static_cast<unsigned char>(character[1]) < 0xa0))
      for (const char c : character) result += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    else
      result += character;
  }
  return result;
}
inline std::string quoted(std::string_view text, std::size_t longest = 80) {
  return "\"" + escaped(text, longest) + "\"";
}

/// A place in a text, both from 1. Columns count characters.
struct TextPlace {
  std::size_t line = 1, column = 1;
};
inline TextPlace place_of(std::string_view text, std::size_t at) {
  TextPlace place;
  for (const char c : text.substr(0, at)) {
    if (c == '\n')
      ++place.line, place.column = 1;
    else if (static_cast<unsigned char>(c) >> 6 != 2)
      ++place.column;
  }
  return place;
}

}  // namespace finetune
