// A model's text on a terminal: nothing in it moves the cursor or sets a colour.
#pragma once

#include <algorithm>    // max
#include <cstddef>      // size_t
#include <string>       // string
#include <string_view>  // string_view
#include <utility>      // exchange

#include <tiedlora/views/escape.hpp>

namespace examples {

/// Takes a text in pieces, which may end within a character, and gives it back with control characters other
/// than line feeds and tabs, and bytes that are not UTF-8, as "\x1b".
class TerminalText {
 public:
  std::string add(std::string_view piece) {
    rest_ += piece;
    std::string shown;
    std::size_t at = 0;
    while (at < rest_.size()) {
      const std::size_t size = tiedlora::detail::character_size(rest_.data() + at, rest_.size() - at);
      if (size == 0 && is_begin_of_character(std::string_view(rest_).substr(at))) break;
      const std::string_view character = std::string_view(rest_).substr(at, std::max<std::size_t>(size, 1));
      put(character, size > 0, shown);
      at += character.size();
    }
    rest_.erase(0, at);
    return shown;
  }

  /// What stands at the end of the text without being a whole character.
  std::string end() {
    std::string shown;
    for (const char byte : std::exchange(rest_, {})) put({&byte, 1}, false, shown);
    return shown;
  }

  /// Of a whole text.
  static std::string of(std::string_view text) {
    TerminalText pieces;
    const std::string shown = pieces.add(text);
    return shown + pieces.end();
  }

 private:
  // Whether further bytes could make a character of it.
  static bool is_begin_of_character(std::string_view text) {
    if (text.size() > 3) return false;
    for (const std::string_view tail :
         {"\x80", "\xa0", "\x80\x80", "\xa0\x80", "\x80\x80\x80", "\xa0\x80\x80"})
      if (const std::string longer = std::string(text) + std::string(tail);
          tiedlora::detail::character_size(longer.data(), longer.size()) == longer.size())
        return true;
    return false;
  }

  static void put(std::string_view character, bool is_text, std::string& shown) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(character[i]); };
    const bool is_control = character.size() == 1
                                ? byte(0) < 0x20 || byte(0) == 0x7f
                                : character.size() == 2 && byte(0) == 0xc2 && byte(1) < 0xa0;
    if (is_text && (!is_control || character == "\n" || character == "\t")) {
      shown += character;
      return;
    }
    tiedlora::detail::escape(character.data(), character.size(),
                             [&](const char* text, std::size_t size) { shown.append(text, size); });
  }

  std::string rest_ = {};  // the start of a character
};

}  // namespace examples
