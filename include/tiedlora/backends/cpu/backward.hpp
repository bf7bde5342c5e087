// expand_backward and shrink_backward on tiles. reference.hpp has the formulas.
//
// Gradients add up token block by token block.
#pragma once

#include <algorithm>  // all_of, any_of, copy_n, fill_n, max, min
#include <cstddef>    // size_t
#include <span>       // span

#include "forward.hpp"

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
      sum_rows<J>(SumRows<X, 1, true>{rows, count, c + k * count, count * next}, outs, part, n);
    else
      sum_rows<J>(SumRows<X, 1>{rows, count, c + k * count}, outs, part, n);
  });
}

/// out_k += Σ_t c_k[t] row_t for `count` <= R tokens, with R coefficients for each of some ranks, which go
/// side by side past as many features of the tokens as stay in the first cache.
template <unsigned R, class X>
void ranks_side_by_side(const X* const* rows, Index count, const float* c, float* const* outs, Index ranks,
                        Index n) {
  constexpr Index chunk = side_by_side_numbers / R;
  const X* row[R];
  float* out[side_by_side<R>];
  for (Index i = 0; i < n; i += chunk) {
    for (Index t = 0; t < Index{R}; ++t) row[t] = rows[t < count ? t : 0] + i;
    in_groups<side_by_side<R>>(0, ranks, [&](auto J, Index k) {
      for (unsigned j = 0; j < J; ++j) out[j] = outs[k + j] + i;
      few_rows_side_by_side<R, J>(row, c + k * R, out, false, std::min(chunk, n - i), Ahead{});
    });
  }
}

/// The same as sum_panel_into_ranks for any rank and `count` <= few_tokens tokens; fill(t, k, n, c) writes
/// c_t[k …].
template <class X, class P, class Fill>
void few_rows_into_ranks(const X* const* rows, Index count, const Fill& fill, Index rank, float* out,
                         Index out_stride, const IntoRanks<P>& into, Index n) {
  with_few_rows<few_tokens>(count, [&](auto R) {
    const bool go_side_by_side = side_by_side<R> > 1 && !into.w && !into.product;
    const Index at_once =
        go_side_by_side ? few_outputs : few_outputs_at_once(out_stride * static_cast<Index>(sizeof(float)));
    for (Index first = 0; first < rank; first += at_once) {
      const Index ranks = std::min(at_once, rank - first);
      float of_token[few_outputs], c[few_outputs * R] = {};
      float* outs[few_outputs];
      for (Index t = 0; t < count; ++t) {
        fill(t, first, ranks, of_token);
        for (Index k = 0; k < ranks; ++k) c[k * R + t] = of_token[k];
      }
      for (Index k = 0; k < ranks; ++k) outs[k] = into.adds ? out + (first + k) * out_stride : into.product;
      if (go_side_by_side) {
        ranks_side_by_side<R>(rows, count, c, outs, ranks, n);
        continue;
      }
      IntoRanks<P> part = into;
      if (into.factor) part.factor += first * into.factor_stride;
      few_rows<R>(rows, count, c, outs, ranks, part, n);
    }
  });
}

