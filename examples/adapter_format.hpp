// Which of the three formats an adapter on the disk has.
#pragma once

#include <cstdint>     // uint8_t
#include <filesystem>  // is_directory, path
#include <fstream>     // ifstream
#include <string>      // string

#include <tiedlora/io/gguf.hpp>  // magic

namespace examples {

enum class AdapterFormat : std::uint8_t { native, peft, gguf };

/// By what it is, not by its name; what cannot be read counts as native, whose reader says why.
inline AdapterFormat format_of(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) return AdapterFormat::peft;
  std::string begin(4, '\0');
  std::ifstream(path, std::ios::binary).read(begin.data(), 4);
  return begin == tiedlora::gguf::magic ? AdapterFormat::gguf : AdapterFormat::native;
}

}  // namespace examples
