// Sums of few rows: the rows stay in registers while one output after the other goes past, so that products,
// loads and stores come evenly mixed. (A tile of sum_tile has all its stores at its end: for few rows they
// take as long as its products, and the processor does not look far enough ahead to do both at once.)
// Many outputs, or those that share cache sets, go past rows in L1 instead, some at a time.
#pragma once

#include "blocking.hpp"
#include "epilogue.hpp"
#include "simd.hpp"
#include "simd_formats.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace cpu {
inline namespace TIEDLORA_ISA {

/// M vectors (or part of one) from feature `at` on: the rows there, the last R - count of them zero.
template <unsigned R, unsigned M, bool whole>
struct FewRows {
  Index at;
  Access<whole> io;
  Vector row[R][M];

  template <class In>
  TIEDLORA_INLINE FewRows(const In* const* rows, Index count, Index feature, Index features)
      : at(feature), io{features} {
    TIEDLORA_UNROLL for (unsigned p = 0; p < R; ++p) TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m)
        row[p][m] = p < count ? io.load(rows[p] + at + m * lanes) : Vector{};
  }

  /// acc += Σ_p c[p] row[p]
  TIEDLORA_INLINE void add_to(Vector (&acc)[M], const float* c) const {
    TIEDLORA_UNROLL for (unsigned p = 0; p < R; ++p) TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m) acc[m] =
        multiply_add(row[p][m], c[p], acc[m]);
  }
};

/// out_j += Σ_p c_j[p] (w ∘ row_p): w, which all these outputs have in common, goes into the rows once.
template <unsigned R, unsigned M, bool whole, class Out, class P>
TIEDLORA_INLINE void add_few_rows(FewRows<R, M, whole>& rows, const float* c, Out* const* outs, Index count,
                                  const IntoTokens<P>& into) {
  if (into.w.common) {
    TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m) {
      const Vector w = rows.io.load(into.w.common + rows.at + m * lanes);
      TIEDLORA_UNROLL for (unsigned p = 0; p < R; ++p) rows.row[p][m] *= w;
    }
  }
  TIEDLORA_UNROLL for (unsigned p = 0; p < R; ++p) TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m)
      rows.row[p][m] = in_register(rows.row[p][m]);
  for (Index j = 0; j < count; ++j, c += R) {
    Out* const out = outs[j] + rows.at;
    if (whole && into.far) prefetch_tile<M>(out);
    Vector acc[M];
    TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m) acc[m] =
        into.overwrite ? Vector{} : rows.io.load(out + m * lanes);
    rows.add_to(acc, c);
    TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m) rows.io.store(out + m * lanes, acc[m]);
  }
}

/// out_k += w ∘ G_k with G_k = Σ_t c_k[t] row_t, and product += Σ_k factor_k ∘ G_k.
template <unsigned R, unsigned M, bool whole, class P>
TIEDLORA_INLINE void add_few_rows(FewRows<R, M, whole>& rows, const float* c, float* const* outs, Index count,
                                  const IntoRanks<P>& into) {
  Vector w[M], product[M];
  TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m) {
    w[m] = into.w ? rows.io.load(into.w + rows.at + m * lanes) : broadcast(1);
    product[m] = into.product ? rows.io.load(into.product + rows.at + m * lanes) : Vector{};
    TIEDLORA_UNROLL for (unsigned p = 0; p < R; ++p) rows.row[p][m] = in_register(rows.row[p][m]);
  }
  for (Index k = 0; k < count; ++k, c += R) {
    Vector acc[M] = {};
    rows.add_to(acc, c);
    if (into.product) {
      const P* const factor = into.factor + k * into.factor_stride + rows.at;
      TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m) product[m] =
          multiply_add(rows.io.load(factor + m * lanes), acc[m], product[m]);
    }
    if (!into.adds) continue;
    float* const out = outs[k] + rows.at;
    TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m) acc[m] =
        multiply_add(w[m], acc[m], rows.io.load(out + m * lanes));
    TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m) rows.io.store(out + m * lanes, acc[m]);
  }
  if (into.product)
    TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m)
        rows.io.store(into.product + rows.at + m * lanes, product[m]);
}

/// `row_count` <= R rows into `count` outputs, over n features. c has R coefficients for each output, zeros
/// for the rows that are not there.
template <unsigned R, class In, class Out, class Into>
TIEDLORA_KERNEL void axpyf_in_registers(const In* const* rows, Index row_count, const float* c,
                                        Out* const* outs, Index count, const Into into, Index n) {
  constexpr unsigned M = few_vectors<R>;
  Index i = 0;
  for (; i + static_cast<Index>(M * lanes) <= n; i += M * lanes) {
    FewRows<R, M, true> some(rows, row_count, i, 0);
    add_few_rows(some, c, outs, count, into);
  }
  for (; i < n; i += lanes) {
    FewRows<R, 1, false> some(rows, row_count, i, n - i < static_cast<Index>(lanes) ? n - i : Index{lanes});
    add_few_rows(some, c, outs, count, into);
  }
}

/// How far ahead to fetch; 0: not.
struct Ahead {
  Index rows = 0;
  Index outs = 0;
};

/// out_j += Σ_p c_j[p] row_p, or out_j = …, for R rows and J outputs over n features. Bits as those of
/// few_rows without w. Meanwhile what lies so far ahead of these rows and outputs is brought into the second
/// cache.
template <unsigned R, unsigned J, class In, class Out>
TIEDLORA_KERNEL void axpyf(const In* const* rows, const float* c, Out* const* outs, bool overwrite, Index n,
                           Ahead ahead) {
  Vector coefficient[J][R];
  const In* row[R];
  Out* out[J];
  TIEDLORA_UNROLL for (unsigned j = 0; j < J; ++j) {
    out[j] = outs[j];
    TIEDLORA_UNROLL for (unsigned p = 0; p < R; ++p) coefficient[j][p] = in_register(broadcast(c[j * R + p]));
  }
  TIEDLORA_UNROLL for (unsigned p = 0; p < R; ++p) row[p] = rows[p];
  in_vectors(n, [&](const auto& io, Index i) __attribute__((always_inline)) {
    if (ahead.rows)
      TIEDLORA_UNROLL for (unsigned p = 0; p < R; ++p) prefetch_from_afar(row[p] + i + ahead.rows);
    if (ahead.outs)
      TIEDLORA_UNROLL for (unsigned j = 0; j < J; ++j) prefetch_from_afar(out[j] + i + ahead.outs);
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
