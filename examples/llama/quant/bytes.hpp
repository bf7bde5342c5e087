// Sixteen bytes at a time, and floats made of them: what all types of blocks are unpacked with.
#pragma once

#include <bit>      // endian
#include <cstddef>  // byte
#include <cstdint>  // int32_t, uint8_t, uint16_t
#include <cstring>  // memcpy

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace llama::quant {

static_assert(std::endian::native == std::endian::little, "GGUF's weights are read where they lie");

// GCC and Clang know such vectors on every processor, and have operators for them.
using Bytes = std::uint8_t __attribute__((vector_size(16)));
using Words = std::uint16_t __attribute__((vector_size(16)));
using Ints = std::int32_t __attribute__((vector_size(16)));
using Floats = float __attribute__((vector_size(16)));

inline Bytes load_bytes(const std::byte* from) {
  Bytes bytes;
  std::memcpy(&bytes, from, sizeof bytes);
  return bytes;
}

/// The bits from `from` on of each byte, of which `mask` are wanted, moved to `to`. Processors shift words,
/// not bytes: the mask rules out what comes from the neighbour.
inline Bytes bits(Bytes bytes, int from, int mask, int to = 0) {
  const Words moved = reinterpret_cast<Words>(bytes) >> static_cast<std::uint16_t>(from)
                                                            << static_cast<std::uint16_t>(to);
  const auto wanted = static_cast<std::uint8_t>(mask << to);
  return reinterpret_cast<Bytes>(moved) & wanted;
}
inline Bytes lower_nibbles(Bytes bytes) { return bytes & 15; }
inline Bytes upper_nibbles(Bytes bytes) { return bits(bytes, 4, 15); }

#if defined(__AVX512F__)

inline constexpr __mmask16 all = 0xffff;  // GCC 12 warns of the conversions without a mask

inline __m512 to_floats(Bytes q) {
  return _mm512_maskz_cvtepi32_ps(all, _mm512_maskz_cvtepi8_epi32(all, reinterpret_cast<__m128i>(q)));
}
/// out[i] = d q_i with signed bytes q.
inline void store(Bytes q, float d, float* out) {
  _mm512_storeu_ps(out, _mm512_mul_ps(_mm512_set1_ps(d), to_floats(q)));
}
/// out[i] = d q_i + m.
inline void store(Bytes q, float d, float m, float* out) {
  _mm512_storeu_ps(out, _mm512_add_ps(_mm512_mul_ps(_mm512_set1_ps(d), to_floats(q)), _mm512_set1_ps(m)));
}

#elif defined(__AVX2__)

inline __m256 lower_floats(Bytes q) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(reinterpret_cast<__m128i>(q)));
}
inline __m256 upper_floats(Bytes q) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(reinterpret_cast<__m128i>(q), 8)));
}
/// out[i] = d q_i with signed bytes q.
inline void store(Bytes q, float d, float* out) {
  const __m256 scale = _mm256_set1_ps(d);
  _mm256_storeu_ps(out, _mm256_mul_ps(scale, lower_floats(q)));
  _mm256_storeu_ps(out + 8, _mm256_mul_ps(scale, upper_floats(q)));
}
/// out[i] = d q_i + m.
inline void store(Bytes q, float d, float m, float* out) {
  const __m256 scale = _mm256_set1_ps(d), offset = _mm256_set1_ps(m);
  _mm256_storeu_ps(out, _mm256_add_ps(_mm256_mul_ps(scale, lower_floats(q)), offset));
  _mm256_storeu_ps(out + 8, _mm256_add_ps(_mm256_mul_ps(scale, upper_floats(q)), offset));
}

#else

/// Sixteen floats.
struct Numbers {
  Floats fours[4];

  explicit Numbers(Bytes q) {
    widen(__builtin_shufflevector(q, q, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7), fours);
    widen(__builtin_shufflevector(q, q, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15),
          fours + 2);
  }

 private:
  // Each byte fills a word, then an integer, whose uppermost byte keeps its sign.
  static void widen(Bytes twice, Floats* to) {
    const Words w = reinterpret_cast<Words>(twice);
    to[0] = uppermost(__builtin_shufflevector(w, w, 0, 0, 1, 1, 2, 2, 3, 3));
    to[1] = uppermost(__builtin_shufflevector(w, w, 4, 4, 5, 5, 6, 6, 7, 7));
  }
  static Floats uppermost(Words ints) {
    return __builtin_convertvector(reinterpret_cast<Ints>(ints) >> 24, Floats);
  }
};

/// out[i] = d q_i with signed bytes q.
inline void store(Bytes q, float d, float* out) {
  Numbers numbers(q);
  for (Floats& four : numbers.fours) four = d * four;
  std::memcpy(out, numbers.fours, sizeof numbers.fours);
}
/// out[i] = d q_i + m.
inline void store(Bytes q, float d, float m, float* out) {
  Numbers numbers(q);
  for (Floats& four : numbers.fours) four = d * four + m;
  std::memcpy(out, numbers.fours, sizeof numbers.fours);
}

#endif

}  // namespace llama::quant
