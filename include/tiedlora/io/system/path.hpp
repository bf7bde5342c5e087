// Paths as text: UTF-8 in messages and in files, whatever the system's own encoding is.
#pragma once

#include <filesystem>   // path
#include <string>       // string, u8string
#include <string_view>  // string_view

#include "../../adapter/quote.hpp"
#include "../../views/config.hpp"

TIEDLORA_BEGIN_NAMESPACE

namespace detail {

/// A path's bytes on POSIX, UTF-8 on Windows, where `path.string()` may be of the system's code page.
inline std::string utf8(const std::filesystem::path& path) {
  const std::u8string text = path.u8string();
  return {text.begin(), text.end()};
}

/// A path out of a file, such as the name of a shard in an index.
inline std::filesystem::path path_of_utf8(std::string_view text) {
  return {std::u8string(text.begin(), text.end())};
}

}  // namespace detail

TIEDLORA_END_NAMESPACE
