// Names that come from files, for messages and for terminals.
#pragma once

#include <cstddef>      // size_t
#include <string>       // string
#include <string_view>  // string_view

#include "../views/config.hpp"
#include "../views/escape.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace detail {

/// The text with every byte escaped that a terminal would not show (views/escape.hpp), cut after `longest`
/// characters.
inline std::string escaped(std::string_view text, std::size_t longest = std::string_view::npos) {
  std::size_t end = 0;
  for (std::size_t count = 0; end < text.size() && count < longest; ++count) {
    const std::size_t size = character_size(text.data() + end, text.size() - end);
    end += size == 0 ? 1 : size;
  }
  std::string result;
  const std::string_view whole = text.substr(0, end);
  escape(whole.data(), whole.size(),
         [&result](const char* piece, std::size_t size) { result.append(piece, size); });
  return end < text.size() ? result + "…" : result;
}

/// The same in quotes.
inline std::string in_quotes(std::string_view text, std::size_t longest = 200) {
  return "\"" + escaped(text, longest) + "\"";
}

}  // namespace detail
TIEDLORA_END_NAMESPACE
