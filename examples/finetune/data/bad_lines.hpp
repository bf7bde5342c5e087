// Lines that are not examples: the first of them in full, the others counted.
#pragma once

#include <cstddef>      // size_t
#include <filesystem>   // path
#include <stdexcept>    // runtime_error
#include <string>       // string
#include <string_view>  // string_view

#include <fmt/format.h>

#include "record.hpp"
#include "shown.hpp"

namespace finetune {

class BadLines {
 public:
  static constexpr std::size_t most_shown = 5;

  /// `column`: 0 if it is the whole line that is wrong. `text`: what begins there, of which some is quoted.
  void add(const std::filesystem::path& path, std::size_t line, std::size_t column, std::string_view what,
           std::string_view text) {
    if (++count_ > most_shown) return;
    list_ += fmt::format("{}, line {}{}: {}\n    {}\n", quoted(path.string(), 300), line,
                         column > 0 ? fmt::format(", column {}", column) : "", escaped(what, 500),
                         escaped(text.substr(0, text.find('\n')), 80));
  }

  /// Whether more are counted only.
  bool is_full() const { return count_ >= most_shown; }

  /// Throws std::runtime_error with all of them. `lines`: how many there are, good or bad.
  void throw_if_any(std::size_t lines) const {
    if (count_ == 0) return;
    throw std::runtime_error(fmt::format(
        "{} of {} lines of the data {}:\n{}{}Each line must be one of these (other keys "
        "are "
        "ignored):\n{}",
        count_, lines, count_ == 1 ? "is not a valid example" : "are not valid examples", list_,
        count_ > most_shown ? fmt::format("and {} more.\n", count_ - most_shown) : "", accepted_forms));
  }

 private:
  std::size_t count_ = 0;
  std::string list_;
};

}  // namespace finetune
