// The types in which GGUF files hold weights, and how many bytes they take.
#pragma once

#include <array>        // array
#include <cstddef>      // size_t
#include <cstdint>      // uint32_t
#include <optional>     // optional
#include <string>       // string, to_string
#include <string_view>  // string_view

#include <llama/config.hpp>            // Index, Error
#include <tiedlora/io/gguf/types.hpp>  // find_type

namespace llama {

/// Each is GGUF's number for it.
enum class NumberType : std::uint32_t {
  F32 = 0,
  F16 = 1,
  Q4_0 = 2,
  Q4_1 = 3,
  Q5_0 = 6,
  Q5_1 = 7,
  Q8_0 = 8,
  Q4_K = 12,
  Q5_K = 13,
  Q6_K = 14,
  BF16 = 30,
};

/// Weights lie in blocks; a row is a whole number of blocks.
struct NumberTypeInfo {
  NumberType type;
  std::string_view name;
  Index block;  ///< weights of a block
  Index bytes;  ///< of a block
};

/// As tiedlora::gguf has them.
inline constexpr std::array<NumberTypeInfo, 11> number_types = [] {
  using enum NumberType;
  std::array<NumberTypeInfo, 11> types = {};
  std::size_t n = 0;
  for (const NumberType type : {F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K}) {
    const auto& known = *tiedlora::gguf::find_type(tiedlora::gguf::Type{static_cast<std::uint32_t>(type)});
    types[n++] = {type, known.name, known.block, known.bytes};
  }
  return types;
}();

/// Nothing for a type that is not read here.
constexpr std::optional<NumberType> number_type_of(std::uint32_t gguf_number) {
  for (const NumberTypeInfo& info : number_types)
    if (static_cast<std::uint32_t>(info.type) == gguf_number) return info.type;
  return std::nullopt;
}

constexpr const NumberTypeInfo& info(NumberType type) {
  std::size_t i = 0;
  while (number_types[i].type != type) ++i;
  return number_types[i];
}

/// Throws tiedlora::Error if rows of `width` weights are not whole blocks; `tensor` is whose rows they are.
inline void check_width(NumberType type, Index width, const std::string& tensor) {
  const auto& [_, name, block, bytes] = info(type);
  if (width > 0 && width % block == 0) return;
  throw tiedlora::Error("llama: \"" + tensor + "\" has rows of " + std::to_string(width) + " weights, but " +
                        std::string(name) + " has them in blocks of " + std::to_string(block) +
                        "; store it in F16, BF16 or another type whose blocks divide its rows");
}

/// Bytes of `count` weights, a whole number of blocks.
constexpr Index bytes_of(NumberType type, Index count) { return count / info(type).block * info(type).bytes; }

}  // namespace llama
