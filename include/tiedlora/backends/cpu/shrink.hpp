// shrink on micro-kernels: the same sums as reference.hpp in another, equally fixed order.
//
// The order of every sum follows from the module's shape alone, not from the number of tokens or the slice: T
// tokens at once are bit-identical to T single tokens.
#pragma once

#include <cstddef>  // size_t
#include <span>     // span

#include "../../views/factors.hpp"
#include "../../views/options.hpp"
#include "../../views/slice.hpp"
#include "../../views/tokens.hpp"
#include "blocking.hpp"
#include "groups.hpp"
#include "microkernel_dots.hpp"
#include "pack.hpp"
#include "token_rows.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace cpu {
inline namespace TIEDLORA_ISA {

/// Some rows of A, or of B with v folded in.
template <class P>
struct Matrix {
  const P* data;
  Index stride;
  const P* fold = nullptr;  ///< one weight per feature; null: ones

  const P* row(Index k) const { return data + k * stride; }
};

/// h[t][k] (+)= row_k · x[t] for a range of ranks and `count` tokens, over n <= dots_kc features from where
/// rows and x point. Weights are folded into the rows or into the tokens, whichever are fewer in the whole
/// call. All tokens stream past one group of rows after another. `next` is the distance between tokens if
/// they come from beyond L2 (else 0), so that the first group prefetches them.
template <class P, class X>
void dot_block(const Matrix<P>& rows, bool folds_rows, Range ranks, const X* const* x, Index next,
               float* const* h, Index count, Index n, bool add) {
  alignas(64) float packed[dots_packed_rows * packed_stride(dots_kc)];
  const Index stride = packed_stride(n);
  const auto tile = [&]<class Row>(auto K, auto T, DotRows<Row> a, const auto* const* tokens, Index from_next,
                                   float* const* to, Index k) {
    if constexpr (T == dots_nr) {
      if (from_next && k == ranks.begin) {
        a.ahead = T * from_next;
        return dot_microkernel<K, T, true>(a, tokens, n, to, k, add);
      }
    }
    dot_microkernel<K, T, false>(a, tokens, n, to, k, add);
  };
  const auto in_place = [&](const auto* const* tokens, Index from_next, float* const* to, Index m) {
    const auto tiles = [&](auto K, Index k) {
      in_balanced_groups<dots_nr>(m, [&](auto T, Index t) {
        if constexpr (K <= dots_mr || T <= dots_nr_of_most_rows)
          tile(K, T, DotRows<P>{rows.row(k), rows.stride}, tokens + t, from_next, to + t, k);
      });
    };
    if (m <= static_cast<Index>(dots_nr_of_most_rows))
      in_groups<dots_most_mr>(ranks.begin, ranks.end, tiles);
    else
      in_groups<dots_mr>(ranks.begin, ranks.end, tiles);
  };
  // Four rows and six tokens in one set of L1 exceed its eight ways.
  const auto collides = [&] {
    return many_registers && shares_cache_set(rows.stride * static_cast<Index>(sizeof(P))) &&
           shares_cache_set(bytes_apart(x[0], rows.data)) && shares_cache_set(bytes_apart(x[0], x[1]));
  };
  const float* at[dots_packed_rows];
  if (rows.fold ? folds_rows : count >= pack_tokens && (is_narrow<P> || collides())) {
    in_groups<dots_mr>(ranks.begin, ranks.end, [&](auto K, Index k) {
      const P* row[K];
      for (unsigned j = 0; j < K; ++j) row[j] = rows.row(k + j);
      pack_rows(row, K, rows.fold, n, packed, stride, at);
      in_balanced_groups<dots_nr>(
          count, [&](auto T, Index t) { tile(K, T, DotRows<float>{packed, stride}, x + t, next, h + t, k); });
    });
  } else if (!rows.fold) {
    in_place(x, next, h, count);
  } else {
    for (Index t = 0; t < count; t += dots_packed_rows) {
      const Index m = smaller(dots_packed_rows, count - t);
      pack_rows(x + t, m, rows.fold, n, packed, stride, at);
      in_place(at, 0, h + t, m);
    }
  }
}

/// h = A x for several modules that read the same x: each block of x is used by all of them while it is in
/// L2, and modules that share A get its h.
template <class P, class X>
void shrink(std::span<const Factors<const P>> modules, const Tokens<const X>& x,
            std::span<const Tokens<float>> h, const CallOptions& o) {
  for (Index i = 0; i < x.width; i += dots_kc) {
    const Index n = smaller(dots_kc, x.width - i), block = block_of(n, sizeof(X));
    for (Index first = 0; first < x.count; first += block) {
      for (std::size_t m = 0; m < modules.size(); ++m) {
        const Factors<const P>& f = modules[m];
        if (f.rank == 0 || first_with_same_A(modules, m) != m) continue;
        const auto [tokens, ranks] = detail::shares_of_shrink(x.count, f.rank, o.slice);
        const Index begin = larger(first, tokens.begin);
        const Index count = smaller(first + block, tokens.end) - begin;
        if (count <= 0) continue;
        const X* xs[block_tokens];
        float* hs[block_tokens];
        point_at(x, begin, count, i, xs);
        point_at(h[m], begin, count, 0, hs);
        dot_block<P>({f.A + i, f.a_stride}, false, ranks, xs, next_from_afar(x), hs, count, n, i > 0);
      }
    }
  }
  // A slice copies only what it has written itself.
  for (std::size_t m = 0; m < modules.size(); ++m) {
    if (modules[m].rank == 0) continue;
    const std::size_t first = first_with_same_A(modules, m);
    const auto [tokens, ranks] = detail::shares_of_shrink(x.count, modules[m].rank, o.slice);
    for (Index t = tokens.begin; t < tokens.end; ++t)
      if (h[m][t] != h[first][t])
        for (Index k = ranks.begin; k < ranks.end; ++k) h[m][t][k] = h[first][t][k];
  }
}

}  // namespace TIEDLORA_ISA
}  // namespace cpu
TIEDLORA_END_NAMESPACE
