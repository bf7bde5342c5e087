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

/// G_k = Σ_t c_t[k] row_t over n features for some ranks k, handed to the epilogue `into`. c has the
/// coefficients of one group of ranks after another. `next` is the distance between rows if they come from
/// beyond L2 (else 0), so that the first group prefetches as many rows after these.
template <class X, class P>
void sum_panel_into_ranks(const X* const* rows, Index next, Index count, const float* c, Index ranks,
                          const IntoRanks<P>& into, Index n) {
  in_output_groups(ranks, count, [&](auto J, Index k) {
    const IntoRanks<P> part = into.from(k, 0);
    float* outs[J];
    for (unsigned j = 0; j < J; ++j) outs[j] = part.out ? part.out + j * part.out_stride : part.product;
    if (k == 0 && next)
      sum_microkernel<J>(SumRows<X, 1, true>{rows, count, c + k * count, count * next}, outs, part, n);
    else
      sum_microkernel<J>(SumRows<X, 1>{rows, count, c + k * count}, outs, part, n);
  });
}

/// The same for all ranks; fill(t, k, m, c) writes the m coefficients c_t[k …].
template <class X, class P, class Fill>
void sum_into_ranks(const X* const* rows, Index next, Index count, const Fill& fill, Index rank,
                    const IntoRanks<P>& into, Index n) {
  const bool packs = !many_registers && rank >= pack_ranks && packs_rows(rows, count, count);
  const Index chunk = packed_features(count);
  float c[gradient_floats];
  const Index most = gradient_floats / count;
  for (Index first = 0; first < rank; first += most) {
    const Index ranks = smaller(most, rank - first);
    in_output_groups(ranks, count, [&](auto J, Index k) {
      for (Index t = 0; t < count; ++t) fill(t, first + k, Index{J}, c + k * count + t * J);
    });
    if (!packs) {
      sum_panel_into_ranks(rows, first == 0 ? next : 0, count, c, ranks, into.from(first, 0), n);
      continue;
    }
    for (Index i = 0; i < n; i += chunk) {
      const Index m = smaller(chunk, n - i);
      alignas(64) float packed[packed_floats];
      const float* at[block_tokens];
      const X* row[block_tokens];
      for (Index t = 0; t < count; ++t) row[t] = rows[t] + i;
      pack_rows(row, count, static_cast<const P*>(nullptr), m, packed, chunk, at);
      sum_panel_into_ranks(at, 0, count, c, ranks, into.from(first, i), m);
    }
  }
}

}  // namespace TIEDLORA_ISA
}  // namespace cpu
TIEDLORA_END_NAMESPACE
