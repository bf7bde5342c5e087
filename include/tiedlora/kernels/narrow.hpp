// Sixteen-bit floats in memory, 32-bit floats in registers: loads widen exactly, stores round to nearest
// even.
#pragma once

#include <Eigen/Core>  // half, bfloat16

#include <bit>      // bit_cast
#include <cstdint>  // uint16_t, uint32_t

#include "vector.hpp"

#if defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace tiedlora {
inline namespace v1 {
namespace kernels {
inline namespace TIEDLORA_ISA {

using Bits = std::uint32_t __attribute__((vector_size(lanes * sizeof(std::uint32_t))));
using NarrowBits = std::uint16_t __attribute__((vector_size(lanes * sizeof(std::uint16_t))));

/// `mask` ? a : b, lane by lane; a mask's lanes are all ones or all zeros.
TIEDLORA_INLINE Bits select(Bits mask, Bits a, Bits b) { return (mask & a) | (~mask & b); }
TIEDLORA_INLINE Bits greater(Bits a, std::uint32_t b) { return std::bit_cast<Bits>(a > b); }

/// Sixteen bits to thirty-two and back, which keeps the lower half. GCC 12 takes many instructions to convert
/// vectors of integers.
#if defined(__AVX512F__)
TIEDLORA_INLINE Bits to_32_bits(NarrowBits n) {
  return std::bit_cast<Bits>(_mm512_maskz_cvtepu16_epi32(0xffff, std::bit_cast<__m256i>(n)));
}
TIEDLORA_INLINE NarrowBits to_16_bits(Bits b) {
  return std::bit_cast<NarrowBits>(_mm512_maskz_cvtepi32_epi16(0xffff, std::bit_cast<__m512i>(b)));
}
#elif defined(__AVX2__)
TIEDLORA_INLINE Bits to_32_bits(NarrowBits n) {
  return std::bit_cast<Bits>(_mm256_cvtepu16_epi32(std::bit_cast<__m128i>(n)));
}
TIEDLORA_INLINE NarrowBits to_16_bits(Bits b) {
  const __m256i lower = std::bit_cast<__m256i>(b & 0xffffu);
  return std::bit_cast<NarrowBits>(
      _mm_packus_epi32(_mm256_castsi256_si128(lower), _mm256_extracti128_si256(lower, 1)));
}
#else
TIEDLORA_INLINE Bits to_32_bits(NarrowBits n) { return __builtin_convertvector(n, Bits); }
TIEDLORA_INLINE NarrowBits to_16_bits(Bits b) { return __builtin_convertvector(b, NarrowBits); }
#endif

// bfloat16: the upper half of a float.
TIEDLORA_INLINE Vector widen(NarrowBits n, Eigen::bfloat16) {
  return std::bit_cast<Vector>(to_32_bits(n) << 16);
}
TIEDLORA_INLINE NarrowBits narrow(Vector v, Eigen::bfloat16) {
  const Bits bits = std::bit_cast<Bits>(v);
  const Bits rounded = bits + (0x7fffu + ((bits >> 16) & 1u));
  const Bits quiet = bits | 0x400000u;  // a NaN must not be rounded up to infinity or down to a number
  return to_16_bits(select(greater(bits & 0x7fffffffu, 0x7f800000u), quiet, rounded) >> 16);
}

#if defined(__AVX512F__)
TIEDLORA_INLINE Vector widen(NarrowBits n, Eigen::half) {
  return _mm512_maskz_cvtph_ps(0xffff, std::bit_cast<__m256i>(n));
}
TIEDLORA_INLINE NarrowBits narrow(Vector v, Eigen::half) {
  return std::bit_cast<NarrowBits>(_mm512_maskz_cvtps_ph(0xffff, v, _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(__AVX__) && defined(__F16C__)
TIEDLORA_INLINE Vector widen(NarrowBits n, Eigen::half) { return _mm256_cvtph_ps(std::bit_cast<__m128i>(n)); }
TIEDLORA_INLINE NarrowBits narrow(Vector v, Eigen::half) {
  return std::bit_cast<NarrowBits>(_mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(__aarch64__)
TIEDLORA_INLINE Vector widen(NarrowBits n, Eigen::half) {
  return std::bit_cast<Vector>(vcvt_f32_f16(std::bit_cast<float16x4_t>(n)));
}
TIEDLORA_INLINE NarrowBits narrow(Vector v, Eigen::half) {
  return std::bit_cast<NarrowBits>(vcvt_f16_f32(std::bit_cast<float32x4_t>(v)));
}
#else
// half by integers: 5 bits of exponent with bias 15 and 10 of mantissa, against 8 with bias 127 and 23.
TIEDLORA_INLINE Vector widen(NarrowBits n, Eigen::half) {
  const Bits bits = to_32_bits(n), magnitude = (bits & 0x7fffu) << 13;
  // The product with 2^112 moves the bias, of subnormal numbers too.
  const Vector scaled = std::bit_cast<Vector>(magnitude) * 0x1p112f;
  const Bits special = select(greater(magnitude, (0x7c00u << 13) - 1), Bits{} + 0x7f800000u, Bits{});
  return std::bit_cast<Vector>(std::bit_cast<Bits>(scaled) | special | ((bits & 0x8000u) << 16));
}
TIEDLORA_INLINE NarrowBits narrow(Vector v, Eigen::half) {
  const Bits bits = std::bit_cast<Bits>(v), magnitude = bits & 0x7fffffffu;
  const Bits normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  // Below 2^-14 halves lie 2^-24 apart, as floats do from 0.5 on: adding 0.5 rounds there.
  const Bits small = std::bit_cast<Bits>(std::bit_cast<Vector>(magnitude) + 0.5f) - 0x3f000000u;
  const Bits large = Bits{} + 0x7c00u;  // from 65520 on
  const Bits nan = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
  Bits result = select(greater(magnitude, (113u << 23) - 1), normal, small);
  result = select(greater(magnitude, 0x477fefffu), large, result);
  result = select(greater(magnitude, 0x7f800000u), nan, result);
  return to_16_bits(result | ((bits >> 16) & 0x8000u));
}
#endif

template <class T>
  requires(sizeof(T) == 2)
TIEDLORA_INLINE Vector load(const T* p) {
  NarrowBits bits;
  std::memcpy(&bits, p, sizeof bits);
  return widen(bits, T());
}
template <class T>
  requires(sizeof(T) == 2)
TIEDLORA_INLINE void store(T* p, Vector v) {
  const NarrowBits bits = narrow(v, T());
  std::memcpy(static_cast<void*>(p), &bits, sizeof bits);
}

template <class T>
  requires(sizeof(T) == 2)
TIEDLORA_INLINE Vector load_part(const T* p, Index n) {
  NarrowBits bits = {};
  std::uint16_t buffer[lanes] = {};
  copy_part(reinterpret_cast<const std::uint16_t*>(p), buffer, n);
  std::memcpy(&bits, buffer, sizeof bits);
  return widen(bits, T());
}
template <class T>
  requires(sizeof(T) == 2)
TIEDLORA_INLINE void store_part(T* p, Vector v, Index n) {
  T buffer[lanes];
  store(buffer, v);
  copy_part(buffer, p, n);
}

}  // namespace TIEDLORA_ISA
}  // namespace kernels
}  // namespace v1
}  // namespace tiedlora
