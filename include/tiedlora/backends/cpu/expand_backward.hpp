// expand_backward on micro-kernels. reference.hpp has the formulas.
#pragma once

#include "../../views/factors.hpp"
#include "../../views/options.hpp"
#include "../../views/tokens.hpp"
#include "expand.hpp"
#include "shrink.hpp"
#include "sum_into_ranks.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace cpu {
inline namespace TIEDLORA_ISA {

/// d_t = c_t dh_t, du += Σ_t h_t ∘ d_t, dh_t = u ∘ d_t for `count` <= dh_tokens tokens and n ranks. du may be
/// null. All of dh is loaded before any of it is stored: at low ranks a vector spans into the next token, and
/// a load that spans a masked store stalls, since store-to-load forwarding fails.
template <class P>
void finish_dh(const float* const* h, const P* u, const float* c, float* du, float* const* dh, Index count,
               Index n) {
  in_vectors(n, [&](const auto& io, Index i) __attribute__((always_inline)) {
    Vector d[dh_tokens];
    for (Index t = 0; t < count; ++t) d[t] = io.load(dh[t] + i) * c[t];
    if (du) {
      Vector sum = io.load(du + i);
      for (Index t = 0; t < count; ++t) sum = multiply_add(io.load(h[t] + i), d[t], sum);
      io.store(du + i, sum);
    }
    const Vector weight = u ? io.load(u + i) : broadcast(1);
    for (Index t = 0; t < count; ++t) io.store(dh[t] + i, weight * d[t]);
  });
}

/// dh is null where neither it nor du is wanted.
template <class P, class Dy>
void expand_backward(const Factors<const P>& f, const Tokens<const float>& h, const Tokens<const Dy>& dy,
                     const Factors<float>& gradient, const Tokens<float>& dh, const CallOptions& o) {
  const bool wants_dh = !dh.is_none();
  // Two passes over a block of dy: d = Bᵀ (v ∘ dy), then with S = c u ∘ h the sums G = dy Sᵀ, dB += v ∘ G, dv
  // += Σ_k B_k ∘ G_k. The first reads the block from beyond L2, row by row, for the second.
  const bool folds_rows = dy.count >= smaller(pack_tokens, f.rank);
  const IntoRanks<P> all = {gradient.B, gradient.b_stride, f.v, f.B, f.b_stride, gradient.v};
  for (Index i = 0; i < f.out_features; i += backward_features) {
    const Index n = smaller(backward_features, f.out_features - i);
    const IntoRanks<P> into = all.from(0, i);
    for (Index first = 0; first < dy.count; first += block_tokens) {
      const Index count = smaller(block_tokens, dy.count - first);
      const Dy* rows[block_tokens];
      float* hs[block_tokens];
      point_at(dy, first, count, i, rows);
      if (wants_dh) {
        point_at(dh, first, count, 0, hs);
        dot_block<P>({into.factor, into.factor_stride, into.w}, folds_rows, {0, f.rank}, rows,
                     next_from_afar(dy), hs, count, n, i > 0);
      }
      if (!gradient.B && !gradient.v) continue;
      const auto fill = [&](Index t, Index k, Index m, float* c) {
        fill_expand(f, h, o, first + t, k, m, c);
      };
      sum_into_ranks(rows, 0, count, fill, f.rank, into, n);
    }
  }
  if (!wants_dh) return;
  for (Index first = 0; first < dy.count; first += dh_tokens) {
    const Index count = smaller(dh_tokens, dy.count - first);
    const float* hs[dh_tokens] = {};
    float *dhs[dh_tokens], c[dh_tokens];
    if (gradient.u) point_at(h, first, count, 0, hs);
    point_at(dh, first, count, 0, dhs);
    for (Index t = 0; t < count; ++t) c[t] = detail::token_scaling<float>(f, o, first + t);
    finish_dh(hs, f.u, c, gradient.u, dhs, count, f.rank);
  }
}

}  // namespace TIEDLORA_ISA
}  // namespace cpu
TIEDLORA_END_NAMESPACE
