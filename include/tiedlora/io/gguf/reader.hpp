// Reads numbers, texts and values of a GGUF file one after the other, each checked against what is left.
#pragma once

#include <cstddef>      // byte, size_t
#include <cstdint>      // uint32_t, uint64_t
#include <cstring>      // memcpy
#include <optional>     // optional
#include <span>         // span
#include <string_view>  // string_view

#include "../../views/config.hpp"
#include "types.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace gguf {
namespace detail {

/// Reads a file from its start. What is not there stops it; `failed()` must be looked at.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  bool failed() const { return failed_; }
  std::size_t position() const { return position_; }
  std::uint64_t remaining() const { return bytes_.size() - position_; }

  std::span<const std::byte> take(std::uint64_t size) {
    if (failed_ || size > remaining()) {
      failed_ = true;
      return {};
    }
    const auto result = bytes_.subspan(position_, static_cast<std::size_t>(size));
    position_ += result.size();
    return result;
  }
  template <class T>
  T number() {
    T result = 0;
    const auto from = take(sizeof result);
    if (!failed_) std::memcpy(&result, from.data(), sizeof result);
    return result;
  }
  std::string_view text() {
    const auto characters = take(number<std::uint64_t>());
    return {reinterpret_cast<const char*>(characters.data()), characters.size()};
  }

  /// Of a type and, for arrays, of their elements' type. Nothing for types that GGUF does not have and for
  /// arrays of arrays, which llama.cpp refuses as well.
  std::optional<Value> value() {
    Value result;
    result.type = result.element = ValueType{number<std::uint32_t>()};
    if (result.type == ValueType::array) {
      result.element = ValueType{number<std::uint32_t>()};
      const auto count = number<std::uint64_t>();
      const std::size_t size = size_of(result.element);
      if (failed_ || size == 0) return std::nullopt;
      if (count > remaining() / size) {
        failed_ = true;
        return std::nullopt;
      }
      result.count = static_cast<Index>(count);
      const std::size_t begin = position_;
      if (result.element == ValueType::text)
        for (std::uint64_t i = 0; i < count && !failed_; ++i) text();
      else
        take(count * size);
      result.bytes = bytes_.subspan(begin, position_ - begin);
    } else if (result.type == ValueType::text) {
      result.bytes = take(number<std::uint64_t>());
    } else {
      const std::size_t size = size_of(result.type);
      if (size == 0) return std::nullopt;
      result.bytes = take(size);
    }
    return result;
  }

 private:
  // Bytes that an element takes at least; 0 for what cannot be one.
  static std::size_t size_of(ValueType type) {
    switch (type) {
      case ValueType::u8:
      case ValueType::i8:
      case ValueType::boolean:
        return 1;
      case ValueType::u16:
      case ValueType::i16:
        return 2;
      case ValueType::u32:
      case ValueType::i32:
      case ValueType::f32:
        return 4;
      case ValueType::u64:
      case ValueType::i64:
      case ValueType::f64:
      case ValueType::text:
        return 8;
      case ValueType::array:
        break;
    }
    return 0;
  }

  std::span<const std::byte> bytes_;
  std::size_t position_ = 0;
  bool failed_ = false;
};

}  // namespace detail
}  // namespace gguf
TIEDLORA_END_NAMESPACE
