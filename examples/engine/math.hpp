// The functions between the matrices, on plain arrays; written so that compilers make vectors of them.
#pragma once

#include <algorithm>  // clamp
#include <bit>        // bit_cast
#include <cmath>      // sqrt
#include <cstdint>    // int32_t

#include "quant.hpp"

namespace engine {

/// e^x to 2 units of the last place, 0 where that is below 1e-38: 2^n · e^r with |r| ≤ ln(2)/2 and the Taylor
/// polynomial of degree 7 (its next term is r^8/8! < 6e-9).
inline float fast_exp(float x) {
  constexpr float magic = 0x1.8p23f;
  const float bounded = std::clamp(x, -87.3f, 88.3f);
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
  return x < -87.3f ? 0.0f : p * power;
}

/// out = w ∘ x / √(mean x² + ε)
inline void rms_norm(const float* x, const float* w, Index width, float epsilon, float* out) {
  double sum = 0;
  for (Index i = 0; i < width; ++i) sum += static_cast<double>(x[i] * x[i]);
  const float scale = 1 / std::sqrt(static_cast<float>(sum / static_cast<double>(width)) + epsilon);
  for (Index i = 0; i < width; ++i) out[i] = x[i] * scale * w[i];
}

/// gate = up ∘ gate / (1 + e^-gate)
inline void swiglu(float* gate, const float* up, Index width) {
  for (Index i = 0; i < width; ++i) gate[i] = gate[i] / (1 + fast_exp(-gate[i])) * up[i];
}

/// Σ a_i b_i; the width is a multiple of 8.
inline float dot_product(const Half* a, const float* b, Index width) {
#if ENGINE_AVX2
  Lanes sums;
  for (Index i = 0; i < width; i += 8)
    sums.values = _mm256_fmadd_ps(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(a + i))),
                                  _mm256_loadu_ps(b + i), sums.values);
  return total(sums);
#else
  float sum = 0;
  for (Index i = 0; i < width; ++i) sum += to_float(a[i]) * b[i];
  return sum;
#endif
}

/// y += c x
inline void add_scaled(float c, const Half* x, Index width, float* y) {
#if ENGINE_AVX2
  for (Index i = 0; i < width; i += 8)
    _mm256_storeu_ps(
        y + i, _mm256_fmadd_ps(_mm256_set1_ps(c),
                               _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i))),
                               _mm256_loadu_ps(y + i)));
#else
  for (Index i = 0; i < width; ++i) y[i] += c * to_float(x[i]);
#endif
}

}  // namespace engine
