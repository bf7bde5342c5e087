// The two loops that all the arithmetic is made of: a block of dot products, and a block of sums of rows.
#pragma once

#include "../tokens.hpp"
#include "vector.hpp"

#if TIEDLORA_HAS_KERNELS

namespace tiedlora {
inline namespace v1 {
namespace kernels {
inline namespace TIEDLORA_ISA {

using Rows = Tokens<const float>;  // any rows of floats: tokens of x, or the rows of A, the columns of B
using RowsOut = Tokens<float>;

// Tile sizes: accumulators, operands and one scalar fill the registers (24 + 7 of 32, or 12 + 4 of 16).
inline constexpr unsigned dot_rows = 4;
inline constexpr unsigned dot_tokens = many_registers ? 6 : 3;
inline constexpr unsigned sum_rows = 6;
inline constexpr unsigned sum_vectors = many_registers ? 4 : 2;

/// sums[t][first + k] += Σ_i a[k][i] x[t][i] for K rows of a and T rows of x over n features. Each sum runs
/// over the lanes first and does not depend on K, T or its place in the tile.
template <unsigned K, unsigned T>
TIEDLORA_KERNEL void dot_tile(const float* __restrict a, Index a_stride, const float* const* x, Index n,
                              float* const* sums, Index first) {
  Vector acc[K][T] = {};
  const float* xs[T];
  TIEDLORA_UNROLL for (unsigned t = 0; t < T; ++t) xs[t] = x[t];
  Index i = 0;
  for (; i + lanes <= n; i += lanes) {
    Vector b[T];
    TIEDLORA_UNROLL for (unsigned t = 0; t < T; ++t) b[t] = load(xs[t] + i);
    TIEDLORA_UNROLL for (unsigned k = 0; k < K; ++k) {
      const Vector row = load(a + k * a_stride + i);
      TIEDLORA_UNROLL for (unsigned t = 0; t < T; ++t) acc[k][t] += row * b[t];
    }
  }
  if (i < n) {
    Vector b[T];
    TIEDLORA_UNROLL for (unsigned t = 0; t < T; ++t) b[t] = load_part(xs[t] + i, n - i);
    TIEDLORA_UNROLL for (unsigned k = 0; k < K; ++k) {
      const Vector row = load_part(a + k * a_stride + i, n - i);
      TIEDLORA_UNROLL for (unsigned t = 0; t < T; ++t) acc[k][t] += row * b[t];
    }
  }
  TIEDLORA_UNROLL for (unsigned t = 0; t < T; ++t) TIEDLORA_UNROLL for (unsigned k = 0; k < K; ++k)
      sums[t][first + k] += sum(acc[k][t]);
}

/// What sum_tile does with the sums G[j] = Σ_p c[p][j] in[p].
enum class Into {
  set,      ///< out[j] = w ∘ G[j]
  add,      ///< out[j] += w ∘ G[j]
  gradient  ///< out[j] += w ∘ G[j] and product += Σ_j factor[j] ∘ G[j]: dB and dv
};

/// Operands of sum_tile beside the sums themselves. Null pointers where a mode does not use them.
struct SumEpilogue {
  const float* w = nullptr;       ///< one weight per feature; null: ones
  const float* factor = nullptr;  ///< rows of B
  Index factor_stride = 0;
  float* product = nullptr;  ///< dv
};

/// M vectors (or the first `part` < lanes features of one) of J output rows, from `at` on.
template <unsigned J, unsigned M, Into into, bool whole>
TIEDLORA_INLINE void sum_tile(const Rows& in, const float* __restrict c, float* const* out,
                              const SumEpilogue& e, Index at, Index part) {
  const auto get = [&](const float* p) {
    if constexpr (whole)
      return load(p);
    else
      return load_part(p, part);
  };
  const auto put = [&](float* p, Vector v) {
    if constexpr (whole)
      store(p, v);
    else
      store_part(p, v, part);
  };
  Vector acc[J][M] = {};
  for (Index p = 0; p < in.count; ++p, c += J) {
    const float* row = in[p] + at;
    Vector b[M];
    TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m) b[m] = get(row + m * lanes);
    TIEDLORA_UNROLL for (unsigned j = 0; j < J; ++j) TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m)
        acc[j][m] += b[m] * c[j];
  }
  // Loads before stores: rows a power of two apart look alike to the store buffer.
  TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m) {
    const Index i = at + m * lanes;
    if constexpr (into == Into::gradient) {
      if (e.product) {
        Vector products = get(e.product + i);
        TIEDLORA_UNROLL for (unsigned j = 0; j < J; ++j) products +=
            get(e.factor + j * e.factor_stride + i) * acc[j][m];
        put(e.product + i, products);
      }
    }
    if (e.w) {
      const Vector w = get(e.w + i);
      TIEDLORA_UNROLL for (unsigned j = 0; j < J; ++j) {
        acc[j][m] *= w;
        round_product(acc[j][m]);
      }
    }
    if constexpr (into != Into::set)
      if (out) {
        TIEDLORA_UNROLL for (unsigned j = 0; j < J; ++j) acc[j][m] += get(out[j] + i);
      }
  }
  if (!out) return;
  TIEDLORA_UNROLL for (unsigned j = 0; j < J; ++j) TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m)
      put(out[j] + at + m * lanes, acc[j][m]);
}

/// sum_tile over the features [begin, end). `out` may be null where only the product is wanted. c is
/// [in.count][J].
template <unsigned J, Into into>
TIEDLORA_KERNEL void sum_rows_into(const Rows& in, const float* c, float* const* out, const SumEpilogue& e,
                                   Index begin, Index end) {
  Index i = begin;
  for (; i + sum_vectors * lanes <= end; i += sum_vectors * lanes)
    sum_tile<J, sum_vectors, into, true>(in, c, out, e, i, 0);
  for (; i + lanes <= end; i += lanes) sum_tile<J, 1, into, true>(in, c, out, e, i, 0);
  if (i < end) sum_tile<J, 1, into, false>(in, c, out, e, i, end - i);
}

}  // namespace TIEDLORA_ISA
}  // namespace kernels
}  // namespace v1
}  // namespace tiedlora

#endif  // TIEDLORA_HAS_KERNELS
