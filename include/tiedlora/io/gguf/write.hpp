// Writing GGUF files.
#pragma once

#include <algorithm>    // sort, adjacent_find
#include <cstddef>      // byte, size_t
#include <cstdint>      // uint32_t, uint64_t
#include <filesystem>   // path
#include <functional>   // function
#include <span>         // span
#include <string>       // string
#include <string_view>  // string_view
#include <utility>      // pair
#include <variant>      // variant, visit
#include <vector>       // vector

#include "../../adapter/quote.hpp"
#include "../../adapter/result.hpp"
#include "../../views/config.hpp"
#include "../../views/error.hpp"
#include "../file.hpp"
#include "file.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace gguf {

/// A metadata value to write: a text, texts (a tokenizer's), a u32 or an f32.
using MetadataEntry =
    std::pair<std::string, std::variant<std::string, std::vector<std::string>, std::uint32_t, float>>;

/// A tensor to write.
struct Entry {
  std::string name = {};          ///< of at most max_tensor_name bytes
  Type type = Type::F32;          ///< how the values are stored
  std::vector<Index> shape = {};  ///< the fastest first: {in, out} for a weight
  /// Called once, when its turn comes, so that a file's tensors need not be in memory at once. What it gives
  /// stays valid until the next entry's is called.
  std::function<Result<std::span<const std::byte>>()> data = {};
};

namespace detail {
template <class T>
void append_number(std::string& out, T number) {
  char bytes[sizeof number];
  std::memcpy(bytes, &number, sizeof number);
  out.append(bytes, sizeof number);
}
inline void append_text(std::string& out, std::string_view text) {
  append_number(out, static_cast<std::uint64_t>(text.size()));
  out += text;
}
inline std::uint64_t padded(std::uint64_t size) {
  return (size + default_alignment - 1) / default_alignment * default_alignment;
}

inline Status try_check_names(std::span<const Entry> entries) {
  std::vector<std::string_view> names;
  for (const Entry& entry : entries) {
    if (entry.name.size() > max_tensor_name)
      return Failure{message("the tensor name ", in_quotes(entry.name), " has ", entry.name.size(),
                             " bytes; GGUF allows ", max_tensor_name)};
    if (!tensor_bytes(entry.type, entry.shape) || entry.shape.size() > max_tensor_dimensions)
      return Failure{message("tensor ", in_quotes(entry.name),
                             " has a shape that GGUF cannot express or whose size overflows")};
    names.push_back(entry.name);
  }
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) return Failure{message("two tensors are named ", in_quotes(*twice))};
  return success();
}

/// Everything before the data.
inline std::string header(std::span<const MetadataEntry> metadata, std::span<const Entry> entries) {
  std::string out(magic);
  append_number(out, version);
  append_number(out, static_cast<std::uint64_t>(entries.size()));
  append_number(out, static_cast<std::uint64_t>(metadata.size()));
  for (const auto& [key, value] : metadata) {
    append_text(out, key);
    std::visit(
        [&out]<class T>(const T& content) {
          if constexpr (std::is_same_v<T, std::vector<std::string>>) {
            append_number(out, ValueType::array);
            append_number(out, ValueType::text);
            append_number(out, static_cast<std::uint64_t>(content.size()));
            for (const std::string& text : content) append_text(out, text);
          } else {
            append_number(out, value_type_of<T>);
            if constexpr (std::is_same_v<T, std::string>)
              append_text(out, content);
            else
              append_number(out, content);
          }
        },
        value);
  }
  std::uint64_t offset = 0;
  for (const Entry& entry : entries) {
    append_text(out, entry.name);
    append_number(out, static_cast<std::uint32_t>(entry.shape.size()));
    for (const Index size : entry.shape) append_number(out, static_cast<std::uint64_t>(size));
    append_number(out, entry.type);
    append_number(out, offset);
    offset += padded(tensor_bytes(entry.type, entry.shape).value_or(0));
  }
  out.resize(static_cast<std::size_t>(padded(out.size())));
  return out;
}

}  // namespace detail

/// Writes a file of version 3 as AtomicFile does, tensors in the order of the entries.
inline Status try_save(const std::filesystem::path& path, std::span<const MetadataEntry> metadata,
                       std::span<const Entry> entries) {
  const auto named = [&path](const Failure& failure) {
    return Failure{detail::message(detail::in_quotes(detail::utf8(path)), ": ", failure.message)};
  };
  if (Status done = detail::try_check_names(entries); !done) return named(done.failure());
  Result<AtomicFile> file = AtomicFile::try_create(path);
  if (!file) return file.failure();
  if (Status done = file->try_append(detail::header(metadata, entries)); !done) return done;
  for (const Entry& entry : entries) {
    const auto data = entry.data();
    if (!data) return named(data.failure());
    const std::uint64_t size = tensor_bytes(entry.type, entry.shape).value_or(0);
    if (data->size() != size)
      return named(Failure{detail::message("tensor ", detail::in_quotes(entry.name), " takes ", size,
                                           " bytes, but ", data->size(), " were given")});
    if (Status done = file->try_append(*data); !done) return done;
    const std::string padding(static_cast<std::size_t>(detail::padded(size) - size), '\0');
    if (Status done = file->try_append(padding); !done) return done;
  }
  return file->try_commit();
}

}  // namespace gguf
TIEDLORA_END_NAMESPACE
