// expand_backward and shrink_backward on tiles. reference.hpp has the formulas.
//
// Gradients add up token block by token block; the blocks follow from the shape and the number of tokens, so
// that every slicing gives the same bits.
#pragma once

#include <algorithm>    // all_of, any_of, copy_n, fill_n, max, min
#include <cstddef>      // size_t
#include <memory>       // align
#include <span>         // span
#include <type_traits>  // integral_constant

#include "factor_pass.hpp"
#include "forward.hpp"
#include "one_pass.hpp"

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
  in_output_groups<false>(ranks, count, [&](auto J, Index k) {
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

/// out_k += w ∘ sums_k for R ranks, if into.adds; product += Σ_k factor_k ∘ sums_k, if that is not null.
template <unsigned R, class P>
void sums_into_ranks(const float* sums, float* out, Index out_stride, const IntoRanks<P>& into, Index n) {
  for (unsigned k = 0; k < R; ++k, sums += sums_stride) {
    if (into.product) add_products(sums, into.factor + k * into.factor_stride, 1, into.product, n);
    if (into.adds) add_weighted(sums, into.w, out + k * out_stride, n, false);
  }
}

/// The same as sum_panel_into_ranks for R <= long_run_ranks ranks and n <= backward_features: tokens go past
/// the sums in long runs.
template <unsigned R, class X, class P, class Fill>
void sum_in_long_runs(const X* const* rows, Index next, Index count, const Fill& fill, float* out,
                      Index out_stride, const IntoRanks<P>& into, Index n) {
  alignas(64) float buffer[R * sums_stride + page_floats];
  float* const sums = away_from(rows[0], buffer);
  float* outs[R];
  for (unsigned k = 0; k < R; ++k) {
    outs[k] = sums + k * sums_stride;
    std::fill_n(outs[k], n, 0.0f);
  }
  in_groups<long_run_tokens>(0, count, [&](auto T, Index t) {
    float of_token[R], c[R * T];
    for (unsigned j = 0; j < T; ++j) {
      fill(t + j, 0, R, of_token);
      for (unsigned k = 0; k < R; ++k) c[k * T + j] = of_token[k];
    }
    few_rows_side_by_side<T, R>(rows + t, c, outs, false, n, Ahead{.rows = T * next});
  });
  sums_into_ranks<R>(sums, out, out_stride, into, n);
}

/// The same for any number of tokens in a block.
template <class X, class P, class Fill>
void sum_into_ranks(const X* const* rows, Index next, Index count, const Fill& fill, Index rank, float* out,
                    Index out_stride, const IntoRanks<P>& into, Index n) {
  if (rank <= long_run_ranks) {
    return with_few_rows<long_run_ranks>(
        rank, [&](auto R) { sum_in_long_runs<R>(rows, next, count, fill, out, out_stride, into, n); });
  }
  if (count <= few_tokens) return few_rows_into_ranks(rows, count, fill, rank, out, out_stride, into, n);
  const bool packs = !many_registers && rank >= pack_ranks && packs_rows(rows, count, count);
  const Index chunk = packs ? Panel::features(count) : n;
  float c[gradient_coefficients];
  const Index most = gradient_coefficients / count;
  for (Index first = 0; first < rank; first += most) {
    const Index ranks = std::min(most, rank - first);
    in_output_groups<false>(ranks, count, [&](auto J, Index k) {
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
      Panel panel;
      const X* row[block_tokens];
      for (Index t = 0; t < count; ++t) row[t] = rows[t] + i;
      sum_panel_into_ranks(panel.copy(row, count, m), 0, count, c, ranks, to, out_stride, part, m);
    }
  }
}

/// For R ranks, n features from where B, v (into.factor, into.w), dB and dv point, and some tokens: h_t[k]
/// (+)= Σ (v ∘ B_k) dy_t, and with G_k = Σ_t c_t[k] dy_t, dv += Σ_k B_k ∘ G_k and dB_k += v ∘ G_k.
template <unsigned R, class P, class Dy>
void expand_backward_in_one_pass(const Dy* const* dy, Index next, const float* c, Index count,
                                 float* const* h, float* dB, Index db_stride, const IntoRanks<P>& into,
                                 Index n, bool add) {
  constexpr unsigned stride = sums_stride;
  alignas(64) float rows[R * stride], buffer[R * stride + page_floats];
  float* const sums = away_from(dy[0], buffer);
  for (unsigned k = 0; k < R; ++k) {
    scale(into.factor + k * into.factor_stride, into.w, 1, rows + k * stride, n);
    std::fill_n(sums + k * stride, n, 0.0f);
  }
  in_groups<one_pass_tokens>(0, count, [&](auto T, Index t) {
    one_pass_tile<R, T>(rows, dy + t, T * next, c + t * R, sums, stride, h + t, n, add);
  });
  sums_into_ranks<R>(sums, dB, db_stride, into, n);
}

/// The sums of du over unit after unit of tokens, rank numbers each.
inline float* du_of_units(const CallOptions& o) {
  void* scratch = o.scratch.data();
  std::size_t bytes = o.scratch.size();
  return scratch ? static_cast<float*>(std::align(alignof(float), sizeof(float), scratch, bytes)) : nullptr;
}

/// dhs has no memory where neither it nor du is wanted.
template <class P, class Dy>
void expand_backward(const Factors<const P>& f, const Tokens<const float>& h, const Tokens<const Dy>& dy,
                     const Factors<float>& gradient, const Tokens<float>& dhs, const CallOptions& o) {
  const bool wants_dh = !dhs.is_none();
  const bool shares_tokens = shares_tokens_backward(dy.count), adds_to_B_or_v = gradient.B || gradient.v;
  const Range tokens =
      shares_tokens ? detail::part_in_units(dy.count, du_tokens, o.slice) : Range{0, dy.count};
  const Range ranks = shares_tokens ? Range{0, f.rank} : detail::part_in_units(f.rank, dot_chains, o.slice);
  const Range features = detail::part_of_features(f.out_features, o.slice);
  const auto in_factor_pass = [&](auto T) {
    expand_backward_in_factor_pass<T>(f, h, dy, gradient, wants_dh ? &dhs : nullptr, o, ranks, features);
  };
  if (adds_to_B_or_v && dy.count == 1) return in_factor_pass(std::integral_constant<unsigned, 1>());
  if (adds_to_B_or_v && dy.count == 2 && f.rank > few_ranks)
    return in_factor_pass(std::integral_constant<unsigned, 2>());

  // Both passes over a block of dy: d = Bᵀ (v ∘ dy), and with S = c u ∘ h the sums G = dy Sᵀ, dB += v ∘ G,
  // dv += Σ_k B_k ∘ G_k. The first reads it from afar, row by row, for the second.
  const bool folds_rows = dy.count >= std::min(pack_tokens, f.rank);
  for (Index i = 0; i < f.out_features; i += backward_features) {
    const Index n = std::min(backward_features, f.out_features - i);
    const Range own = {std::max(i, features.begin), std::min(i + n, features.end)};
    const IntoRanks<P> into = {.w = f.v ? f.v + own.begin : nullptr,
                               .factor = f.B + own.begin,
                               .factor_stride = f.b_stride,
                               .product = gradient.v ? gradient.v + own.begin : nullptr,
                               .adds = gradient.B != nullptr};
    float* const dB = gradient.B ? gradient.B + own.begin : nullptr;
    for (Index first = 0; first < dy.count; first += block_tokens) {
      const Index count = std::min(block_tokens, dy.count - first);
      const Range own_tokens = {std::max(first, tokens.begin), std::min(first + count, tokens.end)};
      const Dy* rows[block_tokens];
      // Slices share the two passes in different ways.
      if (wants_dh && adds_to_B_or_v && f.rank <= one_pass_ranks && o.slice.nth == 1) {
        float *hs[block_tokens], c[block_tokens * one_pass_ranks];
        point_at(dy, first, count, i, rows);
        point_at(dhs, first, count, 0, hs);
        for (Index t = 0; t < count; ++t) fill_expand(f, h, o, first + t, 0, f.rank, c + t * f.rank);
        with_few_rows<one_pass_ranks>(f.rank, [&](auto R) {
          expand_backward_in_one_pass<R>(rows, next_from_afar(dy), c, count, hs, dB, gradient.b_stride, into,
                                         n, i > 0);
        });
        continue;
      }
      if (wants_dh && own_tokens.begin < own_tokens.end) {
        const Index own_count = own_tokens.end - own_tokens.begin;
        float* hs[block_tokens];
        point_at(dy, own_tokens.begin, own_count, i, rows);
        point_at(dhs, own_tokens.begin, own_count, 0, hs);
        dot_block<P>({f.B + i, f.b_stride, f.v ? f.v + i : nullptr}, folds_rows, ranks, rows,
                     next_from_afar(dy), hs, own_count, n, i > 0);
      }
      if (!adds_to_B_or_v || own.begin >= own.end) continue;
      point_at(dy, first, count, own.begin, rows);
      const auto fill = [&](Index t, Index k, Index m, float* c) {
        fill_expand(f, h, o, first + t, k, m, c);
      };
      sum_into_ranks(rows, 0, count, fill, f.rank, dB, gradient.b_stride, into, own.end - own.begin);
    }
  }

  if (!wants_dh) return;
  // dh = u ∘ c d, du += h ∘ c d
  float* const units = shares_tokens && o.slice.nth > 1 ? du_of_units(o) : nullptr;
  for (Index k = ranks.begin; k < ranks.end; k += panel_ranks) {
    const Index n = std::min(panel_ranks, ranks.end - k);
    const P* const u = f.u ? f.u + k : nullptr;
    for (Index first = tokens.begin; first < tokens.end; first += du_tokens) {
      const Index count = std::min(du_tokens, tokens.end - first);
      const float* hs[du_tokens] = {};
      float *to[du_tokens], c[du_tokens], du[panel_ranks];
      if (gradient.u) {
        point_at(h, first, count, k, hs);
        std::fill_n(du, n, 0.0f);
      }
      point_at(dhs, first, count, k, to);
      for (Index t = 0; t < count; ++t) c[t] = detail::token_scaling<float>(f, o, first + t);
      finish_dh(hs, u, c, gradient.u ? du : nullptr, to, count, n);
      if (!gradient.u) continue;
      if (units)
        std::copy_n(du, n, units + first / du_tokens * f.rank + k);
      else
        add_weighted(du, static_cast<const float*>(nullptr), gradient.u + k, n, false);
    }
  }
}

/// dA += dh xᵀ for every A among the modules that is trained; each block of x serves all of them.
template <class P, class X>
void add_gradients_of_A(std::span<const Factors<const P>> modules, const Tokens<const X>& x,
                        std::span<const Tokens<const float>> dh, std::span<const Factors<float>> gradients,
                        const CallOptions& o) {
  // Few tokens: whole rows of dA, as in expand_backward_one.
  const bool shares_ranks = !shares_tokens_backward(x.count);
  const Range features = shares_ranks ? Range{0, x.width} : detail::part_of_features(x.width, o.slice);
  const bool in_long_runs =
      std::ranges::all_of(modules, [](const auto& f) { return f.rank <= long_run_ranks; });
  const Index block = in_long_runs ? block_tokens : gradient_tokens;
  for (Index i = features.begin; i < features.end; i += backward_features) {
    const Index n = std::min(backward_features, features.end - i);
    for (Index first = 0; first < x.count; first += block) {
      const Index count = std::min(block, x.count - first);
      const X* rows[block_tokens];
      point_at(x, first, count, i, rows);
      for (std::size_t m = 0; m < modules.size(); ++m) {
        if (!gradients[m].A || first_with_same_A(modules, m) != m) continue;
        const Range ranks = shares_ranks ? detail::part_in_units(modules[m].rank, dot_chains, o.slice)
                                         : Range{0, modules[m].rank};
        if (ranks.begin == ranks.end) continue;
        const auto fill = [&](Index t, Index k, Index l, float* c) {
          fill_dh(modules, dh, m, first + t, ranks.begin + k, l, c);
        };
        const Index rank = ranks.end - ranks.begin, stride = gradients[m].a_stride;
        float* const dA = gradients[m].A + ranks.begin * stride + i;
        // One rank or two as well: sum_into_ranks adds those up in long runs, for the bits of one_pass_tile.
        if (count <= few_tokens)
          few_rows_into_ranks(rows, count, fill, rank, dA, stride, IntoRanks<P>{}, n);
        else
          sum_into_ranks(rows, next_from_afar(x), count, fill, rank, dA, stride, IntoRanks<P>{}, n);
      }
    }
  }
}

/// dx += Σ over the modules of Aᵀ dh: one sum over the rows of all different A.
template <class P, class Dx>
void add_dx(std::span<const Factors<const P>> modules, std::span<const Tokens<const float>> dh,
            const Tokens<Dx>& dx, const CallOptions& o) {
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
  const auto [tokens, features] = detail::shares_of_expand(dx.count, dx.width, o.slice);
  const auto fill = [&, first_token = tokens.begin](Index t, Index first, Index count, float* c) {
    for_parts(first, count, [&](std::size_t m, Index k, Index n, Index at) {
      fill_dh(modules, dh, m, first_token + t, k, n, c + at);
    });
  };
  sum_into_tokens<P>(rows, rank_of_all(modules), fill, static_cast<const P*>(nullptr),
                     dx.tokens(tokens.begin, tokens.end - tokens.begin), o.overwrite, features);
}

/// Both; x or dx may have no memory.
template <class P, class X, class Dx>
void shrink_backward(std::span<const Factors<const P>> modules, const Tokens<const X>& x,
                     std::span<const Tokens<const float>> dh, std::span<const Factors<float>> gradients,
                     const Tokens<Dx>& dx, const CallOptions& o) {
  const bool trains_A = std::ranges::any_of(gradients, [](const auto& g) { return g.A != nullptr; });
  const bool has_x = trains_A && !x.is_none(), wants_dx = !dx.is_none();
  bool made_dx = false;
  if (has_x) {
    if (x.count == 1) {
      made_dx = wants_dx && rank_of_all(modules) <= panel_ranks;
      shrink_backward_one(modules, x[0], dh, gradients, made_dx ? dx[0] : nullptr, o);
    } else {
      add_gradients_of_A<P>(modules, x, dh, gradients, o);
    }
  }
  if (wants_dx && !made_dx) add_dx<P>(modules, dh, dx, o);
}

}  // namespace TIEDLORA_ISA
}  // namespace cpu
TIEDLORA_END_NAMESPACE
