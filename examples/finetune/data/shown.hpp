// Text from strangers' files, made fit to be shown, and places in it.
#pragma once

#include <algorithm>    // min
#include <cstddef>      // size_t
#include <string>       // string
#include <string_view>  // string_view

#include <fmt/format.h>
#include <llama/unicode.hpp>           // broken_utf8
#include <tiedlora/adapter/quote.hpp>  // escaped, in_quotes

namespace finetune {

/// Where the first byte stands that is zero or not of UTF-8; npos if none is.
inline std::size_t find_broken(std::string_view text) {
  return std::min(text.find('\0'), llama::broken_utf8(text));
}

using tiedlora::detail::escaped;
inline std::string quoted(std::string_view text, std::size_t longest = 80) {
  return tiedlora::detail::in_quotes(text, longest);
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
