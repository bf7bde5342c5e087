// The functions between the matrices, on plain arrays; written so that compilers make vectors of them.
#pragma once

#include <algorithm>  // max, min
#include <bit>        // bit_cast
#include <cstdint>    // int32_t

#include "quant.hpp"

namespace engine {

/// e^x to 2 units of the last place, 0 where that is below 1e-38: 2^n · e^r with |r| ≤ ln(2)/2 and the Taylor
/// polynomial of degree 7 (its next term is r^8/8! < 6e-9).
inline float fast_exp(float x) {
  constexpr float magic = 0x1.8p23f;
  const float bounded = std::min(88.3f, std::max(-87.3f, x));  // in that order a NaN becomes a number
  const float n = (bounded * 1.44269504f + magic) - magic;
  const float r = (bounded - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts, the first exact
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1;
  p = p * r + 1;
  const float power = std::bit_cast<float>((static_cast<std::int32_t>(n) + 127) << 23);
  return x < -87.3f ? 0.0f : x != x ? x : p * power;
}

/// gate = up ∘ gate / (1 + e^-gate)
inline void swiglu(float* gate, const float* up, Index width) {
  for (Index i = 0; i < width; ++i) gate[i] = gate[i] / (1 + fast_exp(-gate[i])) * up[i];
}

/// Σ a_i b_i
inline float dot_product(const Half* a, const float* b, Index width) {
  float sum = 0;
  Index i = 0;
#if ENGINE_AVX2
  Lanes sums;
  for (; i + 8 <= width; i += 8)
    sums.values = _mm256_fmadd_ps(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(a + i))),
                                  _mm256_loadu_ps(b + i), sums.values);
  sum = total(sums);
#endif
  for (; i < width; ++i) sum += to_float(a[i]) * b[i];
  return sum;
}

/// y += c x
inline void add_scaled(float c, const Half* x, Index width, float* y) {
  Index i = 0;
#if ENGINE_AVX2
  for (; i + 8 <= width; i += 8)
    _mm256_storeu_ps(
        y + i, _mm256_fmadd_ps(_mm256_set1_ps(c),
                               _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i))),
                               _mm256_loadu_ps(y + i)));
#endif
  for (; i < width; ++i) y[i] += c * to_float(x[i]);
}

}  // namespace engine
