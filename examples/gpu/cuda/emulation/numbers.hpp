// CUDA's two types of 16 bits and its vectors, for a host's compiler.
#pragma once

#include <bit>      // bit_cast
#include <cstdint>  // uint16_t, uint32_t

struct alignas(8) float2 {
  float x, y;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }

namespace cuda_emulation {

/// To the nearest, ties to even.
inline std::uint16_t to_bfloat16(float value) {
  const unsigned bits = __float_as_uint(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>(bits >> 16 | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
inline float from_bfloat16(std::uint16_t bits) { return __uint_as_float(static_cast<unsigned>(bits) << 16); }

inline std::uint16_t to_half(float value) {
  const unsigned bits = __float_as_uint(value), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  unsigned result;
  if (magnitude > 0x7f800000u)
    result = 0x7e00u;
  else if (magnitude >= 0x47800000u)  // 65536: an infinity
    result = 0x7c00u;
  else if (magnitude < 0x38800000u)  // below the smallest normal one an addition rounds
    result = __float_as_uint(__uint_as_float(magnitude) + 0.5f) - __float_as_uint(0.5f);
  else
    result = (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
  return static_cast<std::uint16_t>(sign | result);
}
inline float from_half(std::uint16_t bits) {
  const unsigned sign = (bits & 0x8000u) << 16, exponent = bits >> 10 & 31u, fraction = bits & 0x3ffu;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  return __uint_as_float(sign | (exponent == 31 ? 0x7f800000u : (exponent + 112u) << 23) | fraction << 13);
}

}  // namespace cuda_emulation

struct __half {
  __half() = default;
  explicit __half(float value) : bits(cuda_emulation::to_half(value)) {}
  explicit operator float() const { return cuda_emulation::from_half(bits); }
  std::uint16_t bits;
};
struct __nv_bfloat16 {
  __nv_bfloat16() = default;
  explicit __nv_bfloat16(float value) : bits(cuda_emulation::to_bfloat16(value)) {}
  explicit operator float() const { return cuda_emulation::from_bfloat16(bits); }
  std::uint16_t bits;
};
