// The metadata of a GGUF file by key, with errors that say where what is wrong.
#pragma once

#include <filesystem>   // path
#include <stdexcept>    // runtime_error
#include <string>       // string
#include <string_view>  // string_view
#include <utility>      // forward

#include <fmt/format.h>
#include <tiedlora/io/gguf.hpp>

#include "config.hpp"

namespace llama {

/// Refers to an open file.
class GgufMetadata {
 public:
  GgufMetadata(const std::filesystem::path& path, const tiedlora::gguf::File& file)
      : path_(path), file_(file) {}

  const tiedlora::gguf::File& file() const { return file_; }
  bool has(const std::string& key) const { return file_.find_value(key) != nullptr; }
  /// Empty if there is none.
  std::string text(std::string_view key) const {
    const auto* value = file_.find_value(key);
    return value ? std::string(value->text().value_or("?")) : std::string();
  }
  double number(const std::string& key, double least, double most) const {
    const auto* value = file_.find_value(key);
    if (!value) fail("has no \"{}\"", key);
    const double result = value->number().value_or(0);
    if (!(result >= least && result <= most))
      fail("has {} = {}; a number from {} to {} is expected", key, result, least, most);
    return result;
  }
  Index count(const std::string& key, double most) const { return static_cast<Index>(number(key, 1, most)); }

  template <class... Parts>
  [[noreturn]] void fail(fmt::format_string<Parts...> text, Parts&&... parts) const {
    // Parts are names from the file.
    throw std::runtime_error(
        fmt::format("{} {}", tiedlora::detail::in_quotes(path_.string()),
                    tiedlora::detail::escaped(fmt::format(text, std::forward<Parts>(parts)...))));
  }

 private:
  const std::filesystem::path& path_;
  const tiedlora::gguf::File& file_;
};

}  // namespace llama
