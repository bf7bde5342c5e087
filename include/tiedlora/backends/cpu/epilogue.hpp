// Epilogues of the micro-kernel of sums: what is done with a tile once it is complete.
#pragma once

#include "../../views/config.hpp"
#include "simd.hpp"
#include "simd_formats.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace cpu {
inline namespace TIEDLORA_ISA {

// An epilogue is a type: fetch_ahead<M>(out, at) runs before a tile of M vectors of the outputs, and
// finish(acc, io, out, at) may change the sums and says whether to store them; `out` and feature `at` locate
// the tile, io is an Access. Variation within a type costs one branch per tile, always taken the same way: a
// template per case would dominate this library's compile time.

/// acc[j][m] = value(j, m · lanes, acc[j][m])
template <unsigned J, unsigned M, class Value>
TIEDLORA_INLINE void replace(Vector (&acc)[J][M], const Value& value) {
  TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m) TIEDLORA_UNROLL for (unsigned j = 0; j < J; ++j)
      acc[j][m] = value(j, m * lanes, acc[j][m]);
}

/// The lines of a row that the tile after the next one will touch.
template <unsigned M, class T>
TIEDLORA_INLINE void prefetch_tile(const T* row) {
  TIEDLORA_UNROLL for (unsigned m = 0; m < M; m += vectors_per_line) prefetch(row + (2 * M + m) * lanes);
}

/// One weight per feature of each output: the same for all tokens, or each token's own (tenants).
template <class P>
struct Weights {
  const P* common = nullptr;         ///< null: ones
  const P* const* arrays = nullptr;  ///< by token: an array whose weights begin at `offset`; null: common
  Index offset = 0;

  /// The weights of output t.
  const P* of(Index t) const { return arrays ? arrays[t] + offset : common; }
  /// From output t and that feature on.
  Weights from(Index t, Index feature) const {
    return {common ? common + feature : nullptr, arrays ? arrays + t : nullptr, offset + feature};
  }
};

/// out[j] += w ∘ G[j], or out[j] = w ∘ G[j].
template <class P>
struct IntoTokens {
  Weights<P> w;
  bool overwrite;
  bool far;        ///< outputs come from beyond L2: prefetch them
  Index next = 0;  ///< distance from one output to the next; 0: unknown

  template <unsigned M, unsigned J, class Out>
  TIEDLORA_INLINE void fetch_ahead(Out* const (&out)[J], Index at) const {
    if (!far) return;
    TIEDLORA_UNROLL for (unsigned j = 0; j < J; ++j) prefetch_tile<M>(out[j]);
    if (w.arrays) TIEDLORA_UNROLL for (unsigned j = 0; j < J; ++j) prefetch_tile<M>(w.of(j) + at);
    if (!next) return;
    TIEDLORA_UNROLL for (unsigned j = 0; j < J; ++j)
        TIEDLORA_UNROLL for (unsigned m = 0; m < M; m += vectors_per_line)
            prefetch_from_afar(out[j] + static_cast<Index>(J) * next + m * lanes);
  }
  template <unsigned J, unsigned M, class Io, class Out>
  TIEDLORA_INLINE bool finish(Vector (&acc)[J][M], const Io& io, Out* const (&out)[J], Index at) const {
    if (w.common || w.arrays) {
      const P* weights[J];
      TIEDLORA_UNROLL for (unsigned j = 0; j < J; ++j) weights[j] = opaque(w.of(j) + at);
      if (overwrite)
        replace(acc, [&](unsigned j, Index i, Vector g)
                         __attribute__((always_inline)) { return io.load(weights[j] + i) * g; });
      else
        replace(acc, [&](unsigned j, Index i, Vector g) __attribute__((always_inline)) {
          return multiply_add(io.load(weights[j] + i), g, io.load(out[j] + i));
        });
    } else if (!overwrite) {
      replace(acc, [&](unsigned j, Index i, Vector g)
                       __attribute__((always_inline)) { return g + io.load(out[j] + i); });
    }
    return true;
  }
};

/// out[j] += w ∘ G[j], which is dB or dA, and product += Σ_j factor[j] ∘ G[j], which is dv.
template <class P>
struct IntoRanks {
  float* out;  ///< row j at out + j · out_stride; null: only the product is wanted
  Index out_stride;
  const P* w = nullptr;       ///< one weight per feature; null: ones
  const P* factor = nullptr;  ///< rows of B
  Index factor_stride = 0;
  float* product = nullptr;  ///< null: not wanted

  /// From row k and that feature on.
  IntoRanks from(Index k, Index feature) const {
    IntoRanks part = *this;
    if (out) part.out += k * out_stride + feature;
    if (w) part.w += feature;
    if (factor) part.factor += k * factor_stride + feature;
    if (product) part.product += feature;
    return part;
  }

  template <unsigned M, unsigned J>
  TIEDLORA_INLINE void fetch_ahead(float* const (&)[J], Index) const {}
  template <unsigned J, unsigned M, class Io>
  TIEDLORA_INLINE bool finish(Vector (&acc)[J][M], const Io& io, float* const (&to)[J], Index at) const {
    Vector sums[M] = {};
    if (product) {
      TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m) {
        const Index i = at + m * lanes;
        sums[m] = io.load(product + i);
        TIEDLORA_UNROLL for (unsigned j = 0; j < J; ++j) sums[m] =
            multiply_add(io.load(factor + j * factor_stride + i), acc[j][m], sums[m]);
      }
    }
    const P* const weight = w ? opaque(w + at) : nullptr;
    if (out && w)
      replace(acc, [&](unsigned j, Index i, Vector g) __attribute__((always_inline)) {
        return multiply_add(io.load(weight + i), g, io.load(to[j] + i));
      });
    else if (out)
      replace(acc, [&](unsigned j, Index i, Vector g)
                       __attribute__((always_inline)) { return g + io.load(to[j] + i); });
    if (product) TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m) io.store(product + at + m * lanes, sums[m]);
    return out != nullptr;
  }
};

}  // namespace TIEDLORA_ISA
}  // namespace cpu
TIEDLORA_END_NAMESPACE
