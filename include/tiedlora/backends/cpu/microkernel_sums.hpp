// A block of sums of rows, G[j] = Σ_p c[p][j] row[p] feature by feature, and its epilogue.
#pragma once

#include "blocking.hpp"
#include "simd.hpp"
#include "simd_formats.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace cpu {
inline namespace TIEDLORA_ISA {

/// The rows to sum, and the coefficient of row p in output j: c[p + j · c_stride] or, with a c_stride of 1,
/// those of all J outputs side by side, c[p · J + j]. If it `fetches`, what lies `ahead` of these rows is
/// prefetched into L2 meanwhile.
template <class In, Index c_stride, bool fetches = false>
struct SumRows {
  const In* const* rows;
  Index count;
  const float* c;
  Index ahead = 0;
};

/// M vectors (or the first `part` features of one) of J outputs, from feature `at` on.
template <unsigned J, unsigned M, bool whole, class In, Index c_stride, bool fetches, class Out, class Into>
TIEDLORA_INLINE void sum_tile(const SumRows<In, c_stride, fetches>& in, Out* const (&out)[J],
                              const Into& into, Index at, Index part) {
  const Access<whole> io = {part};
  Out* to[J];
  TIEDLORA_UNROLL for (unsigned j = 0; j < J; ++j) to[j] = out[j] + at;
  if constexpr (whole) into.template fetch_ahead<M>(to, at);
  Vector acc[J][M] = {};
  const float* c = in.c;
  for (Index p = 0; p < in.count; ++p, c += c_stride == 1 ? J : 1) {
    const In* row = in.rows[p] + at;
    // The next stripe of this row: too far away for the hardware prefetcher.
    if constexpr (many_registers && whole && (J > 4 || (J == 4 && c_stride == 1))) {
      TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m) prefetch(row + (M + m) * lanes);
    }
    if constexpr (whole && fetches) {
      TIEDLORA_UNROLL for (unsigned m = 0; m < M; m += vectors_per_line)
          prefetch_from_afar(row + in.ahead + m * lanes);
    }
    Vector b[M];
    TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m) b[m] =
        J > 1 ? in_register(io.load(row + m * lanes)) : io.load(row + m * lanes);
    TIEDLORA_UNROLL for (unsigned j = 0; j < J; ++j) TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m)
        acc[j][m] = multiply_add(b[m], c[static_cast<Index>(j) * c_stride], acc[j][m]);
  }
  // All loads before all stores: rows a power of two apart would alias (4K aliasing).
  TIEDLORA_UNROLL for (unsigned j = 0; j < J; ++j) to[j] = opaque(to[j]);
  if (!into.finish(acc, io, to, at)) return;
  TIEDLORA_UNROLL for (unsigned j = 0; j < J; ++j) TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m)
      io.store(to[j] + m * lanes, acc[j][m]);
}

/// sum_tile over n features.
template <unsigned J, class In, Index c_stride, bool fetches, class Out, class Into>
TIEDLORA_KERNEL void sum_microkernel(const SumRows<In, c_stride, fetches>& from, Out* const* outs,
                                     const Into into, Index n) {
  const SumRows<In, c_stride, fetches> in = from;
  constexpr unsigned M = sum_vectors<J>;
  Out* out[J];  // a local copy: no store can change it
  TIEDLORA_UNROLL for (unsigned j = 0; j < J; ++j) out[j] = outs[j];
  Index i = 0;
  for (; i + static_cast<Index>(M * lanes) <= n; i += M * lanes) sum_tile<J, M, true>(in, out, into, i, 0);
  for (; i < n; i += lanes) sum_tile<J, 1, false>(in, out, into, i, smaller(n - i, lanes));
}

}  // namespace TIEDLORA_ISA
}  // namespace cpu
TIEDLORA_END_NAMESPACE
