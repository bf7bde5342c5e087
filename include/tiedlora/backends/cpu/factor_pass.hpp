// Backward of one token or two: a factor and its gradient go past once, in one pass that makes all that
// either half wants of them. Slices, which share ranks for gradients and features for outputs, make two.
#pragma once

#include <algorithm>    // clamp, copy_n, fill_n, min
#include <cstddef>      // size_t
#include <span>         // span
#include <type_traits>  // is_same, true_type

#include "factor_rows.hpp"
#include "forward.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace cpu {
inline namespace TIEDLORA_ISA {

/// du is summed over this many tokens before it is added up.
inline constexpr Index du_tokens = 16;
inline bool shares_tokens_backward(Index tokens) { return tokens > du_tokens; }

/// x, in a buffer if it has to be widened.
template <class X>
const float* in_floats(const X* x, float* buffer, Index n) {
  if constexpr (std::is_same_v<X, float>) return x;
  scale(x, static_cast<const float*>(nullptr), 1, buffer, n);
  return buffer;
}

/// out += c · a ∘ b
template <class X>
TIEDLORA_INLINE void add_products(const float* a, const X* b, float c, float* out, Index n) {
  in_vectors(n, [&](const auto& io, Index i) __attribute__((always_inline)) {
    io.store(out + i, multiply_add(io.load(a + i) * c, io.load(b + i), io.load(out + i)));
  });
}

/// d_t = c_t dh_t, du += Σ_t h_t ∘ d_t, dh_t = u ∘ d_t for `count` <= du_tokens tokens and n ranks. du may be
/// null. All of dh is loaded before any is stored: where ranks are few, one vector reaches into the next
/// token, and a load from behind part of a vector waits until that has been written to the cache.
template <class P>
void finish_dh(const float* const* h, const P* u, const float* c, float* du, float* const* dh, Index count,
               Index n) {
  in_vectors(n, [&](const auto& io, Index i) __attribute__((always_inline)) {
    Vector d[du_tokens];
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

/// Some ranks of a factor and its gradient in one pass; see factor_rows. fill(t, k, n, c) writes the
/// coefficients of token t and the ranks from k on.
template <class P, unsigned T, class Fill>
void factor_pass(const FactorRows<P>& rows, const FactorTokens<T>& tokens, Range ranks, const Fill& fill,
                 Index n) {
  if (!tokens.dots[0] && !tokens.z[0] && !rows.gradient) return;
  for (Index first = ranks.begin; first < ranks.end; first += panel_ranks) {
    const Index count = std::min(panel_ranks, ranks.end - first);
    float c[T][panel_ranks];
    for (unsigned t = 0; t < T; ++t) fill(t, first, count, c[t]);
    in_groups<factor_group>(0, count, [&](auto K, Index k) {
      FactorRows<P> some = rows;
      some.rows += (first + k) * rows.stride;
      if (rows.gradient) some.gradient += (first + k) * rows.gradient_stride;
      FactorTokens<T> of = tokens;
      for (unsigned t = 0; t < T; ++t) {
        of.c[t] = c[t] + k;
        if (of.dots[t]) of.dots[t] += first + k;
      }
      choose(
          [&](auto has_dots, auto has_z, auto has_gradient) {
            if constexpr (has_dots || has_z || has_gradient)
              factor_rows<K, T, has_dots, has_z, has_gradient>(some, of, n);
          },
          of.dots[0] != nullptr, of.z[0] != nullptr, some.gradient != nullptr);
    });
  }
}

/// On n features of a factor: `ranks` of its gradient and of the dots, and z from all `rank` of them on the
/// features `own`. One pass makes it all for a whole call. A slice takes two, and rows of the gradient whole:
/// a part of every row would come from another core's cache.
template <class P, unsigned T, class Fill>
void factor_passes(const FactorRows<P>& rows, const FactorTokens<T>& tokens, Index rank, Range ranks,
                   Range own, const Fill& fill, Index n) {
  if (ranks.end - ranks.begin == rank && own.end - own.begin == n)
    return factor_pass(rows, tokens, ranks, fill, n);
  FactorTokens<T> for_ranks = tokens, for_features = {};
  for (unsigned t = 0; t < T; ++t) {
    for_ranks.z[t] = nullptr;
    if (tokens.z[t]) for_features.z[t] = tokens.z[t] + own.begin;
  }
  factor_pass(rows, for_ranks, ranks, fill, n);
  const FactorRows<P> part = {rows.rows + own.begin, rows.stride, nullptr, 0};
  factor_pass(part, for_features, {0, rank}, fill, own.end - own.begin);
}

/// Those of the n features from i on that are in `features`, counted from i.
inline Range own_part(Range features, Index i, Index n) {
  const Index begin = std::clamp(features.begin - i, Index{0}, n);
  return {begin, std::clamp(features.end - i, begin, n)};
}

/// expand_backward for T tokens, where B or v is trained; dh may be null. One call does all, or a slice its
/// ranks of dh and dB and its features of dv.
template <unsigned T, class P, class Dy>
void expand_backward_in_factor_pass(const Factors<const P>& f, const Tokens<const float>& h,
                                    const Tokens<const Dy>& dy, const Factors<float>& gradient,
                                    const Tokens<float>* dh, const CallOptions& o, Range ranks,
                                    Range features) {
  FactorTokens<T> tokens = {};
  float c[T], c_of_h[T];
  for (unsigned t = 0; t < T; ++t) {
    c[t] = detail::token_scaling<float>(f, o, t);
    // Without v the other side takes c, and dy is used as it is.
    c_of_h[t] = f.v ? 1 : c[t];
    if (!dh) continue;
    tokens.dots[t] = (*dh)[t];
    std::fill_n(tokens.dots[t] + ranks.begin, ranks.end - ranks.begin, 0.0f);
  }
  const auto fill = [&](Index t, Index k, Index n, float* s) {
    scale(h[t] + k, f.u ? f.u + k : nullptr, c_of_h[t], s, n);
  };
  for (Index i = 0; i < f.out_features; i += backward_features) {
    const Index n = std::min(backward_features, f.out_features - i);
    const Range own = own_part(features, i, n);
    const Index own_n = own.end - own.begin;
    alignas(64) float e[T][backward_features], z[T][backward_features];
    const bool wants_z = gradient.v && own_n > 0;
    for (unsigned t = 0; t < T; ++t) {
      tokens.e[t] = e[t];
      if (!f.v)
        tokens.e[t] = in_floats(dy[t] + i, e[t], n);
      else if (dh || gradient.B)
        scale(dy[t] + i, f.v + i, c[t], e[t], n);
      if (!wants_z) continue;
      tokens.z[t] = z[t];
      std::fill_n(z[t] + own.begin, own_n, 0.0f);
    }
    const FactorRows<P> rows = {.rows = f.B + i,
                                .stride = f.b_stride,
                                .gradient = gradient.B ? gradient.B + i : nullptr,
                                .gradient_stride = gradient.b_stride};
    factor_passes(rows, tokens, f.rank, ranks, own, fill, n);
    // dv += Σ_t c_t dy_t ∘ z_t
    for (unsigned t = 0; t < T && wants_z; ++t)
      add_products(z[t] + own.begin, dy[t] + i + own.begin, c[t], gradient.v + i + own.begin, own_n);
  }
  if (!dh) return;
  const auto from = [&](auto* p) { return p ? p + ranks.begin : nullptr; };
  const float* hs[T];
  for (unsigned t = 0; t < T; ++t) {
    hs[t] = from(h[t]);
    tokens.dots[t] = from(tokens.dots[t]);
  }
  finish_dh(hs, from(f.u), c_of_h, from(gradient.u), tokens.dots, T, ranks.end - ranks.begin);
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

/// dA of shrink_backward for one token, and dx unless that is null, with the bits of add_dx. (For dx, all A
/// together have at most panel_ranks ranks.)
template <class P, class X, class Dx>
void shrink_backward_one(std::span<const Factors<const P>> modules, const X* x,
                         std::span<const Tokens<const float>> dh, std::span<const Factors<float>> gradients,
                         Dx* dx, const CallOptions& o) {
  const Index width = modules[0].in_features;
  const Range features = detail::part_of_features(width, o.slice);
  // As add_dx: few rows are added to dx one by one, the sum of many when it is complete.
  const bool adds_sum = !o.overwrite && rank_of_all(modules) > few_ranks, from_zero = o.overwrite || adds_sum;
  for (Index i = 0; i < width; i += backward_features) {
    const Index n = std::min(backward_features, width - i);
    const Range own = own_part(features, i, n);
    const Index own_n = own.end - own.begin;
    alignas(64) float buffer[backward_features], sums[backward_features];
    const bool wants_z = dx && own_n > 0;
    FactorTokens<1> token = {.e = {in_floats(x + i, buffer, n)}, .z = {}, .dots = {}, .c = {}};
    float*& z = token.z[0];
    if (wants_z) z = sums;
    if constexpr (std::is_same_v<Dx, float>)
      if (wants_z && !adds_sum) z = dx + i;
    if (wants_z && from_zero)
      std::fill_n(z + own.begin, own_n, 0.0f);
    else if (z == sums)
      scale(dx + i + own.begin, static_cast<const P*>(nullptr), 1, z + own.begin, own_n);
    for (std::size_t m = 0; m < modules.size(); ++m) {
      if (modules[m].rank == 0 || first_with_same_A(modules, m) != m) continue;
      const auto fill = [&](Index t, Index k, Index l, float* c) { fill_dh(modules, dh, m, t, k, l, c); };
      const FactorRows<P> rows = {.rows = modules[m].A + i,
                                  .stride = modules[m].a_stride,
                                  .gradient = gradients[m].A ? gradients[m].A + i : nullptr,
                                  .gradient_stride = gradients[m].a_stride};
      const Range ranks = detail::part_in_units(modules[m].rank, dot_chains, o.slice);
      factor_passes(rows, token, modules[m].rank, ranks, own, fill, n);
    }
    if (z == sums)
      add_weighted(z + own.begin, static_cast<const P*>(nullptr), dx + i + own.begin, own_n, !adds_sum);
  }
}

}  // namespace TIEDLORA_ISA
}  // namespace cpu
TIEDLORA_END_NAMESPACE
