// Sums of tokens into ranks: the gradients of A and B, and with B's that of v.
#pragma once

#include "axpyf.hpp"
#include "blocking.hpp"
#include "epilogue.hpp"
#include "expand.hpp"
#include "groups.hpp"
#include "microkernel_sums.hpp"
#include "pack.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace cpu {
inline namespace TIEDLORA_ISA {

/// out_k += w ∘ G_k with G_k = Σ_t c_t[k] row_t on n features, for some ranks k, if into.adds; product += Σ_k
/// factor_k ∘ G_k, if that is not null. c has the coefficients of one group of ranks after the other. `next`
/// is from one row to the next if they come from afar (0: they do not), for the first group to fetch as many
/// behind these.
template <class X, class P>
void sum_panel_into_ranks(const X* const* rows, Index next, Index count, const float* c, Index ranks,
                          float* out, Index out_stride, const IntoRanks<P>& into, Index n) {
  in_output_groups(ranks, count, [&](auto J, Index k) {
    float* outs[J];
    for (unsigned j = 0; j < J; ++j) outs[j] = into.adds ? out + (k + j) * out_stride : into.product;
    IntoRanks<P> part = into;
    if (into.factor) part.factor += k * into.factor_stride;
    if (k == 0 && next)
      sum_microkernel<J>(SumRows<X, 1, true>{rows, count, c + k * count, count * next}, outs, part, n);
    else
      sum_microkernel<J>(SumRows<X, 1>{rows, count, c + k * count}, outs, part, n);
  });
}

/// The same for any number of tokens in a block.
template <class X, class P, class Fill>
void sum_into_ranks(const X* const* rows, Index next, Index count, const Fill& fill, Index rank, float* out,
                    Index out_stride, const IntoRanks<P>& into, Index n) {
  const bool packs = !many_registers && rank >= pack_ranks && packs_rows(rows, count, count);
  const Index chunk = packs ? packed_features(count) : n;
  float c[gradient_floats];
  const Index most = gradient_floats / count;
  for (Index first = 0; first < rank; first += most) {
    const Index ranks = smaller(most, rank - first);
    in_output_groups(ranks, count, [&](auto J, Index k) {
      for (Index t = 0; t < count; ++t) fill(t, first + k, Index{J}, c + k * count + t * J);
    });
    for (Index i = 0; i < n; i += chunk) {
      const Index m = smaller(chunk, n - i);
      IntoRanks<P> part = into;
      if (into.w) part.w += i;
      if (into.factor) part.factor += first * into.factor_stride + i;
      if (into.product) part.product += i;
      float* const to = into.adds ? out + first * out_stride + i : nullptr;
      if (!packs) {
        sum_panel_into_ranks(rows, first == 0 ? next : 0, count, c, ranks, to, out_stride, part, m);
        continue;
      }
      alignas(64) float packed[packed_floats];
      const float* at[block_tokens];
      const X* row[block_tokens];
      for (Index t = 0; t < count; ++t) row[t] = rows[t] + i;
      pack_rows(row, count, static_cast<const P*>(nullptr), m, packed, chunk, at);
      sum_panel_into_ranks(at, 0, count, c, ranks, to, out_stride, part, m);
    }
  }
}

}  // namespace TIEDLORA_ISA
}  // namespace cpu
TIEDLORA_END_NAMESPACE
