// Sixteen-bit floats in memory, 32-bit floats in registers: loads widen exactly, stores round to nearest
// even.
#pragma once

#include <bit>          // bit_cast
#include <cstdint>      // uint16_t, uint32_t
#include <type_traits>  // integral_constant

#include "../../views/scalar.hpp"
#include "simd.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace cpu {
inline namespace TIEDLORA_ISA {

using Bits = std::uint32_t __attribute__((vector_size(lanes * sizeof(std::uint32_t))));
using NarrowBits = std::uint16_t __attribute__((vector_size(lanes * sizeof(std::uint16_t))));

template <Format format>
using FormatConstant = std::integral_constant<Format, format>;
using Binary16 = FormatConstant<Format::binary16>;
using Bfloat16 = FormatConstant<Format::bfloat16>;
template <class T>
using FormatOf = FormatConstant<ScalarTraits<T>::format>;

using Mask = std::int32_t __attribute__((vector_size(lanes * sizeof(std::int32_t))));

/// a > b, lane by lane, for values below 2^31: instruction sets compare signed integers.
TIEDLORA_INLINE Mask greater(Bits a, std::int32_t b) { return std::bit_cast<Mask>(a) > b; }

/// 16 bits to 32 and back, for values below 2^16. GCC 12 takes many instructions to convert vectors of
/// integers.
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
  const __m256i bits = std::bit_cast<__m256i>(b);
  return std::bit_cast<NarrowBits>(
      _mm_packus_epi32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1)));
}
#else
TIEDLORA_INLINE Bits to_32_bits(NarrowBits n) { return __builtin_convertvector(n, Bits); }
TIEDLORA_INLINE NarrowBits to_16_bits(Bits b) { return __builtin_convertvector(b, NarrowBits); }
#endif

// bfloat16: the upper half of a float.
TIEDLORA_INLINE Vector widen(NarrowBits n, Bfloat16) { return std::bit_cast<Vector>(to_32_bits(n) << 16); }
#if defined(__AVX512BF16__)
/// Subnormal values, below 2^-126, become zero, as the instruction flushes them.
TIEDLORA_INLINE NarrowBits narrow(Vector v, Bfloat16) {
  return std::bit_cast<NarrowBits>(_mm512_cvtneps_pbh(v));
}
#else
TIEDLORA_INLINE NarrowBits narrow(Vector v, Bfloat16) {
  const Bits bits = std::bit_cast<Bits>(v);
  const Bits rounded = bits + (0x7fffu + ((bits >> 16) & 1u));
  const Bits quiet = bits | 0x400000u;  // a NaN must not be rounded up to infinity or down to a number
  const Mask is_nan = greater(bits & 0x7fffffffu, 0x7f800000);
  return to_16_bits((is_nan ? quiet : rounded) >> 16);
}
#endif

