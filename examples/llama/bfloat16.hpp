// Values as bfloat16, for products that round their operands and accumulate in float.
#pragma once

#include <bit>      // bit_cast
#include <cstdint>  // uint16_t, uint32_t

#include "config.hpp"

namespace llama {

/// The upper half of a float's bits.
struct Bfloat16 {
  std::uint16_t bits = 0;
};

/// Rounded to nearest, ties to even; a NaN stays one.
inline Bfloat16 to_bfloat16(float number) {
  const auto bits = std::bit_cast<std::uint32_t>(number);
  const std::uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  const bool nan = (bits & 0x7fffffff) > 0x7f800000;
  return {static_cast<std::uint16_t>(nan ? 0x7fc0u : rounded)};
}

inline void to_bfloat16(const float* from, Index count, Bfloat16* to) {
  for (Index i = 0; i < count; ++i) to[i] = to_bfloat16(from[i]);
}

}  // namespace llama
