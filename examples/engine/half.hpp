// Half-precision numbers as bits: what GGUF's blocks and the KV cache hold.
#pragma once

#include <bit>      // bit_cast
#include <cstdint>  // uint16_t, uint32_t

#if defined(__F16C__)
#include <immintrin.h>
#endif

namespace engine {

using Half = std::uint16_t;

/// Exact.
inline float to_float(Half half) {
#if defined(__F16C__)
  return _cvtsh_ss(half);
#else
  const std::uint32_t sign = (half & 0x8000u) << 16, exponent = half >> 10 & 31u, fraction = half & 0x3ffu;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | fraction << 13);
  if (exponent == 0) {  // zero or subnormal: fraction · 2^-24
    const float value = static_cast<float>(fraction) * 0x1p-24f;
    return sign ? -value : value;
  }
  return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
#endif
}

/// To nearest, ties to even; what is too large becomes infinite.
inline Half to_half(float value) {
#if defined(__F16C__)
  return static_cast<Half>(_mm_cvtsi128_si32(_mm_cvtps_ph(_mm_set_ss(value), _MM_FROUND_TO_NEAREST_INT)));
#else
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value), magnitude = bits & 0x7fffffffu;
  const auto sign = static_cast<Half>(bits >> 16 & 0x8000u);
  if (magnitude > 0x7f800000u) return static_cast<Half>(sign | 0x7e00u);  // NaN
  if (magnitude >= 0x477ff000u) return static_cast<Half>(sign | 0x7c00u);
  if (magnitude < 0x38800000u) {  // subnormal: adding 2^-1 leaves value · 2^24, rounded, in the lowest bits
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<Half>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f000000u));
  }
  const std::uint32_t odd = magnitude >> 13 & 1u;
  return static_cast<Half>(sign | (magnitude - 0x38000000u + 0xfffu + odd) >> 13);
#endif
}

}  // namespace engine
