// SentencePiece's blanks: "▁" for " ", one before the text, and words that begin with theirs.
#pragma once

#include <algorithm>    // min
#include <cstddef>      // size_t
#include <span>         // span
#include <string>       // string
#include <string_view>  // string_view

#include "vocabulary.hpp"  // blank_mark

namespace llama {

inline std::string mark_blanks(std::string_view text) {
  std::string result;
  result.reserve(text.size() + text.size() / 2);
  for (const char c : text)
    if (c == ' ')
      result += blank_mark;
    else
      result += c;
  return result;
}

/// Turns places in a text with its blanks marked, and maybe one put before it, into places in the text. The
/// last of them is the end.
inline void unmark_places(std::string_view text, std::span<std::size_t> places) {
  if (places.empty()) return;
  const auto size = [](char c) { return c == ' ' ? blank_mark.size() : 1; };
  std::size_t all = 0;
  for (const char c : text) all += size(c);
  std::size_t at = 0, marked = places.back() - all;  // one place in the text and in the marked one
  for (std::size_t& place : places) {
    while (at < text.size() && marked < place) marked += size(text[at++]);
    place = at;
  }
}

/// The marks of a piece as blanks again.
inline std::string unmark_blanks(std::string_view piece) {
  std::string result;
  while (!piece.empty()) {
    const bool is_blank = piece.starts_with(blank_mark);
    result += is_blank ? ' ' : piece[0];
    piece.remove_prefix(is_blank ? blank_mark.size() : 1);
  }
  return result;
}

/// Whether something stands before a mark, other than marks: merging such tokens would cross words.
inline bool has_inner_blank(std::string_view piece) {
  for (std::size_t at = piece.find(blank_mark, 1); at != piece.npos; at = piece.find(blank_mark, at + 1))
    if (!piece.substr(0, at).ends_with(blank_mark)) return true;
  return false;
}

/// Calls add(word) for each: a mark or, unless `at_every_blank`, all in a row, and what follows up to the
/// next.
template <class Add>
void cut_at_blanks(std::string_view text, bool at_every_blank, const Add& add) {
  while (!text.empty()) {
    std::size_t end = text.starts_with(blank_mark) ? blank_mark.size() : 0;
    if (!at_every_blank)
      while (text.substr(end).starts_with(blank_mark)) end += blank_mark.size();
    end = std::min(text.find(blank_mark, end), text.size());
    add(text.substr(0, end));
    text.remove_prefix(end);
  }
}

}  // namespace llama
