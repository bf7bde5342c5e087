// Code points of UTF-8, what kind of character each is, and the characters that stand for bytes.
#pragma once

#include <array>        // array
#include <cstddef>      // size_t
#include <stdexcept>    // invalid_argument
#include <string>       // string
#include <string_view>  // string_view
#include <vector>       // vector

#include <fmt/format.h>
#include <tiedlora/views/escape.hpp>

#include "unicode_ranges.hpp"

namespace llama {

enum class CharKind : unsigned char { other, letter, number, space };

/// L, N and White_Space, as the pre-tokenizers' regular expressions have them.
inline CharKind kind_of(char32_t c) {
  static const std::vector<CharKind> kinds = [] {
    std::vector<CharKind> table(0x110000, CharKind::other);
    const auto mark = [&table](const CodeRange& range, CharKind kind) {
      for (char32_t code = range.first; code <= range.last; ++code) table[code] = kind;
    };
    for (const CodeRange& range : letter_ranges) mark(range, CharKind::letter);
    for (const CodeRange& range : number_ranges) mark(range, CharKind::number);
    for (const CodeRange& range : {CodeRange{0x09, 0x0d},
                                   {0x20, 0x20},
                                   {0x85, 0x85},
                                   {0xa0, 0xa0},
                                   {0x1680, 0x1680},
                                   {0x2000, 0x200a},
                                   {0x2028, 0x2029},
                                   {0x202f, 0x202f},
                                   {0x205f, 0x205f},
                                   {0x3000, 0x3000}})
      mark(range, CharKind::space);
    return table;
  }();
  return kinds[c];
}

/// A character, and how many bytes it takes.
struct Char {
  char32_t code = 0;
  std::size_t size = 0;
};

/// The character that begins at a byte of valid UTF-8.
inline Char char_at(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[at + i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const std::size_t size = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  char32_t code = lead & (0x7fu >> size);
  for (std::size_t i = 1; i < size; ++i) code = code << 6 | (byte(i) & 0x3fu);
  return {code, size};
}

/// How many bytes the character at a place takes; 0 for what is not UTF-8.
inline std::size_t character_size(std::string_view text, std::size_t at) {
  return tiedlora::detail::character_size(text.data() + at, text.size() - at);
}

/// Where the first byte stands that is not of UTF-8; npos if none is.
inline std::size_t broken_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t size = character_size(text, at);
    if (size == 0) return at;
    at += size;
  }
  return text.npos;
}

/// Throws std::invalid_argument, naming the byte, for what is not UTF-8.
inline void check_utf8(std::string_view text) {
  if (const std::size_t at = broken_utf8(text); at != text.npos)
    throw std::invalid_argument(
        fmt::format("the text is not UTF-8: byte {} is {:#04x}; convert it, or drop what is broken", at,
                    static_cast<unsigned char>(text[at])));
}

inline void append_utf8(char32_t c, std::string& text) {
  const auto add = [&text](char32_t byte) { text += static_cast<char>(static_cast<unsigned char>(byte)); };
  if (c < 0x80) return add(c);
  if (c < 0x800) {
    add(0xc0 | c >> 6);
  } else {
    if (c < 0x10000) {
      add(0xe0 | c >> 12);
    } else {
      add(0xf0 | c >> 18);
      add(0x80 | (c >> 12 & 0x3f));
    }
    add(0x80 | (c >> 6 & 0x3f));
  }
  add(0x80 | (c & 0x3f));
}

/// The characters by which GPT-2's vocabularies write bytes: printable Latin-1 as itself, the others as those
/// from 256 on.
inline std::array<char32_t, 256> byte_characters() {
  std::array<char32_t, 256> result = {};
  char32_t next = 256;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    result[byte] = printable ? byte : next++;
  }
  return result;
}

}  // namespace llama
