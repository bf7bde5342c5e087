// A block of dot products: MR rows of A × NR tokens of x.
#pragma once

#include "blocking.hpp"
#include "simd.hpp"
#include "simd_formats.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace cpu {
inline namespace TIEDLORA_ISA {

/// Where a tile finds its rows: row k at data + k · row.
template <class P>
struct DotRows {
  const P* data;
  Index row;
  Index ahead = 0;  ///< distance from a token to the one to prefetch meanwhile
};

/// out[k] (+)= the sum of all chains and lanes of row k and token t. The number of chains is a power of two.
template <unsigned K, unsigned chains, unsigned T>
TIEDLORA_INLINE void finish_dots(const Vector (&acc)[K][chains][T], unsigned t, float* out, bool add) {
  Vector all[K];
  TIEDLORA_UNROLL for (unsigned k = 0; k < K; ++k) {
    all[k] = acc[k][0][t];
    if constexpr (chains > 1) all[k] += acc[k][1][t];
    if constexpr (chains == 4) all[k] += acc[k][2][t] + acc[k][3][t];
  }
  if constexpr (K % 4 == 0) {
    TIEDLORA_UNROLL for (unsigned k = 0; k < K; k += 4) {
      Vector4 result = sums(all[k], all[k + 1], all[k + 2], all[k + 3]);
      if (add) result += read<Vector4>(out + k);
      write(out + k, result);
    }
  } else {
    TIEDLORA_UNROLL for (unsigned k = 0; k < K; ++k) {
      const float dot = sum(all[k]);
      out[k] = add ? out[k] + dot : dot;
    }
  }
}

/// out[t][first + k] (+)= Σ_i a[k][i] x[t][i] for K rows of a and T tokens over n features. The order of each
/// sum follows from K and n alone. If it `fetches`, it prefetches into L2 the features that lie rows.ahead of
/// these tokens'.
template <unsigned K, unsigned T, bool fetches, class P, class X>
TIEDLORA_KERNEL void dot_microkernel(const DotRows<P>& rows, const X* const* x, Index n, float* const* out,
                                     Index first, bool add) {
  constexpr unsigned chains = K < dots_mr ? dots_mr / K : 1;
  DotRows<P> a = rows;
  Vector acc[K][chains][T] = {};
  const X* xs[T];
  TIEDLORA_UNROLL for (unsigned t = 0; t < T; ++t) xs[t] = x[t];
  in_chains<chains>(n, [&](unsigned chain, const auto& io, Index i) __attribute__((always_inline)) {
    if constexpr (fetches)
      TIEDLORA_UNROLL for (unsigned t = 0; t < T; ++t) prefetch_from_afar(xs[t] + i + a.ahead);
    Vector b[T];
    TIEDLORA_UNROLL for (unsigned t = 0; t < T; ++t) b[t] = in_register(io.load(xs[t] + i));
    TIEDLORA_UNROLL for (unsigned k = 0; k < K; ++k) {
      Vector row = io.load(a.data + k * a.row);
      if constexpr (T > 1) row = in_register(row);
      TIEDLORA_UNROLL for (unsigned t = 0; t < T; ++t) acc[k][chain][t] =
          multiply_add(row, b[t], acc[k][chain][t]);
    }
    a.data += lanes;
  });
  TIEDLORA_UNROLL for (unsigned t = 0; t < T; ++t) finish_dots(acc, t, out[t] + first, add);
}

}  // namespace TIEDLORA_ISA
}  // namespace cpu
TIEDLORA_END_NAMESPACE
