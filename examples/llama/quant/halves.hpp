// Rows of 16-bit floats as floats. Every F16 and BF16 is a float, so that nothing is rounded.
#pragma once

#include <bit>      // bit_cast
#include <cstddef>  // byte
#include <cstdint>  // int32_t, uint16_t, uint32_t
#include <cstring>  // memcpy

#include <llama/config.hpp>  // Index
#include <llama/half.hpp>    // Half, to_float

#include "bytes.hpp"  // Words, Ints, Floats, load_bytes

namespace llama::quant {

inline float half_at(const std::byte* from) {
  Half half;
  std::memcpy(&half, from, sizeof half);
  return to_float(half);
}
inline float bfloat16_at(const std::byte* from) {
  std::uint16_t upper;
  std::memcpy(&upper, from, sizeof upper);
  return std::bit_cast<float>(static_cast<std::uint32_t>(upper) << 16);
}

// Each of these converts `at_once` of them.

#if defined(__AVX512F__)

inline constexpr Index at_once = 16;

inline void store_f16(const std::byte* from, float* out) {
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  _mm512_storeu_ps(out, _mm512_maskz_cvtph_ps(all, halves));
}
inline void store_bf16(const std::byte* from, float* out) {
  const __m256i upper = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  _mm512_storeu_si512(out, _mm512_maskz_slli_epi32(all, _mm512_maskz_cvtepu16_epi32(all, upper), 16));
}

#elif defined(__AVX2__) && defined(__F16C__)

inline constexpr Index at_once = 8;

inline void store_f16(const std::byte* from, float* out) {
  _mm256_storeu_ps(out, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
}
inline void store_bf16(const std::byte* from, float* out) {
  const __m128i upper = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_slli_epi32(_mm256_cvtepu16_epi32(upper), 16));
}

#else

inline constexpr Index at_once = 8;

/// Eight words, each the upper half of an integer.
struct UpperHalves {
  Ints first, second;

  explicit UpperHalves(const std::byte* from) {
    const Words words = reinterpret_cast<Words>(load_bytes(from)), zero = {};
    first = reinterpret_cast<Ints>(__builtin_shufflevector(zero, words, 0, 8, 1, 9, 2, 10, 3, 11));
    second = reinterpret_cast<Ints>(__builtin_shufflevector(zero, words, 4, 12, 5, 13, 6, 14, 7, 15));
  }
};

/// Of halves that are the upper 16 bits of integers. A float has the same fields, with 8 bits for the
/// exponent instead of 5, counted from another origin: 112 lower.
inline Floats to_floats(Ints halves) {
  const Ints magnitude = (halves >> 3) & 0x0fffe000;
  const Ints normal = magnitude + (112 << 23);
  // Infinities and NaNs have the highest exponent, which moves up once more.
  const Ints special = (magnitude >= 31 << 23) & (112 << 23);
  // Those below 2^-14 have no leading one. As the last bits of a float in [2^-14, 2^-13), from which 2^-14 is
  // taken: exact, and the leading one is found.
  const Floats small = reinterpret_cast<Floats>(magnitude + (113 << 23)) - 0x1p-14f;
  const Ints is_small = magnitude < 1 << 23;
  const Ints sign = halves & static_cast<std::int32_t>(0x80000000);
  return reinterpret_cast<Floats>(sign | (is_small & reinterpret_cast<Ints>(small)) |
                                  (~is_small & (normal + special)));
}

inline void store_f16(const std::byte* from, float* out) {
  const UpperHalves halves(from);
  const Floats eight[2] = {to_floats(halves.first), to_floats(halves.second)};
  std::memcpy(out, eight, sizeof eight);
}
inline void store_bf16(const std::byte* from, float* out) {
  const UpperHalves eight(from);
  std::memcpy(out, &eight, sizeof eight);
}

#endif

inline void dequantize_f16(const std::byte* from, Index count, float* out) {
  for (; count >= at_once; count -= at_once, from += 2 * at_once, out += at_once) store_f16(from, out);
  for (; count > 0; --count, from += 2, ++out) *out = half_at(from);
}

/// A BF16 is the upper half of a float.
inline void dequantize_bf16(const std::byte* from, Index count, float* out) {
  for (; count >= at_once; count -= at_once, from += 2 * at_once, out += at_once) store_bf16(from, out);
  for (; count > 0; --count, from += 2, ++out) *out = bfloat16_at(from);
}

}  // namespace llama::quant
