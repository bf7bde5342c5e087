// A single token: nothing is reused, so what matters is how the rows of a factor, and of its gradient, come
// from wherever they are. Backward touches each row once, in one pass that does all that it is needed for.
#pragma once

#include <algorithm>    // min
#include <type_traits>  // integral_constant

#include "narrow.hpp"
#include "vector.hpp"

namespace tiedlora {
inline namespace v1 {
namespace kernels {
inline namespace TIEDLORA_ISA {

/// sums += Σ_k c[k] row_k for K rows of n features, one product after the other.
template <unsigned K, class P>
TIEDLORA_KERNEL void add_rows(const P* const* rows, const float* c, float* sums, Index n) {
  const P* row[K];
  Vector coefficient[K];
  TIEDLORA_UNROLL for (unsigned k = 0; k < K; ++k) {
    row[k] = rows[k];
    coefficient[k] = in_register(broadcast(c[k]));
  }
  in_vectors(n, [&](const auto& io, Index i) __attribute__((always_inline)) {
    Vector sum = io.load(sums + i);
    TIEDLORA_UNROLL for (unsigned k = 0; k < K; ++k) sum =
        multiply_add(io.load(row[k] + i), coefficient[k], sum);
    io.store(sums + i, sum);
  });
}

/// Rows of a factor (B or A), of its gradient, and the number that goes with each row.
template <class P>
struct OneTokenRows {
  const P* rows;
  Index stride;
  const float* c;
  float* gradient;
  Index gradient_stride;
};

// K rows at a time, a cache line of each (32 registers hold four), or two lines of one.
inline constexpr unsigned one_token_group = many_registers ? 4 : 2;
template <unsigned K>
inline constexpr unsigned one_token_vectors = K == 1 ? 4 : (vectors_per_line < 2 ? vectors_per_line : 2);

/// For K rows over n features: dots[k] += row_k · e; z += Σ_k c_k row_k; gradient_k += c_k e. The order of a
/// sum follows from n and the row's group alone. What is not wanted may be null, and e beside z alone.
template <unsigned K, bool has_dots, bool has_z, bool has_gradient, class P>
TIEDLORA_KERNEL void one_token_rows(const OneTokenRows<P>& from, const float* e, float* z, float* dots,
                                    Index n) {
  constexpr unsigned M = one_token_vectors<K>;
  const OneTokenRows<P> in = from;
  Vector dot[K][M] = {};
  float c[K];
  TIEDLORA_UNROLL for (unsigned k = 0; k < K; ++k) c[k] = in.c[k];
  const auto step = [&](auto size, const auto& io, Index i) __attribute__((always_inline)) {
    constexpr unsigned vectors = decltype(size)::value;
    Vector ei[vectors], zi[vectors], g[K][vectors];
    if constexpr (has_dots || has_gradient)
      TIEDLORA_UNROLL for (unsigned m = 0; m < vectors; ++m) ei[m] = io.load(e + i + m * lanes);
    if constexpr (has_z)
      TIEDLORA_UNROLL for (unsigned m = 0; m < vectors; ++m) zi[m] = io.load(z + i + m * lanes);
    TIEDLORA_UNROLL for (unsigned k = 0; k < K; ++k) TIEDLORA_UNROLL for (unsigned m = 0; m < vectors; ++m) {
      const Index at = i + m * lanes;
      if constexpr (has_dots || has_z) {
        const Vector row = in_register(io.load(in.rows + k * in.stride + at));
        if constexpr (has_dots) dot[k][m] = multiply_add(row, ei[m], dot[k][m]);
        if constexpr (has_z) zi[m] = multiply_add(row, c[k], zi[m]);
      }
      if constexpr (has_gradient)
        g[k][m] = multiply_add(ei[m], c[k], io.load(in.gradient + k * in.gradient_stride + at));
    }
    // All loads before all stores, as in sum_tile.
    if constexpr (has_gradient)
      TIEDLORA_UNROLL for (unsigned k = 0; k < K; ++k) TIEDLORA_UNROLL for (unsigned m = 0; m < vectors; ++m)
          io.store(in.gradient + k * in.gradient_stride + i + m * lanes, g[k][m]);
    if constexpr (has_z)
      TIEDLORA_UNROLL for (unsigned m = 0; m < vectors; ++m) io.store(z + i + m * lanes, zi[m]);
  };
  Index i = 0;
  for (; i + static_cast<Index>(M * lanes) <= n; i += M * lanes)
    step(std::integral_constant<unsigned, M>(), Access<true>(), i);
  for (; i < n; i += lanes)
    step(std::integral_constant<unsigned, 1>(), Access<false>{std::min<Index>(n - i, lanes)}, i);
  if constexpr (has_dots) {
    TIEDLORA_UNROLL for (unsigned k = 0; k < K; ++k) {
      Vector all = dot[k][0];
      TIEDLORA_UNROLL for (unsigned m = 1; m < M; ++m) all += dot[k][m];
      dots[k] += sum(all);
    }
  }
}

}  // namespace TIEDLORA_ISA
}  // namespace kernels
}  // namespace v1
}  // namespace tiedlora