#if defined(__AVX512F__)
TIEDLORA_INLINE Vector widen(NarrowBits n, Binary16) {
  return _mm512_maskz_cvtph_ps(0xffff, std::bit_cast<__m256i>(n));
}
TIEDLORA_INLINE NarrowBits narrow(Vector v, Binary16) {
  return std::bit_cast<NarrowBits>(_mm512_maskz_cvtps_ph(0xffff, v, _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(__AVX__) && defined(__F16C__)
TIEDLORA_INLINE Vector widen(NarrowBits n, Binary16) { return _mm256_cvtph_ps(std::bit_cast<__m128i>(n)); }
TIEDLORA_INLINE NarrowBits narrow(Vector v, Binary16) {
  return std::bit_cast<NarrowBits>(_mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(__aarch64__)
TIEDLORA_INLINE Vector widen(NarrowBits n, Binary16) {
  return std::bit_cast<Vector>(vcvt_f32_f16(std::bit_cast<float16x4_t>(n)));
}
TIEDLORA_INLINE NarrowBits narrow(Vector v, Binary16) {
  return std::bit_cast<NarrowBits>(vcvt_f16_f32(std::bit_cast<float32x4_t>(v)));
}
#else
// half in integer arithmetic: 5 bits of exponent with bias 15 and 10 of mantissa, against 8 with bias 127 and
// 23.
TIEDLORA_INLINE Vector widen(NarrowBits n, Binary16) {
  const Bits bits = to_32_bits(n), magnitude = (bits & 0x7fffu) << 13;
  // Subnormal halves are normal floats once 2^-14 was added with the bias and is taken off again: no operand
  // is a subnormal float, which a host may have told its threads to read as zero.
  const Vector subnormal = std::bit_cast<Vector>(magnitude + (113u << 23)) - 0x1p-14f;
  const Bits moved =
      greater(magnitude, (0x400 << 13) - 1) ? magnitude + (112u << 23) : std::bit_cast<Bits>(subnormal);
  const Bits special = greater(magnitude, (0x7c00 << 13) - 1) ? Bits{} + 0x7f800000u : Bits{};
  return std::bit_cast<Vector>(moved | special | ((bits & 0x8000u) << 16));
}
TIEDLORA_INLINE NarrowBits narrow(Vector v, Binary16) {
  const Bits bits = std::bit_cast<Bits>(v), magnitude = bits & 0x7fffffffu;
  const Bits normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  // Below 2^-14 values of half are spaced 2^-24 apart, as floats are from 0.5 on: adding 0.5 rounds there.
  const Bits small = std::bit_cast<Bits>(std::bit_cast<Vector>(magnitude) + 0.5f) - 0x3f000000u;
  const Bits large = Bits{} + 0x7c00u;  // from 65520 on
  const Bits nan = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
  Bits result = greater(magnitude, (113 << 23) - 1) ? normal : small;
  result = greater(magnitude, 0x477fefff) ? large : result;
  result = greater(magnitude, 0x7f800000) ? nan : result;
  return to_16_bits(result | ((bits >> 16) & 0x8000u));
}
#endif

template <class T>
  requires(sizeof(T) == 2)
TIEDLORA_INLINE Vector load(const T* p) {
  return widen(read<NarrowBits>(p), FormatOf<T>());
}
template <class T>
  requires(sizeof(T) == 2)
TIEDLORA_INLINE void store(T* p, Vector v) {
  write(p, narrow(v, FormatOf<T>()));
}

/// The first n <= 4 values of 16 bits in one word, and back: through memory in other widths store-to-load
/// forwarding would fail.
TIEDLORA_INLINE std::uint64_t load_word(const void* from, Index n) {
  const auto* p = static_cast<const unsigned char*>(from);
  if (n >= 4) return read<std::uint64_t>(p);
  const std::uint64_t last = n & 1 ? read<std::uint16_t>(p + 2 * (n & 2)) : 0;
  return n & 2 ? read<std::uint32_t>(p) | last << 32 : last;
}
TIEDLORA_INLINE void store_word(void* to, std::uint64_t word, Index n) {
  auto* p = static_cast<unsigned char*>(to);
  if (n >= 4) return write(p, word);
  if (n & 2) write(p, static_cast<std::uint32_t>(word));
  if (n & 1) write(p + 2 * (n & 2), static_cast<std::uint16_t>(n & 2 ? word >> 32 : word));
}

template <class T>
  requires(sizeof(T) == 2)
TIEDLORA_INLINE Vector load_part(const T* p, Index n) {
  std::uint64_t words[lanes / 4] = {};
  TIEDLORA_UNROLL for (unsigned i = 0; i < lanes; i += 4) if (n > static_cast<Index>(i)) words[i / 4] =
      load_word(p + i, n - i);
  return widen(std::bit_cast<NarrowBits>(words), FormatOf<T>());
}
template <class T>
  requires(sizeof(T) == 2)
TIEDLORA_INLINE void store_part(T* p, Vector v, Index n) {
  std::uint64_t words[lanes / 4];
  write(words, narrow(v, FormatOf<T>()));
  TIEDLORA_UNROLL for (unsigned i = 0; i < lanes; i += 4) if (n > static_cast<Index>(i))
      store_word(p + i, words[i / 4], n - i);
}

/// Loads and stores vectors: whole ones, or the first `part` lanes of one.
template <bool whole>
struct Access {
  Index part = lanes;

  template <class T>
  TIEDLORA_INLINE Vector load(const T* p) const {
    if constexpr (whole)
      return cpu::load(p);
    else
      return load_part(p, part);
  }
  template <class T>
  TIEDLORA_INLINE void store(T* p, Vector v) const {
    if constexpr (whole)
      cpu::store(p, v);
    else
      store_part(p, v, part);
  }
};

/// Calls body(access, i) for one vector of n values after another, the last one perhaps partial.
template <class Body>
TIEDLORA_INLINE void in_vectors(Index n, const Body& body) {
  Index i = 0;
  for (; i + static_cast<Index>(lanes) <= n; i += lanes) body(Access<true>(), i);
  if (i < n) body(Access<false>{n - i}, i);
}

/// The same with body(chain, access, i), the chains in turn.
template <unsigned chains, class Body>
TIEDLORA_INLINE void in_chains(Index n, const Body& body) {
  Index i = 0;
  for (; i + static_cast<Index>(chains * lanes) <= n; i += chains * lanes)
    TIEDLORA_UNROLL for (unsigned chain = 0; chain < chains; ++chain)
        body(chain, Access<true>(), i + chain * lanes);
  TIEDLORA_UNROLL for (unsigned chain = 0; chain < chains; ++chain) {
    if (i + static_cast<Index>(lanes) <= n)
      body(chain, Access<true>(), i), i += lanes;
    else if (i < n)
      body(chain, Access<false>{n - i}, i), i = n;
  }
}

}  // namespace TIEDLORA_ISA
}  // namespace cpu
TIEDLORA_END_NAMESPACE
