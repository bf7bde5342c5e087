// The state of a training that continues later, in a safetensors file with a checksum.
#pragma once

#include <filesystem>        // path
#include <initializer_list>  // initializer_list
#include <map>               // map
#include <span>              // span
#include <string>            // string
#include <string_view>       // string_view
#include <utility>           // move
#include <vector>            // vector

#include <tiedlora/io/native/checksum.hpp>
#include <tiedlora/io/safetensors.hpp>

namespace finetune {

inline constexpr std::string_view checked_texts[] = {"finetune"};

/// Arrays of floats by their names, and a text. Throws tiedlora::Error.
struct NamedNumbers {
  const char* name;
  std::span<const float> numbers;
};
inline void save_checked(const std::filesystem::path& path, std::initializer_list<NamedNumbers> arrays,
                         const std::string& text = {}) {
  std::vector<tiedlora::safetensors::Entry> entries;
  for (const NamedNumbers& array : arrays)
    entries.push_back({.name = array.name,
                       .shape = {static_cast<tiedlora::Index>(array.numbers.size())},
                       .data = array.numbers.data()});
  std::map<std::string, std::string> metadata = {{"finetune", text}};
  metadata[tiedlora::detail::checksum_name] = tiedlora::detail::checksum_of(entries, metadata, checked_texts);
  tiedlora::detail::value_or_fail(tiedlora::safetensors::try_save_in_order(path, entries, metadata));
}

/// Throws tiedlora::Error where it cannot be read, and where its bytes are not those that were written.
inline tiedlora::safetensors::File open_checked(const std::filesystem::path& path) {
  tiedlora::safetensors::File file = tiedlora::safetensors::open(path);
  if (const tiedlora::Status whole = tiedlora::detail::try_check_checksum(file, checked_texts); !whole)
    throw tiedlora::Error(tiedlora::detail::in_quotes(path.string()) + " " + whole.error());
  return file;
}

}  // namespace finetune