/// The same for any number of tokens in a block.
template <class X, class P, class Fill>
void sum_into_ranks(const X* const* rows, Index next, Index count, const Fill& fill, Index rank, float* out,
                    Index out_stride, const IntoRanks<P>& into, Index n) {
  if (count <= few_tokens) return few_rows_into_ranks(rows, count, fill, rank, out, out_stride, into, n);
  const bool packs = !many_registers && rank >= pack_ranks && packs_rows(rows, count, count);
  const Index chunk = packs ? packed_features(count) : n;
  float c[gradient_coefficients];
  const Index most = gradient_coefficients / count;
  for (Index first = 0; first < rank; first += most) {
    const Index ranks = std::min(most, rank - first);
    in_output_groups(ranks, count, [&](auto J, Index k) {
      for (Index t = 0; t < count; ++t) fill(t, first + k, Index{J}, c + k * count + t * J);
    });
    for (Index i = 0; i < n; i += chunk) {
      const Index m = std::min(chunk, n - i);
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

/// d_t = c_t dh_t, du += Σ_t h_t ∘ d_t, dh_t = u ∘ d_t for `count` <= dh_tokens tokens and n ranks. du may be
/// null. All of dh is loaded before any is stored: where ranks are few, one vector reaches into the next
/// token, and a load from behind part of a vector waits until that has been written to L1.
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

/// dh has no memory where neither it nor du is wanted.
template <class P, class Dy>
void expand_backward(const Factors<const P>& f, const Tokens<const float>& h, const Tokens<const Dy>& dy,
                     const Factors<float>& gradient, const Tokens<float>& dh, const CallOptions& o) {
  const bool wants_dh = !dh.is_none();
  // Both passes over a block of dy: d = Bᵀ (v ∘ dy), and with S = c u ∘ h the sums G = dy Sᵀ, dB += v ∘ G,
  // dv += Σ_k B_k ∘ G_k. The first reads it from afar, row by row, for the second.
  const bool folds_rows = dy.count >= std::min(pack_tokens, f.rank);
  for (Index i = 0; i < f.out_features; i += backward_features) {
    const Index n = std::min(backward_features, f.out_features - i);
    const IntoRanks<P> into = {.w = f.v ? f.v + i : nullptr,
                               .factor = f.B + i,
                               .factor_stride = f.b_stride,
                               .product = gradient.v ? gradient.v + i : nullptr,
                               .adds = gradient.B != nullptr};
    for (Index first = 0; first < dy.count; first += block_tokens) {
      const Index count = std::min(block_tokens, dy.count - first);
      const Dy* rows[block_tokens];
      float* hs[block_tokens];
      point_at(dy, first, count, i, rows);
      if (wants_dh) {
        point_at(dh, first, count, 0, hs);
        dot_block<P>({f.B + i, f.b_stride, f.v ? f.v + i : nullptr}, folds_rows, {0, f.rank}, rows,
                     next_from_afar(dy), hs, count, n, i > 0);
      }
      if (!gradient.B && !gradient.v) continue;
      const auto fill = [&](Index t, Index k, Index m, float* c) {
        fill_expand(f, h, o, first + t, k, m, c);
      };
      sum_into_ranks(rows, 0, count, fill, f.rank, gradient.B ? gradient.B + i : nullptr, gradient.b_stride,
                     into, n);
    }
  }
  if (!wants_dh) return;
  for (Index first = 0; first < dy.count; first += dh_tokens) {
    const Index count = std::min(dh_tokens, dy.count - first);
    const float* hs[dh_tokens] = {};
    float *dhs[dh_tokens], c[dh_tokens];
    if (gradient.u) point_at(h, first, count, 0, hs);
    point_at(dh, first, count, 0, dhs);
    for (Index t = 0; t < count; ++t) c[t] = detail::token_scaling<float>(f, o, first + t);
    finish_dh(hs, f.u, c, gradient.u, dhs, count, f.rank);
  }
}

/// c[i] = dh[k + i] of token t, summed over the modules from m on that share m's A.
template <class Modules, class Dhs>
TIEDLORA_INLINE void fill_dh(const Modules& modules, const Dhs& dh, std::size_t m, Index t, Index k, Index n,
                             float* c) {
  std::copy_n(dh[m][t] + k, n, c);
  for (std::size_t other = m + 1; other < modules.size(); ++other)
    if (first_with_same_A(modules, other) == m)
      for (Index i = 0; i < n; ++i) c[i] += dh[other][t][k + i];
}

/// Of all different A together.
template <class Modules>
Index rank_of_all(const Modules& modules) {
  Index rank = 0;
  for (std::size_t m = 0; m < modules.size(); ++m)
    if (first_with_same_A(modules, m) == m) rank += modules[m].rank;
  return rank;
}

/// dA += dh xᵀ for every A among the modules that is trained; each block of x serves all of them.
template <class P, class X>
void add_gradients_of_A(std::span<const Factors<const P>> modules, const Tokens<const X>& x,
                        std::span<const Tokens<const float>> dh, std::span<const Factors<float>> gradients) {
  for (Index i = 0; i < x.width; i += backward_features) {
    const Index n = std::min(backward_features, x.width - i);
    for (Index first = 0; first < x.count; first += gradient_tokens) {
      const Index count = std::min(gradient_tokens, x.count - first);
      const X* rows[gradient_tokens];
      point_at(x, first, count, i, rows);
      for (std::size_t m = 0; m < modules.size(); ++m) {
        if (!gradients[m].A || first_with_same_A(modules, m) != m) continue;
        const auto fill = [&](Index t, Index k, Index l, float* c) {
          fill_dh(modules, dh, m, first + t, k, l, c);
        };
        sum_into_ranks(rows, next_from_afar(x), count, fill, modules[m].rank, gradients[m].A + i,
                       gradients[m].a_stride, IntoRanks<P>{}, n);
      }
    }
  }
}

/// dx += Σ over the modules of Aᵀ dh: one sum over the rows of all different A.
template <class P, class Dx>
void add_dx(std::span<const Factors<const P>> modules, std::span<const Tokens<const float>> dh,
            const Tokens<Dx>& dx, bool overwrite) {
  // body(m, k, n, at) for the part [k, k + n) of each A that falls into the ranks [first, first + count) of
  // all, at their place `at` there.
  const auto for_parts = [&](Index first, Index count, const auto& body) {
    Index begin = 0;
    for (std::size_t m = 0; m < modules.size(); ++m) {
      if (modules[m].rank == 0 || first_with_same_A(modules, m) != m) continue;
      const Index from = std::max(first, begin), to = std::min(first + count, begin + modules[m].rank);
      if (from < to) body(m, from - begin, to - from, from - first);
      begin += modules[m].rank;
    }
  };
  const auto rows = [&](Index first, Index count, Index feature, const P** out) {
    for_parts(first, count, [&](std::size_t m, Index k, Index n, Index at) {
      for (Index p = 0; p < n; ++p) out[at + p] = modules[m].A + (k + p) * modules[m].a_stride + feature;
    });
  };
  const auto fill = [&](Index t, Index first, Index count, float* c) {
    for_parts(first, count,
              [&](std::size_t m, Index k, Index n, Index at) { fill_dh(modules, dh, m, t, k, n, c + at); });
  };
  sum_into_tokens<P>(rows, rank_of_all(modules), fill, static_cast<const P*>(nullptr), dx, overwrite,
                     {0, dx.width});
}

/// Both; x or dx may have no memory.
template <class P, class X, class Dx>
void shrink_backward(std::span<const Factors<const P>> modules, const Tokens<const X>& x,
                     std::span<const Tokens<const float>> dh, std::span<const Factors<float>> gradients,
                     const Tokens<Dx>& dx, const CallOptions& o) {
  if (!x.is_none()) add_gradients_of_A<P>(modules, x, dh, gradients);
  if (!dx.is_none()) add_dx<P>(modules, dh, dx, o.overwrite);
}

}  // namespace TIEDLORA_ISA
}  // namespace cpu
TIEDLORA_END_NAMESPACE
