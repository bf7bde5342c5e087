// Names that come out of files, for messages.
#pragma once

#include <cstddef>      // size_t
#include <string>       // string
#include <string_view>  // string_view

#include "../views/config.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace detail {
/// The text in quotes, fit to be shown: control characters, with which a file could write to the terminal of
/// whoever reads the message, become '?', and a long text is cut.
inline std::string in_quotes(std::string_view text) {
  constexpr std::size_t longest = 200;
  std::string result = "\"";
  for (const char c : text.substr(0, longest)) {
    const auto byte = static_cast<unsigned char>(c);
    result += byte < 0x20 || byte == 0x7f ? '?' : c;
  }
  return result + (text.size() > longest ? "...\"" : "\"");
}

}  // namespace detail
TIEDLORA_END_NAMESPACE
