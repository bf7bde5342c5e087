// Lists on the command line: separated by commas, or given several times; nothing in them empty or there
// twice.
#pragma once

#include <algorithm>    // find
#include <cstddef>      // size_t
#include <functional>   // function
#include <string>       // string
#include <type_traits>  // is_integral_v
#include <vector>       // vector

#include <fmt/format.h>
#include <fmt/ranges.h>  // join
#include <CLI/CLI.hpp>

#include "numbers.hpp"  // in_short

namespace examples {

/// The parts between the commas, in order. CLI11's own delimiter would silently drop empty ones.
inline std::vector<std::string> parts_of(const std::vector<std::string>& texts) {
  std::vector<std::string> parts;
  for (const std::string& text : texts)
    for (std::size_t begin = 0; begin <= text.size();) {
      const std::size_t comma = std::min(text.find(',', begin), text.size());
      parts.push_back(text.substr(begin, comma - begin));
      begin = comma + 1;
    }
  return parts;
}

/// Adds an option whose value is a list of texts, paths or whole numbers. `check` sees each part, and refuses
/// or changes it.
template <class Value>
CLI::Option* add_list(CLI::App& app, const std::string& names, std::vector<Value>& values,
                      const std::string& description, const CLI::Validator& check = {}) {
  const std::string option = names.substr(0, names.find(','));
  const std::function<void(const std::vector<std::string>&)> take =
      [&values, option, check](const std::vector<std::string>& texts) {
        values.clear();
        for (std::string part : parts_of(texts)) {
          if (part.empty()) throw CLI::ValidationError(option, "something in the list is empty");
          if (const std::string problem = check(part); !problem.empty())
            throw CLI::ValidationError(option, problem);
          Value value = {};
          if constexpr (std::is_integral_v<Value>)
            value = to_whole<Value>(part).value_or(0);  // `check` has seen that it is one
          else
            value = part;
          if (std::find(values.begin(), values.end(), value) != values.end())
            throw CLI::ValidationError(option, fmt::format("{} is given twice", in_short(part)));
          values.push_back(std::move(value));
        }
      };
  CLI::Option* added = app.add_option_function<std::vector<std::string>>(names, take, description);
  std::vector<std::string> defaults;
  for (const Value& value : values) {
    if constexpr (std::is_integral_v<Value>)
      defaults.push_back(std::to_string(value));
    else
      defaults.push_back(std::string(value));
  }
  if (!defaults.empty()) added->default_str(fmt::format("{}", fmt::join(defaults, ",")));
  return added;
}

}  // namespace examples
