// expand for tokens of many adapters that have B in common and differ in u and v: one product with B for all
// of them, the order of every sum that of expand for one adapter.
#pragma once

#include <algorithm>    // min
#include <type_traits>  // false_type, integral_constant

#include "../factors.hpp"
#include "../options.hpp"
#include "../tokens.hpp"
#include "blocks.hpp"
#include "forward.hpp"

namespace tiedlora {
inline namespace v1 {
namespace kernels {
inline namespace TIEDLORA_ISA {

/// Where the tokens' own vectors are.
template <class P>
struct Tenants {
  const P* const* arrays;  ///< by token: the trained array of its adapter
  Index u;                 ///< where the module's u begins in it; -1: u is common to all, or absent
  Index v;                 ///< likewise
};

/// M vectors (or the first `part` features of one) of J outputs, from feature `at` on: sum_tile with a vector
/// of weights for each output.
template <unsigned J, unsigned M, bool overwrite, bool far, bool whole, class P, class Y>
TIEDLORA_INLINE void tenant_tile(const SumRows<P>& in, const P* const* w, Y* const* out, Index at,
                                 Index part) {
  const auto get = [&](const auto* p) __attribute__((always_inline)) {
    if constexpr (whole)
      return load(p);
    else
      return load_part(p, part);
  };
  if constexpr (far && whole) {
    TIEDLORA_UNROLL for (unsigned j = 0; j < J; ++j) TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m) {
      prefetch(w[j] + at + (2 * M + m) * lanes);
      prefetch(out[j] + at + (2 * M + m) * lanes);
    }
  }
  Vector acc[J][M] = {};
  const float* c = in.c;
  for (Index p = 0; p < in.count; ++p, c += in.step) {
    const P* row = in.rows[p] + at;
    Vector b[M];
    TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m) b[m] = in_register(get(row + m * lanes));
    TIEDLORA_UNROLL for (unsigned j = 0; j < J; ++j) TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m)
        acc[j][m] = multiply_add(b[m], c[static_cast<Index>(j) * panel_ranks], acc[j][m]);
  }
  // All loads before all stores, as in sum_tile.
  TIEDLORA_UNROLL for (unsigned j = 0; j < J; ++j) TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m) {
    const Vector weight = get(w[j] + at + m * lanes);
    if constexpr (overwrite)
      acc[j][m] *= weight;
    else
      acc[j][m] = multiply_add(weight, acc[j][m], get(out[j] + at + m * lanes));
  }
  TIEDLORA_UNROLL for (unsigned j = 0; j < J; ++j) TIEDLORA_UNROLL for (unsigned m = 0; m < M; ++m) {
    if constexpr (whole)
      store(out[j] + at + m * lanes, acc[j][m]);
    else
      store_part(out[j] + at + m * lanes, acc[j][m], part);
  }
}

/// tenant_tile over n features.
template <unsigned J, bool overwrite, bool far, class P, class Y>
TIEDLORA_KERNEL void tenant_rows(const SumRows<P>& in, const P* const* w, Y* const* out, Index n) {
  constexpr unsigned M = sum_vectors<J>;
  Index i = 0;
  for (; i + static_cast<Index>(M * lanes) <= n; i += M * lanes)
    tenant_tile<J, M, overwrite, far, true>(in, w, out, i, 0);
  for (; i < n; i += lanes)
    tenant_tile<J, 1, overwrite, far, false>(in, w, out, i, std::min<Index>(n - i, lanes));
}

/// y_t (+)= c_t v_t ∘ B (u_t ∘ h_t) for all tokens t.
template <class P, class Y>
void expand(const Factors<const P>& f, const Tenants<P>& tenants, const Tokens<const float>& h,
            const Tokens<Y>& y, const CallOptions& o) {
  const auto fill = [&](Index t, Index k, Index n, float* c) {
    Factors<const P> own = f;
    if (tenants.u >= 0) own.u = tenants.arrays[t] + tenants.u;
    fill_expand(own, h, o, t, k, n, c);
  };
  const auto rows = [&](Index first, Index count, Index feature, const P** out) {
    for (Index p = 0; p < count; ++p) out[p] = f.B + (first + p) * f.b_stride + feature;
  };
  if (tenants.v < 0) return sum_into_tokens<P>(rows, f.rank, fill, f.v, y, o.overwrite, {0, f.out_features});

  // Outputs and weights, of which each token may have its own.
  const bool is_far = y.count * y.width * static_cast<Index>(sizeof(Y) + sizeof(P)) > far_bytes;
  const Index chunk = sum_features(f.rank);
  const P* row[panel_ranks];
  for (Index begin = 0; begin < f.out_features; begin += chunk) {
    const Index n = std::min(f.out_features - begin, chunk);
    in_output_groups(y.count, f.rank, [&](auto J, Index t) {
      float c[J * panel_ranks];
      const auto sums_of = [&](Index k) {
        const Index count = std::min(panel_ranks, f.rank - k);
        rows(k, count, begin, row);
        for (unsigned j = 0; j < J; ++j) fill(t + j, k, count, c + j * panel_ranks);
        return SumRows<P>{row, count, c, 1};
      };
      Y* outs[J];
      const P* weights[J];
      point_at(y, t, Index{J}, begin, outs);
      for (unsigned j = 0; j < J; ++j) weights[j] = tenants.arrays[t + j] + tenants.v + begin;
      if (f.rank <= panel_ranks) {
        choose(
            [&](auto overwrite, auto far) { tenant_rows<J, overwrite, far>(sums_of(0), weights, outs, n); },
            o.overwrite, is_far);
        return;
      }
      // As in sum_into_tokens: an output is rounded once.
      float block[J][sum_features(panel_ranks)];
      float* blocks[J];
      for (unsigned j = 0; j < J; ++j) blocks[j] = block[j];
      for (Index k = 0; k < f.rank; k += panel_ranks) {
        if (k == 0)
          sum_rows<J, Into::set, false, panel_ranks>(sums_of(k), blocks, SumEpilogue<P>{}, n);
        else
          sum_rows<J, Into::add, false, panel_ranks>(sums_of(k), blocks, SumEpilogue<P>{}, n);
      }
      for (unsigned j = 0; j < J; ++j) add_weighted(blocks[j], weights[j], outs[j], n, o.overwrite);
    });
  }
}

}  // namespace TIEDLORA_ISA
}  // namespace kernels
}  // namespace v1
}  // namespace tiedlora
