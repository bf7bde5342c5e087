// GGUF files by hand, right or wrong.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <tiedlora/io/gguf/types.hpp>
#include <vector>

namespace tiedlora_test {

/// Bytes as they come: numbers little endian, texts with their length.
class GgufBytes {
 public:
  template <class T>
  GgufBytes& number(T value) {
    char raw[sizeof value];
    std::memcpy(raw, &value, sizeof value);
    bytes_.append(raw, sizeof raw);
    return *this;
  }
  GgufBytes& text(std::string_view value) {
    number(static_cast<std::uint64_t>(value.size()));
    bytes_ += value;
    return *this;
  }
  GgufBytes& raw(std::string_view value) {
    bytes_ += value;
    return *this;
  }

  GgufBytes& head(std::uint64_t tensors, std::uint64_t values, std::uint32_t version = 3) {
    return raw("GGUF").number(version).number(tensors).number(values);
  }
  template <class T>
  GgufBytes& value(std::string_view key, T content) {
    return text(key).number(tiedlora::gguf::value_type_of<T>).number(content);
  }
  GgufBytes& value(std::string_view key, std::string_view content) {
    return text(key).number(tiedlora::gguf::ValueType::text).text(content);
  }
  GgufBytes& tensor(std::string_view name, const std::vector<std::uint64_t>& shape, tiedlora::gguf::Type type,
                    std::uint64_t offset) {
    text(name).number(static_cast<std::uint32_t>(shape.size()));
    for (const std::uint64_t size : shape) number(size);
    return number(type).number(offset);
  }
  /// Zeros up to a multiple of the alignment.
  GgufBytes& pad(std::size_t alignment = 32) {
    bytes_.append((alignment - bytes_.size() % alignment) % alignment, '\0');
    return *this;
  }

  const std::string& str() const { return bytes_; }
  std::span<const std::byte> span() const { return std::as_bytes(std::span(bytes_.data(), bytes_.size())); }

 private:
  std::string bytes_;
};

}  // namespace tiedlora_test
