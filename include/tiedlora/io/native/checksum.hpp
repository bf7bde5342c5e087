// The checksum of a native file: XXH64, seed 0, of the strings "tiedlora", "tiedlora_checkpoint" and
// "tiedlora_source" of its metadata and of all bytes after its header, one after the other; 16 hexadecimal
// digits in __metadata__["tiedlora_checksum"]. Older files without one still load.
#pragma once

#include <cstddef>      // byte, size_t
#include <cstdint>      // uint64_t
#include <map>          // map
#include <span>         // span
#include <string>       // string
#include <string_view>  // string_view

#include "../../adapter/hash.hpp"
#include "../../adapter/quote.hpp"
#include "../../adapter/result.hpp"
#include "../../views/config.hpp"
#include "../../views/error.hpp"
#include "../safetensors/file.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace detail {
inline constexpr const char* checksum_name = "tiedlora_checksum";

/// Which strings of the metadata count; whoever copies a file may add others.
inline constexpr std::string_view checked_texts[] = {"tiedlora", "tiedlora_checkpoint", "tiedlora_source"};

/// Of what the metadata say; to be followed by the data.
inline Xxh64 begin_checksum(const std::map<std::string, std::string>& metadata,
                            std::span<const std::string_view> texts) {
  Xxh64 hash;
  for (const std::string_view name : texts)
    if (const auto text = metadata.find(std::string(name)); text != metadata.end())
      hash.add(std::as_bytes(std::span(std::string_view(text->second))));
  return hash;
}

inline std::string checksum_text(std::uint64_t value) {
  std::string text;
  for (int shift = 60; shift >= 0; shift -= 4) text += "0123456789abcdef"[value >> shift & 15];
  return text;
}

/// For the metadata of a file that will hold these entries.
inline std::string checksum_of(std::span<const safetensors::Entry> entries,
                               const std::map<std::string, std::string>& metadata,
                               std::span<const std::string_view> texts = checked_texts) {
  Xxh64 hash = begin_checksum(metadata, texts);
  for (const safetensors::Entry& entry : entries)
    hash.add({static_cast<const std::byte*>(entry.data), safetensors::bytes_of(entry)});
  return checksum_text(hash.value());
}

/// A Failure, to be read after the file's name, if it is not as it was written. Reads all of it.
inline Status try_check_checksum(const safetensors::File& file,
                                 std::span<const std::string_view> texts = checked_texts) {
  const auto written = file.metadata().find(checksum_name);
  if (written == file.metadata().end()) return success();
  Xxh64 hash = begin_checksum(file.metadata(), texts);
  for (const safetensors::Tensor& tensor : file.tensors()) hash.add(tensor.bytes);
  const std::string found = checksum_text(hash.value());
  if (found == written->second) return success();
  return Failure{message(
      "is damaged: its checksum is ", found, ", but it was written with ", in_quotes(written->second, 16),
      " (bits that flipped on a disk or in transfer?); fetch it again",
      file.metadata().contains("tiedlora_checkpoint") ? " or go back to an older checkpoint" : "")};
}

}  // namespace detail
TIEDLORA_END_NAMESPACE
