// A block of sums of rows: G[j] = Σ_p c[p][j] row[p], feature by feature, and what is done with it.
#pragma once

#include <algorithm>  // min

#include "narrow.hpp"
#include "vector.hpp"

namespace tiedlora {
inline namespace v1 {
namespace kernels {
inline namespace TIEDLORA_ISA {

// A tile is J outputs of M vectors each. Sums of many rows fill the registers; sums of few leave a third of
// them free, so that the next tile begins while this one's results are stored. With 16 registers a tile is a
// cache line wide, which it takes from each row once. A few outputs get long runs of features, so that each
// row is read at least 256 bytes at a time.
template <unsigned J>
inline constexpr unsigned sum_vectors = many_registers ? (J == 8   ? 3
                                                          : J == 4 ? 4
                                                                   : 8)
                                                       : (J >= 4   ? 2
                                                          : J == 2 ? 4
                                                                   : 8);

/// What becomes of the sums.
enum class Into {
  set,      ///< out[j] = w ∘ G[j]
  add,      ///< out[j] += w ∘ G[j]
  add_far,  ///< the same, to outputs that come from beyond the second cache and are fetched ahead
  product,  ///< product += Σ_j factor[j] ∘ G[j]: dv
  both      ///< add and product: dB and dv
};

/// The rows that are summed, and the coefficient of row p in output j: c[p · step + j · J_stride].
template <class In>
struct SumRows {
  const In* const* rows;
  Index count;
  const float* c;
  Index step;
};

/// Operands beside the sums themselves; null pointers where they are not used.
template <class P>
struct SumEpilogue {
  const P* w = nullptr;       ///< one weight per feature
  const P* factor = nullptr;  ///< rows of B
  Index factor_stride = 0;
  float* product = nullptr;  ///< dv
};

/// M vectors (or the first `part` features of one) of J outputs, from feature `at` on.
template <unsigned J, unsigned M, Into into, bool weighted, Index c_stride, bool whole, class In, class Out,
          class P>
TIEDLORA_INLINE void sum_tile(const SumRows<In>& in, Out* const (&out)[J], const SumEpilogue<P>& e, Index at,
                              Index part) {
  const auto get = [&](const auto* p) __attribute__((always_inline)) {
    if constexpr (whole)
      return load(p);
    else
      return load_part(p, part);
  };
  const auto put = [&](auto* p, Vector v) __attribute__((always_inline)) {
    if constexpr (whole)
      store(p, v);
    else
      store_part(p, v, part);
  };
  if constexpr (into == Into::add_far && M > 1) {
    TIEDLORA_UNROLL for (unsigned j = 0; j < J; ++j)
        TIEDLORA_UNROLL for (unsigned m = 0; m < M; m += vectors_per_line)
            prefetch(out[j] + at + (2 * M + m) * lanes);
  }
  Vector acc[J][M] = {};
  const float* c = in.c;
  for (Index p = 0; p < in.count; ++p, c += in.step) {
    const In* row = in.rows[p] + at;
    // The next stripe of this row: too far away for the hardware to see that it will be wanted.
    if constexpr (many_registers && c_stride == 1 && whole && J >= 4) {
      TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m) prefetch(row + (M + m) * lanes);
    }
    Vector b[M];
    TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m) b[m] = in_register(get(row + m * lanes));
    TIEDLORA_UNROLL for (unsigned j = 0; j < J; ++j) TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m)
        acc[j][m] = multiply_add(b[m], c[static_cast<Index>(j) * c_stride], acc[j][m]);
  }
  // All loads before all stores: rows a power of two apart look alike to the store buffer.
  constexpr bool has_product = into == Into::product || into == Into::both;
  Vector products[M];
  if constexpr (has_product) {
    TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m) {
      const Index i = at + m * lanes;
      products[m] = get(e.product + i);
      TIEDLORA_UNROLL for (unsigned j = 0; j < J; ++j) products[m] =
          multiply_add(get(e.factor + j * e.factor_stride + i), acc[j][m], products[m]);
    }
  }
  TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m) {
    const Index i = at + m * lanes;
    if constexpr (into == Into::product) {
      put(e.product + i, products[m]);
    } else if constexpr (weighted) {
      const Vector w = get(e.w + i);
      TIEDLORA_UNROLL for (unsigned j = 0; j < J; ++j) {
        if constexpr (into == Into::set)
          acc[j][m] *= w;
        else
          acc[j][m] = multiply_add(w, acc[j][m], get(out[j] + i));
      }
    } else if constexpr (into != Into::set) {
      TIEDLORA_UNROLL for (unsigned j = 0; j < J; ++j) acc[j][m] += get(out[j] + i);
    }
  }
  if constexpr (into == Into::product) return;
  if constexpr (has_product) {
    TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m) put(e.product + at + m * lanes, products[m]);
  }
  TIEDLORA_UNROLL for (unsigned j = 0; j < J; ++j) TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m)
      put(out[j] + at + m * lanes, acc[j][m]);
}

/// sum_tile over n features.
template <unsigned J, Into into, bool weighted, Index c_stride, class In, class Out, class P>
TIEDLORA_KERNEL void sum_rows(const SumRows<In> in, Out* const* outs, const SumEpilogue<P> e, Index n) {
  constexpr unsigned M = sum_vectors<J>;
  Out* out[J];  // here no store can change them
  TIEDLORA_UNROLL for (unsigned j = 0; j < J; ++j) out[j] = outs[j];
  Index i = 0;
  for (; i + static_cast<Index>(M * lanes) <= n; i += M * lanes)
    sum_tile<J, M, into, weighted, c_stride, true>(in, out, e, i, 0);
  for (; i < n; i += lanes)
    sum_tile<J, 1, into, weighted, c_stride, false>(in, out, e, i, std::min<Index>(n - i, lanes));
}

}  // namespace TIEDLORA_ISA
}  // namespace kernels
}  // namespace v1
}  // namespace tiedlora
