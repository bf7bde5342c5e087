// Sums of few rows: the rows stay in registers while the outputs stream past one by one, which interleaves
// products, loads and stores evenly. (A tile of the micro-kernel of sums issues all its stores at its end;
// with few rows they take as long as its products, and the out-of-order window is too short to overlap the
// two.) Many outputs, or outputs that share cache sets, stream past rows in L1 instead, a few at a time.
#pragma once

#include "blocking.hpp"
#include "epilogue.hpp"
#include "simd.hpp"
#include "simd_formats.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace cpu {
inline namespace TIEDLORA_ISA {

/// out_j += Σ_p c_j[p] (w ∘ row_p), or out_j = …, for `row_count` <= R rows and `count` outputs over n
/// features. w, common to all outputs, is folded into the rows once, but not into the zeros of missing rows:
/// w may be infinite. c has R coefficients per output, zeros for missing rows.
template <unsigned R, class In, class Out, class P>
TIEDLORA_KERNEL void axpyf_in_registers(const In* const* rows, Index row_count, const float* c,
                                        Out* const* outs, Index count, const IntoTokens<P> into, Index n) {
  const auto stripe = [&]<unsigned M>(Vector(&row)[R][M], const auto& io,
                                      Index at) __attribute__((always_inline)) {
    TIEDLORA_UNROLL for (unsigned p = 0; p < R; ++p) TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m)
        row[p][m] = p < row_count ? io.load(rows[p] + at + m * lanes) : Vector{};
    if (into.w.common) {
      TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m) {
        const Vector w = io.load(into.w.common + at + m * lanes);
        TIEDLORA_UNROLL for (unsigned p = 0; p < R; ++p) if (p < row_count) row[p][m] *= w;
      }
    }
    TIEDLORA_UNROLL for (unsigned p = 0; p < R; ++p) TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m)
        row[p][m] = in_register(row[p][m]);
    const float* of_output = c;
    for (Index j = 0; j < count; ++j, of_output += R) {
      Out* const out = outs[j] + at;
      if (into.far) prefetch_tile<M>(out);
      Vector acc[M];
      TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m) acc[m] =
          into.overwrite ? Vector{} : io.load(out + m * lanes);
      TIEDLORA_UNROLL for (unsigned p = 0; p < R; ++p) TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m)
          acc[m] = multiply_add(row[p][m], of_output[p], acc[m]);
      TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m) io.store(out + m * lanes, acc[m]);
    }
  };
  Index i = 0;
  for (; i + static_cast<Index>(few_vectors * lanes) <= n; i += few_vectors * lanes) {
    Vector row[R][few_vectors];
    stripe(row, Access<true>(), i);
  }
  for (; i < n; i += lanes) {
    Vector row[R][1];
    stripe(row, Access<false>{smaller(n - i, lanes)}, i);
  }
}

/// out_j += Σ_p c_j[p] row_p, or out_j = …, for R rows and J outputs over n features. Bit-identical to
/// axpyf_in_registers without w. Meanwhile prefetches into L2 what lies `ahead` of these outputs; 0: nothing.
template <unsigned R, unsigned J, class In, class Out>
TIEDLORA_KERNEL void axpyf(const In* const* rows, const float* c, Out* const* outs, bool overwrite, Index n,
                           Index ahead) {
  Vector coefficient[J][R];
  const In* row[R];
  Out* out[J];
  TIEDLORA_UNROLL for (unsigned j = 0; j < J; ++j) {
    out[j] = outs[j];
    TIEDLORA_UNROLL for (unsigned p = 0; p < R; ++p) coefficient[j][p] = in_register(broadcast(c[j * R + p]));
  }
  TIEDLORA_UNROLL for (unsigned p = 0; p < R; ++p) row[p] = rows[p];
  in_vectors(n, [&](const auto& io, Index i) __attribute__((always_inline)) {
    if (ahead) TIEDLORA_UNROLL for (unsigned j = 0; j < J; ++j) prefetch_from_afar(out[j] + i + ahead);
    Vector acc[J];
    TIEDLORA_UNROLL for (unsigned j = 0; j < J; ++j) acc[j] = overwrite ? Vector{} : io.load(out[j] + i);
    TIEDLORA_UNROLL for (unsigned p = 0; p < R; ++p) {
      const Vector r = in_register(io.load(row[p] + i));
      TIEDLORA_UNROLL for (unsigned j = 0; j < J; ++j) acc[j] = multiply_add(r, coefficient[j][p], acc[j]);
    }
    TIEDLORA_UNROLL for (unsigned j = 0; j < J; ++j) io.store(out[j] + i, acc[j]);
  });
}

}  // namespace TIEDLORA_ISA
}  // namespace cpu
TIEDLORA_END_NAMESPACE
