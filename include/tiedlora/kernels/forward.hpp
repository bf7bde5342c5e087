// shrink and expand on tiles: the same sums as reference.hpp in another, equally fixed order.
//
// The order of every sum follows from the module's shape alone, not from the number of tokens or the slice: T
// tokens at once give the bits of T single tokens.
#pragma once

#include <algorithm>    // copy_n, max, min
#include <cstddef>      // size_t
#include <span>         // span
#include <type_traits>  // conditional, integral_constant, true_type

#include "../calls.hpp"
#include "../factors.hpp"
#include "../options.hpp"
#include "../tokens.hpp"
#include "blocks.hpp"

namespace tiedlora {
inline namespace v1 {
namespace kernels {
inline namespace TIEDLORA_ISA {

using detail::Range;

/// Calls body with each flag as a compile-time constant.
template <class Body, class... Flags>
TIEDLORA_INLINE void choose(const Body& body, bool flag, Flags... flags) {
  const auto go_on = [&](auto first) {
    if constexpr (sizeof...(flags) == 0)
      body(first);
    else
      choose([&](auto... rest) { body(first, rest...); }, flags...);
  };
  if (flag)
    go_on(std::true_type());
  else
    go_on(std::false_type());
}

/// Where feature `feature` of the tokens [first, first + count) lies.
template <class T>
TIEDLORA_INLINE void point_at(const Tokens<T>& x, Index first, Index count, Index feature, T** out) {
  if (x.pointers || x.rows) {
    for (Index t = 0; t < count; ++t) out[t] = x[first + t] + feature;
  } else {
    T* p = x[first] + feature;
    for (Index t = 0; t < count; ++t, p += x.stride) out[t] = p;
  }
}

/// out[i] = c · weight[i] · in[i]; without weight c · in[i].
template <class X, class P>
TIEDLORA_INLINE void scale(const X* in, const P* weight, float c, float* out, Index n) {
  Index i = 0;
  for (; i + static_cast<Index>(lanes) <= n; i += lanes)
    store(out + i, (weight ? load(weight + i) * c : Vector{} + c) * load(in + i));
  if (i < n)
    store_part(out + i, (weight ? load_part(weight + i, n - i) * c : Vector{} + c) * load_part(in + i, n - i),
               n - i);
}

/// out[i] (+)= w[i] · sums[i]; without w sums[i].
template <class P, class Y>
void add_weighted(const float* sums, const P* w, Y* out, Index n, bool overwrite) {
  for (Index i = 0; i < n; i += lanes) {
    const Index part = std::min<Index>(n - i, lanes);
    const Vector s = load_part(sums + i, part);
    const Vector old = overwrite ? Vector{} : load_part(out + i, part);
    store_part(out + i, w ? old + load_part(w + i, part) * s : old + s, part);
  }
}

/// Some rows of A, or of B with v folded in.
template <class P>
struct Matrix {
  const P* data;
  Index stride;
  const P* fold = nullptr;  ///< one weight per feature; null: ones

  const P* row(Index k) const { return data + k * stride; }
};

/// The vectors of K rows in turn, the last filled up with zeros.
template <unsigned K, class P>
TIEDLORA_INLINE void pack(const Matrix<P>& rows, Index first, Index n, float* panel) {
  for (Index i = 0; i < n; i += lanes, panel += K * lanes) {
    const Index part = std::min<Index>(n - i, lanes);
    const auto get = [&](const P* p) {
      return part == static_cast<Index>(lanes) ? load(p + i) : load_part(p + i, part);
    };
    const Vector weight = rows.fold ? get(rows.fold) : Vector{} + 1.0f;
    TIEDLORA_UNROLL for (unsigned k = 0; k < K; ++k)
        store(panel + k * lanes, get(rows.row(first + k)) * weight);
  }
}

/// h[t][k] (+)= row_k · x[t] for the ranks of a range and `count` tokens, over n <= dot_features features
/// from where rows and x point. Weights are folded into the rows or into the tokens: whatever there is less
/// of in the whole call.
template <class P, class X>
void dot_block(const Matrix<P>& rows, bool folds_rows, Range ranks, const X* const* x, float* const* h,
               Index count, Index n, bool add) {
  alignas(64) float panel[dot_chains * dot_features];
  if (rows.fold ? folds_rows : count >= pack_tokens) {
    in_groups<dot_chains>(ranks.begin, ranks.end, [&](auto K, Index k) {
      pack<K>(rows, k, n, panel);
      in_groups<dot_tokens>(0, count, [&](auto T, Index t) {
        dot_tile<K, T, true>(DotRows<float>{panel, lanes, K * lanes}, x + t, n, h + t, k, add);
      });
    });
    return;
  }
  const auto over_ranks = [&](auto T, const auto* const* tokens, Index t) {
    const auto tile = [&](auto K, Index k) {
      dot_tile<K, T, false>(DotRows<P>{rows.row(k), rows.stride, lanes}, tokens, n, h + t, k, add);
    };
    if constexpr (T == 1) {
      if (!shares_cache_sets(rows.stride * static_cast<Index>(sizeof(P))))
        return in_groups<dot_rows_of_one_token>(ranks.begin, ranks.end, tile);
    }
    in_groups<dot_chains>(ranks.begin, ranks.end, tile);
  };
  if (!rows.fold) return in_groups<dot_tokens>(0, count, [&](auto T, Index t) { over_ranks(T, x + t, t); });
  in_groups<std::min(dot_tokens, dot_chains)>(0, count, [&](auto T, Index t) {
    const float* tokens[T];
    for (unsigned j = 0; j < T; ++j) {
      tokens[j] = panel + j * dot_features;
      scale(x[t + j], rows.fold, 1, panel + j * dot_features, n);
    }
    over_ranks(T, tokens, t);
  });
}

/// h = A x for several modules that read the same x: the part of x that is in the nearest caches serves all
/// of them, and those whose A is that of another get its h.
template <class P, class X>
void shrink(std::span<const Factors<const P>> modules, const Tokens<const X>& x,
            std::span<const Tokens<float>> h, const CallOptions& o) {
  for (Index i = 0; i < x.width; i += dot_features) {
    const Index n = std::min(dot_features, x.width - i);
    for (Index first = 0; first < x.count; first += block_tokens) {
      for (std::size_t m = 0; m < modules.size(); ++m) {
        const Factors<const P>& f = modules[m];
        if (f.rank == 0 || detail::first_with_same_A(modules, m) != m) continue;
        const auto [tokens, ranks] = detail::shares_of_shrink(x.count, f.rank, o.slice);
        const Index begin = std::max(first, tokens.begin);
        const Index count = std::min(first + block_tokens, tokens.end) - begin;
        if (count <= 0) continue;
        const X* xs[block_tokens];
        float* hs[block_tokens];
        point_at(x, begin, count, i, xs);
        point_at(h[m], begin, count, 0, hs);
        dot_block<P>({f.A + i, f.a_stride}, false, ranks, xs, hs, count, n, i > 0);
      }
    }
  }
  // A slice copies what it has written itself.
  for (std::size_t m = 0; m < modules.size(); ++m) {
    if (modules[m].rank == 0) continue;
    const std::size_t first = detail::first_with_same_A(modules, m);
    const auto [tokens, ranks] = detail::shares_of_shrink(x.count, modules[m].rank, o.slice);
    for (Index t = tokens.begin; t < tokens.end; ++t)
      if (h[m][t] != h[first][t])
        std::copy_n(h[first][t] + ranks.begin, ranks.end - ranks.begin, h[m][t] + ranks.begin);
  }
}

/// out_t (+)= w ∘ Σ_k c_t[k] row_k on a range of features, for all tokens t. rows(k, n, feature, p) says
/// where the rows [k, k + n) have that feature; fill(t, k, n, c) writes c_t[k …].
template <class P, class Y, class Rows, class Fill>
void sum_into_tokens(const Rows& rows, Index rank, const Fill& fill, const P* w, const Tokens<Y>& out,
                     bool overwrite, Range features) {
  const Index chunk = sum_features(rank);
  const bool is_far = out.count * out.width * static_cast<Index>(sizeof(Y)) > far_bytes;
  const P* row[panel_ranks];
  for (Index begin = features.begin; begin < features.end; begin += chunk) {
    const Index n = std::min(features.end - begin, chunk);
    in_output_groups(out.count, rank, [&](auto J, Index t) {
      float c[J * panel_ranks];
      const auto sum = [&](auto into, auto weighted, Index k, auto* const* to, const P* weight) {
        const Index count = std::min(panel_ranks, rank - k);
        rows(k, count, begin, row);
        for (unsigned j = 0; j < J; ++j) fill(t + j, k, count, c + j * panel_ranks);
        sum_rows<J, into, weighted, panel_ranks>(SumRows<P>{row, count, c, 1}, to,
                                                 SumEpilogue<P>{.w = weight}, n);
      };
      using Set = std::integral_constant<Into, Into::set>;
      using Add = std::integral_constant<Into, Into::add>;
      using AddFar = std::integral_constant<Into, Into::add_far>;
      Y* outs[J];
      point_at(out, t, Index{J}, begin, outs);
      const P* weight = w ? w + begin : nullptr;
      if (rank <= panel_ranks) {
        if (overwrite)
          choose([&](auto weighted) { sum(Set(), weighted, 0, outs, weight); }, w != nullptr);
        else if (is_far)
          choose([&](auto weighted) { sum(AddFar(), weighted, 0, outs, weight); }, w != nullptr);
        else
          choose([&](auto weighted) { sum(Add(), weighted, 0, outs, weight); }, w != nullptr);
        return;
      }
      // An output is rounded once: sums of more ranks than a panel holds wait in float.
      float block[J][sum_features(panel_ranks)];
      float* blocks[J];
      for (unsigned j = 0; j < J; ++j) blocks[j] = block[j];
      sum(Set(), std::false_type(), 0, blocks, nullptr);
      for (Index k = panel_ranks; k < rank; k += panel_ranks)
        sum(Add(), std::false_type(), k, blocks, nullptr);
      for (unsigned j = 0; j < J; ++j) add_weighted(blocks[j], weight, outs[j], n, overwrite);
    });
  }
}

/// What column k of B is multiplied with for token t, c_t u_k h_t[k], for k from `first` on.
template <class P>
TIEDLORA_INLINE void fill_expand(const Factors<const P>& f, const Tokens<const float>& h,
                                 const CallOptions& o, Index t, Index first, Index n, float* out) {
  scale(h[t] + first, f.u ? f.u + first : nullptr, detail::token_scaling<float>(f, o, t), out, n);
}

template <class P, class Y>
void expand(const Factors<const P>& f, const Tokens<const float>& h, const Tokens<Y>& y,
            const CallOptions& o) {
  const auto [tokens, features] = detail::shares_of_outputs(y, o.slice);
  const auto fill = [&, first = tokens.begin](Index t, Index k, Index n, float* c) {
    fill_expand(f, h, o, first + t, k, n, c);
  };
  const auto rows = [&](Index first, Index count, Index feature, const P** out) {
    for (Index p = 0; p < count; ++p) out[p] = f.B + (first + p) * f.b_stride + feature;
  };
  sum_into_tokens<P>(rows, f.rank, fill, f.v, y.tokens(tokens.begin, tokens.end - tokens.begin), o.overwrite,
                     features);
}

}  // namespace TIEDLORA_ISA
}  // namespace kernels
}  // namespace v1
}  // namespace tiedlora
