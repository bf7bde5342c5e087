// What the options of the programs accept. A message has the option's name, which CLI11 puts in front, the
// value, and what is allowed.
#pragma once

#include <cstdint>    // uint64_t
#include <limits>     // numeric_limits
#include <optional>   // optional
#include <stdexcept>  // invalid_argument
#include <string>     // string

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "llama/unicode.hpp"  // check_utf8
#include "numbers.hpp"

namespace examples {

/// Accepts a number from `least` to `most`, which the description says in words.
inline CLI::Validator number_from(double least, double most, const std::string& description) {
  return CLI::Validator(
      [least, most, description](std::string& text) -> std::string {
        const std::optional<double> number = to_number(text);
        if (!number || *number < least || *number > most)
          return fmt::format("{} is not {}", in_short(text), description);
        return {};
      },
      "");
}
inline CLI::Validator number_from(double least, double most) {
  return number_from(least, most, fmt::format("a number from {} to {}", least, most));
}
inline CLI::Validator positive_number() {
  return number_from(smallest_number, largest_number, "a positive number (1e-15 to 1e15)");
}
inline CLI::Validator number_from_zero() { return number_from(0, largest_number, "a number from 0 to 1e15"); }

/// Accepts a whole number from `least` to `most`. What is passed on is plain: CLI11 would read 010 as octal.
inline CLI::Validator whole_from(std::uint64_t least, std::uint64_t most) {
  return CLI::Validator(
      [least, most](std::string& text) -> std::string {
        const std::optional<std::uint64_t> number = to_whole<std::uint64_t>(text);
        if (!number || *number < least || *number > most)
          return fmt::format("{} is not a whole number from {} to {}", in_short(text), least, most);
        text = fmt::format("{}", *number);
        return {};
      },
      "");
}

inline CLI::Validator any_seed() { return whole_from(0, std::numeric_limits<std::uint64_t>::max()); }
/// Of steps, tokens, batches: more than anyone waits for.
inline CLI::Validator positive_count() { return whole_from(1, 1'000'000'000); }
inline CLI::Validator some_minutes() { return number_from(1e-6, 1e6, "a number above 0 and up to 1000000"); }
inline CLI::Validator count_of_threads() { return whole_from(1, 1024); }
inline CLI::Validator any_rank() { return whole_from(1, largest_rank); }

/// Accepts what can be the path of something: any text but an empty one.
inline CLI::Validator any_path() {
  return CLI::Validator(
      [](std::string& text) { return text.empty() ? std::string("the path is empty") : std::string(); }, "");
}

/// Accepts UTF-8, for a tokenizer; names the first byte that is none, counted in the text as it was given.
inline CLI::Validator utf8_text() {
  return CLI::Validator(
      [](std::string& text) -> std::string {
        try {
          llama::check_utf8(text);
          return {};
        } catch (const std::invalid_argument& error) {
          return error.what();
        }
      },
      "");
}

}  // namespace examples
