// Numbers on the command line: decimal from the first character to the last, finite, within bounds.
#pragma once

#include <charconv>      // from_chars
#include <cmath>         // isfinite
#include <cstdint>       // int64_t
#include <optional>      // optional
#include <string>        // string
#include <string_view>   // string_view
#include <system_error>  // errc

#include <fmt/format.h>

namespace examples {

/// The number that all of the text is, in decimal; nothing for NaN, infinity, hexadecimals, what is too
/// large or too small for a double, and empty texts.
inline std::optional<double> to_number(std::string_view text) {
  if (text.starts_with('+') && !text.starts_with("+-")) text.remove_prefix(1);
  double number = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || stop != text.data() + text.size() || !std::isfinite(number))
    return std::nullopt;
  return number;
}

/// Likewise a whole number, in digits alone.
template <class Whole>
std::optional<Whole> to_whole(std::string_view text) {
  Whole number = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || stop != text.data() + text.size()) return std::nullopt;
  return number;
}

/// The text in quotes, its end left out where it is long.
inline std::string in_short(std::string_view text) {
  constexpr std::size_t longest = 60;
  return text.size() <= longest ? fmt::format("\"{}\"", text)
                                : fmt::format("\"{}...\"", text.substr(0, longest));
}

// As floats these are neither zero nor infinite, and neither are their squares.
inline constexpr double smallest_number = 1e-15, largest_number = 1e15;
/// No real adapter has more.
inline constexpr std::int64_t largest_rank = 4096;

}  // namespace examples
