// Values in blocks of 32 that share a scale, as ggml stores them, and products with them.
//
//   Q4_1  half d, half m, then 32 times 4 bits   w_i = d q_i + m     20 bytes
//   Q8_0  half d, then 32 signed bytes           w_i = d q_i         34 bytes
//
// Activations are rounded to such blocks as well, as llama.cpp does, so that the inner loop multiplies bytes:
//
//   x_i ≈ e p_i, |p_i| ≤ 127       Σ_i w_i x_i = Σ_blocks (d e) Σ q_i p_i + m (e Σ p_i)
//
// A dot product adds in the same order whatever the number of tokens or threads, and with AVX2 in that of
// llama.cpp.
#pragma once

#include <algorithm>  // max, max_element
#include <cmath>      // abs
#include <cstddef>    // byte
#include <cstdint>    // int8_t
#include <cstring>    // memcpy
#include <limits>     // numeric_limits

#include <llama/config.hpp>  // Index
#include <llama/half.hpp>
#include <llama/quant/halves.hpp>  // half_at

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include <immintrin.h>
#define ENGINE_AVX2 1
#else
#define ENGINE_AVX2 0
#endif

namespace engine {

using llama::Half;
using llama::Index;
using llama::to_float;
using llama::to_half;
using llama::quant::half_at;

/// Values that share a scale.
inline constexpr Index block_size = 32;

/// One token's activations in blocks: width bytes, and for each block e and e Σ p, both rounded to a half.
struct Blocks {
  std::int8_t* p = nullptr;
  float* scale = nullptr;  ///< e
  float* sum = nullptr;    ///< e Σ p
};

/// Rounds x to blocks [begin, end). A block with a value that is not finite has a scale of NaN.
inline void quantize(const float* x, const Blocks& to, Index begin, Index end) {
  for (Index b = begin; b < end; ++b) {
    const float* from = x + b * block_size;
    std::int8_t* p = to.p + b * block_size;
    float lanes[8] = {};  // the compiler keeps them in vectors
    for (Index i = 0; i < block_size; i += 8)
      for (Index lane = 0; lane < 8; ++lane) lanes[lane] = std::max(lanes[lane], std::abs(from[i + lane]));
    const float largest = *std::max_element(lanes, lanes + 8);
    // Of smaller ones the inverse may be infinite; their scale, a half, is 0 anyway.
    constexpr float smallest = 1e-30f;
    const float inverse = largest > smallest ? 127.0f / largest : 0.0f;
    float scale = largest / 127.0f;
    int sum = 0, numbers = 0;
    for (Index i = 0; i < block_size; ++i) {
      constexpr float magic = 0x1.8p23f;  // adding it rounds to an integer, ties to even
      const float rounded = (from[i] * inverse + magic) - magic;
      const bool is_number = rounded == rounded;  // 0 times infinity is not one either
      p[i] = static_cast<std::int8_t>(is_number ? rounded : 0.0f);
      sum += p[i];
      numbers += is_number;
    }
    if (numbers != block_size) scale = std::numeric_limits<float>::quiet_NaN();
    to.scale[b] = to_float(to_half(scale));
    to.sum[b] = to_float(to_half(scale * static_cast<float>(sum)));
  }
}

// ---------------------------------------------------------------------------------------------------------
// Eight partial sums of products of bytes: number i of a block belongs to sum i / 4.

#if ENGINE_AVX2

struct Lanes {
  __m256 values = _mm256_setzero_ps();
};
using Bytes = __m256i;  // 32 of them

inline Bytes load_bytes(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
/// The lower four bits of 16 bytes, then the upper ones.
inline Bytes load_nibbles(const void* from) {
  const __m128i packed = _mm_loadu_si128(static_cast<const __m128i*>(from));
  return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(packed, 4), packed), _mm256_set1_epi8(15));
}
/// sums += scale · (q ∘ p). The instruction multiplies unsigned by signed bytes: a sign of q moves to p.
template <bool Signed>
void add_products(Lanes& sums, float scale, const Bytes& q, const Bytes& p) {
  __m256i pairs;
  if constexpr (Signed)
    pairs = _mm256_maddubs_epi16(_mm256_sign_epi8(q, q), _mm256_sign_epi8(p, q));
  else
    pairs = _mm256_maddubs_epi16(q, p);
  const __m256 fours = _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  sums.values = _mm256_fmadd_ps(_mm256_set1_ps(scale), fours, sums.values);
}
inline float total(const Lanes& sums) {
  __m128 x = _mm_add_ps(_mm256_extractf128_ps(sums.values, 1), _mm256_castps256_ps128(sums.values));
  x = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

#else

struct Lanes {
  float values[8] = {};
};
struct Bytes {
  std::int8_t values[block_size];
};

inline Bytes load_bytes(const void* from) {
  Bytes bytes;
  std::memcpy(bytes.values, from, sizeof bytes.values);
  return bytes;
}
inline Bytes load_nibbles(const void* from) {
  std::uint8_t packed[16];
  std::memcpy(packed, from, sizeof packed);
  Bytes bytes;
  for (int i = 0; i < 16; ++i) {
    bytes.values[i] = static_cast<std::int8_t>(packed[i] & 15);
    bytes.values[i + 16] = static_cast<std::int8_t>(packed[i] >> 4);
  }
  return bytes;
}
template <bool /*Signed*/>
void add_products(Lanes& sums, float scale, const Bytes& q, const Bytes& p) {
  for (int lane = 0; lane < 8; ++lane) {
    int four = 0;
    for (int i = 4 * lane; i < 4 * lane + 4; ++i) four += q.values[i] * p.values[i];
    sums.values[lane] += scale * static_cast<float>(four);
  }
}
inline float total(const Lanes& sums) {
  const float* v = sums.values;
  return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

#endif

// ---------------------------------------------------------------------------------------------------------
// Dot products of one row of weights with N tokens.

/// How a type lies in memory: what the kernel below needs to know of it.
struct BlockQ4 {
  static constexpr Index bytes = 20;
  static constexpr bool is_signed = false, has_offset = true;
  static Bytes load(const std::byte* block) { return load_nibbles(block + 4); }
};
struct BlockQ8 {
  static constexpr Index bytes = 34;
  static constexpr bool is_signed = true, has_offset = false;
  static Bytes load(const std::byte* block) { return load_bytes(block + 2); }
};

/// out[n] = w · x[n].
template <class Type, int N>
void dot_products(const std::byte* w, Index width, const Blocks* x, float* out) {
  Lanes sums[static_cast<std::size_t>(N)];
  float offsets[static_cast<std::size_t>(N)] = {};
  for (Index b = 0; b < width / block_size; ++b, w += Type::bytes) {
    const Bytes q = Type::load(w);
    const float d = half_at(w);
    for (int n = 0; n < N; ++n)
      add_products<Type::is_signed>(sums[n], d * x[n].scale[b], q, load_bytes(x[n].p + b * block_size));
    if constexpr (Type::has_offset) {
      const float m = half_at(w + 2);
      for (int n = 0; n < N; ++n) offsets[n] += m * x[n].sum[b];
    }
  }
  for (int n = 0; n < N; ++n) out[n] = total(sums[n]) + offsets[n];
}

/// Σ a_i b_i of floats.
inline float dot_product(const float* a, const float* b, Index width) {
  float sums[8] = {};
  Index i = 0;
  for (; i + 8 <= width; i += 8)
    for (Index lane = 0; lane < 8; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  float rest = 0;
  for (; i < width; ++i) rest += a[i] * b[i];
  return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7])) + rest;
}

}  // namespace engine
