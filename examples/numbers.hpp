// Numbers on the command line: finite, and within their bounds.
#pragma once

#include <cmath>   // isfinite, nextafter
#include <limits>  // numeric_limits
#include <string>  // string

#include <fmt/format.h>
#include <CLI/CLI.hpp>

namespace examples {

/// Accepts a finite number from `least` to `most`; what CLI11's own ranges let through, NaN, it refuses.
inline CLI::Validator number_from(double least, double most, const std::string& description) {
  return CLI::Validator(
      [least, most, description](std::string& text) -> std::string {
        double number = std::numeric_limits<double>::quiet_NaN();
        if (!CLI::detail::lexical_cast(text, number) || !std::isfinite(number) || number < least ||
            number > most)
          return fmt::format("\"{}\" is not {}", text, description);
        return {};
      },
      "");
}

inline CLI::Validator positive_number() {
  return number_from(std::nextafter(0.0, 1.0), std::numeric_limits<double>::max(), "a positive number");
}
inline CLI::Validator number_from_zero() {
  return number_from(0, std::numeric_limits<double>::max(), "0 or a positive number");
}

}  // namespace examples
