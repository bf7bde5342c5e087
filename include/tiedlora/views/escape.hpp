// Text from outside, made safe to show: nothing in it moves the cursor, begins a line, changes the direction
// of writing or is not text.
#pragma once

#include <cstddef>  // size_t

#include "config.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace detail {
inline namespace TIEDLORA_ISA {

/// How many bytes the UTF-8 character at the start of these `size` bytes takes; 0 if they are not UTF-8.
constexpr std::size_t character_size(const char* text, std::size_t size) {
  const auto byte = [=](std::size_t i) -> unsigned {
    return i < size ? static_cast<unsigned char>(text[i]) : 0u;
  };
  const unsigned lead = byte(0), second = byte(1);
  if (lead < 0x80) return 1;
  const std::size_t length = lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
  for (std::size_t i = 1; i < length; ++i)
    if (byte(i) >> 6 != 2) return 0;
  // Overlong encodings, surrogates, and what is beyond U+10FFFF.
  const bool wrong = (lead == 0xe0 && second < 0xa0) || (lead == 0xed && second >= 0xa0) ||
                     (lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second >= 0x90);
  return wrong ? 0 : length;
}

/// Whether a terminal shows this UTF-8 character: it is not a control character (C0, DEL, C1), a line
/// separator (U+2028, U+2029), a mark that changes the direction of writing (U+061C, U+200E, U+200F, U+202A
/// to U+202E, U+2066 to U+2069) or a byte order mark.
constexpr bool is_shown(const char* character, std::size_t size) {
  unsigned code = 0;  // its bytes as one number
  for (std::size_t i = 0; i < size; ++i) code = code << 8 | static_cast<unsigned char>(character[i]);
  const auto within = [code](unsigned first, unsigned last) { return code >= first && code <= last; };
  return !(code < 0x20 || code == 0x7f || within(0xc280, 0xc29f) || code == 0xd89c ||
           within(0xe2808e, 0xe2808f) || within(0xe280a8, 0xe280ae) || within(0xe281a6, 0xe281a9) ||
           code == 0xefbbbf);
}

/// Calls put(text, size) with the text in pieces; every byte that is not shown is written as "\x1b" and the
/// like, a line feed as "\n", a tab as "\t".
template <class Put>
void escape(const char* text, std::size_t size, const Put& put) {
  constexpr char digits[] = "0123456789abcdef";
  std::size_t begin = 0;  // of what is shown as it is
  for (std::size_t at = 0; at < size;) {
    const std::size_t length = character_size(text + at, size - at), n = length == 0 ? 1 : length;
    if (length > 0 && is_shown(text + at, n)) {
      at += n;
      continue;
    }
    if (begin < at) put(text + begin, at - begin);
    for (std::size_t i = at; i < at + n; ++i) {
      const auto byte = static_cast<unsigned char>(text[i]);
      const char hex[] = {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
      if (byte == '\n')
        put("\\n", 2);
      else if (byte == '\t')
        put("\\t", 2);
      else
        put(hex, 4);
    }
    begin = at += n;
  }
  if (begin < size) put(text + begin, size - begin);
}

}  // namespace TIEDLORA_ISA
}  // namespace detail
TIEDLORA_END_NAMESPACE
