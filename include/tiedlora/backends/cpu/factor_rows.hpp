// Backward of one token or two is as slow as a factor and its gradient come: each of their rows is touched
// once, in one pass that makes all that it is needed for.
#pragma once

#include <algorithm>    // min
#include <type_traits>  // integral_constant

#include "dot_tile.hpp"
#include "simd.hpp"
#include "simd_16_bits.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace cpu {
inline namespace TIEDLORA_ISA {

/// Rows of a factor (B or A) and of its gradient; null: that is not wanted.
template <class P>
struct FactorRows {
  const P* rows;
  Index stride;
  float* gradient;
  Index gradient_stride;
};

/// What belongs to each of T tokens. z and dots are null for all tokens, where they are not wanted.
template <unsigned T>
struct FactorTokens {
  const float* e[T];  ///< beside z alone not used
  float* z[T];
  float* dots[T];     ///< one for each row
  const float* c[T];  ///< likewise
};

// K rows at a time, whose dots and coefficients leave room for the rest; a cache line of each, or some
// vectors of one row, to keep the multipliers busy.
inline constexpr unsigned factor_group = many_registers ? 4 : 2;
template <unsigned K, unsigned T>
inline constexpr unsigned factor_vectors = T > 1    ? 1
                                           : K == 1 ? 4
                                                    : (vectors_per_line < 2 ? vectors_per_line : 2);

/// For K rows and T tokens over n features: dots_t[k] += row_k · e_t; z_t += Σ_k c_t[k] row_k; gradient_k +=
/// Σ_t c_t[k] e_t. The order of a sum follows from n, T and the row's group alone.
template <unsigned K, unsigned T, bool has_dots, bool has_z, bool has_gradient, class P>
TIEDLORA_KERNEL void factor_rows(const FactorRows<P>& from, const FactorTokens<T>& of, Index n) {
  constexpr unsigned M = factor_vectors<K, T>;
  const FactorRows<P> in = from;
  const FactorTokens<T> tokens = of;
  Vector dot[K][M][T] = {};
  Vector c[K][T];
  TIEDLORA_UNROLL for (unsigned k = 0; k < K; ++k) TIEDLORA_UNROLL for (unsigned t = 0; t < T; ++t) c[k][t] =
      in_register(broadcast(tokens.c[t][k]));
  const auto step = [&](auto size, const auto& io, Index i) __attribute__((always_inline)) {
    constexpr unsigned vectors = decltype(size)::value;
    Vector e[vectors][T], z[vectors][T], g[K][vectors];
    TIEDLORA_UNROLL for (unsigned m = 0; m < vectors; ++m) TIEDLORA_UNROLL for (unsigned t = 0; t < T; ++t) {
      if constexpr (has_dots || has_gradient) e[m][t] = in_register(io.load(tokens.e[t] + i + m * lanes));
      if constexpr (has_z) z[m][t] = io.load(tokens.z[t] + i + m * lanes);
    }
    TIEDLORA_UNROLL for (unsigned k = 0; k < K; ++k) TIEDLORA_UNROLL for (unsigned m = 0; m < vectors; ++m) {
      const Index at = i + m * lanes;
      if constexpr (has_dots || has_z) {
        const Vector row = in_register(io.load(in.rows + k * in.stride + at));
        TIEDLORA_UNROLL for (unsigned t = 0; t < T; ++t) {
          if constexpr (has_dots) dot[k][m][t] = multiply_add(row, e[m][t], dot[k][m][t]);
          if constexpr (has_z) z[m][t] = multiply_add(row, c[k][t], z[m][t]);
        }
      }
      if constexpr (has_gradient) {
        g[k][m] = io.load(in.gradient + k * in.gradient_stride + at);
        TIEDLORA_UNROLL for (unsigned t = 0; t < T; ++t) g[k][m] = multiply_add(e[m][t], c[k][t], g[k][m]);
      }
    }
    // All loads before all stores, as in sum_tile.
    if constexpr (has_gradient)
      TIEDLORA_UNROLL for (unsigned k = 0; k < K; ++k) TIEDLORA_UNROLL for (unsigned m = 0; m < vectors; ++m)
          io.store(in.gradient + k * in.gradient_stride + i + m * lanes, g[k][m]);
    if constexpr (has_z)
      TIEDLORA_UNROLL for (unsigned t = 0; t < T; ++t) TIEDLORA_UNROLL for (unsigned m = 0; m < vectors; ++m)
          io.store(tokens.z[t] + i + m * lanes, z[m][t]);
  };
  Index i = 0;
  for (; i + static_cast<Index>(M * lanes) <= n; i += M * lanes)
    step(std::integral_constant<unsigned, M>(), Access<true>(), i);
  for (; i < n; i += lanes)
    step(std::integral_constant<unsigned, 1>(), Access<false>{std::min<Index>(n - i, lanes)}, i);
  if constexpr (has_dots) {
    TIEDLORA_UNROLL for (unsigned t = 0; t < T; ++t) finish_dots(dot, t, tokens.dots[t], true);
  }
}

}  // namespace TIEDLORA_ISA
}  // namespace cpu
TIEDLORA_END_NAMESPACE
