// Code points of UTF-8, what kind of character each is, and the characters that stand for bytes.
#pragma once

#include <algorithm>    // upper_bound
#include <array>        // array
#include <cstddef>      // size_t
#include <span>         // span
#include <stdexcept>    // invalid_argument
#include <string>       // string
#include <string_view>  // string_view
#include <vector>       // vector

#include <fmt/format.h>

#include "unicode_ranges.hpp"

namespace llama {

enum class CharKind { letter, number, space, other };

inline CharKind kind_of(char32_t c) {
  const auto is_in = [c](std::span<const CodeRange> ranges) {
    const auto above =
        std::upper_bound(ranges.begin(), ranges.end(), c,
                         [](char32_t value, const CodeRange& range) { return value < range.first; });
    return above != ranges.begin() && c <= above[-1].last;
  };
  if ((c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
      (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000)
    return CharKind::space;
  return is_in(letter_ranges) ? CharKind::letter : is_in(number_ranges) ? CharKind::number : CharKind::other;
}

/// A character of a text: its kind, and where its bytes begin.
struct Char {
  char32_t code = 0;
  CharKind kind = CharKind::other;
  std::size_t begin = 0;
};

/// Throws std::invalid_argument, naming the byte, for what is no UTF-8.
inline std::vector<Char> characters(std::string_view text) {
  std::vector<Char> result;
  for (std::size_t at = 0; at < text.size();) {
    const auto byte = [&](std::size_t i) {
      return static_cast<unsigned char>(i < text.size() ? text[i] : 0);
    };
    const unsigned char lead = byte(at);
    const std::size_t size = lead < 0x80       ? 1
                             : lead >> 5 == 6  ? 2
                             : lead >> 4 == 14 ? 3
                             : lead >> 3 == 30 ? 4
                                               : 0;
    char32_t code = size == 1 ? lead : lead & 0x7fu >> size;
    bool valid = size > 0;
    for (std::size_t i = 1; i < size; ++i) {
      valid = valid && byte(at + i) >> 6 == 2;
      code = code << 6 | (byte(at + i) & 0x3fu);
    }
    constexpr char32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (!valid || code < least[size] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
      throw std::invalid_argument(fmt::format("the text is no UTF-8: byte {} is {:#04x}", at, lead));
    result.push_back({code, kind_of(code), at});
    at += size;
  }
  return result;
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

/// UTF-8 of a code point below 0x800.
inline std::string short_utf8(char32_t c) {
  if (c < 0x80) return {static_cast<char>(c)};
  return {static_cast<char>(0xc0 | c >> 6), static_cast<char>(0x80 | (c & 0x3f))};
}

}  // namespace llama
