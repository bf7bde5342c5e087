// Unicode's normal form C (UAX #15): Qwen's tokenizers read text in it.
#pragma once

#include <algorithm>      // upper_bound, stable_sort
#include <array>          // array
#include <cstddef>        // size_t
#include <iterator>       // begin, end
#include <string>         // string
#include <string_view>    // string_view
#include <unordered_map>  // unordered_map
#include <utility>        // pair
#include <vector>         // vector

#include "nfc_tables.hpp"
#include "unicode.hpp"

namespace llama {
namespace nfc_detail {

// Hangul syllables are made of a leading consonant, a vowel and maybe a trailing consonant, by counting.
inline constexpr char32_t syllables = 0xac00, leads = 0x1100, vowels = 0x1161, trails = 0x11a7;
inline constexpr char32_t lead_count = 19, vowel_count = 21, trail_count = 28;
inline bool is_among(char32_t c, char32_t first, char32_t count) { return c >= first && c - first < count; }

inline unsigned combining_class(char32_t c) {
  const auto above =
      std::upper_bound(std::begin(combining_ranges), std::end(combining_ranges), c,
                       [](char32_t value, const CombiningRange& range) { return value < range.first; });
  return above != std::begin(combining_ranges) && c <= above[-1].last ? above[-1].value : 0;
}

struct Tables {
  std::unordered_map<char32_t, std::pair<char32_t, char32_t>> parts;
  std::unordered_map<unsigned long long, char32_t> composed;
  std::vector<bool> may_change = std::vector<bool>(0x110000);  ///< whether a text with it may be no NFC
};
inline unsigned long long key(char32_t first, char32_t second) {
  return static_cast<unsigned long long>(first) << 32 | second;
}
inline const Tables& tables() {
  static const Tables result = [] {
    Tables made;
    for (const Decomposition& d : compositions) {
      made.parts[d.code] = {d.first, d.second};
      made.composed[key(d.first, d.second)] = d.code;
      made.may_change[d.second] = true;
    }
    for (const Decomposition& d : one_way_decompositions) {
      made.parts[d.code] = {d.first, d.second};
      made.may_change[d.code] = true;
    }
    for (const CombiningRange& range : combining_ranges)
      for (char32_t c = range.first; c <= range.last; ++c) made.may_change[c] = true;
    for (char32_t i = 0; i < vowel_count; ++i) made.may_change[vowels + i] = true;
    for (char32_t i = 1; i < trail_count; ++i) made.may_change[trails + i] = true;
    return made;
  }();
  return result;
}

inline void decompose(char32_t c, std::vector<char32_t>& out) {
  if (is_among(c, syllables, lead_count * vowel_count * trail_count)) {
    const char32_t i = c - syllables;
    out.push_back(leads + i / (vowel_count * trail_count));
    out.push_back(vowels + i % (vowel_count * trail_count) / trail_count);
    if (i % trail_count) out.push_back(trails + i % trail_count);
    return;
  }
  const auto found = tables().parts.find(c);
  if (found == tables().parts.end()) return out.push_back(c);
  decompose(found->second.first, out);
  if (found->second.second) decompose(found->second.second, out);
}

/// 0 if the two do not become one.
inline char32_t compose(char32_t first, char32_t second) {
  if (is_among(first, leads, lead_count) && is_among(second, vowels, vowel_count))
    return syllables + ((first - leads) * vowel_count + (second - vowels)) * trail_count;
  if (is_among(first, syllables, lead_count * vowel_count * trail_count) &&
      (first - syllables) % trail_count == 0 && is_among(second, trails + 1, trail_count - 1))
    return first + (second - trails);
  const auto found = tables().composed.find(key(first, second));
  return found == tables().composed.end() ? 0 : found->second;
}

}  // namespace nfc_detail

/// Whether NFC leaves valid UTF-8 as it is for certain: without characters that decompose, combine or compose
/// with one before them.
inline bool is_surely_nfc(std::string_view text) {
  const auto& may_change = nfc_detail::tables().may_change;
  for (std::size_t at = 0; at < text.size();) {
    const Char c = char_at(text, at);
    if (c.code >= 0x300 && may_change[c.code]) return false;
    at += c.size;
  }
  return true;
}

/// The NFC of valid UTF-8.
inline std::string to_nfc(std::string_view text) {
  using nfc_detail::combining_class;
  if (is_surely_nfc(text)) return std::string(text);
  std::vector<char32_t> codes;
  for (std::size_t at = 0; at < text.size();) {
    const Char c = char_at(text, at);
    nfc_detail::decompose(c.code, codes);
    at += c.size;
  }
  // Marks after a base in the order of their classes.
  for (std::size_t i = 0; i < codes.size();) {
    std::size_t end = i;
    while (end < codes.size() && combining_class(codes[end]) != 0) ++end;
    std::stable_sort(codes.begin() + static_cast<std::ptrdiff_t>(i),
                     codes.begin() + static_cast<std::ptrdiff_t>(end),
                     [](char32_t a, char32_t b) { return combining_class(a) < combining_class(b); });
    i = end + 1;
  }
  // A character joins the last base unless one between them has its class, or one as high, or is a base.
  constexpr std::size_t none = static_cast<std::size_t>(-1);
  std::size_t base = none, size = 0;
  unsigned before = 0;  // class of the character that was kept last
  for (const char32_t c : codes) {
    const unsigned own = combining_class(c);
    if (base != none && (base + 1 == size || (before != 0 && before < own)))
      if (const char32_t joined = nfc_detail::compose(codes[base], c)) {
        codes[base] = joined;
        continue;
      }
    if (own == 0) base = size;
    before = own;
    codes[size++] = c;
  }
  std::string result;
  for (std::size_t i = 0; i < size; ++i) append_utf8(codes[i], result);
  return result;
}

}  // namespace llama
