// Backward of a single token: a factor and its gradient go past once, in one pass that makes all that either
// half wants of them. Slices, which share ranks for gradients and features for outputs, make two.
#pragma once

#include <algorithm>    // clamp, copy_n, fill_n, min
#include <cstddef>      // size_t
#include <span>         // span
#include <type_traits>  // is_same, true_type

#include "forward.hpp"
#include "one_token.hpp"

namespace tiedlora {
inline namespace v1 {
namespace kernels {
inline namespace TIEDLORA_ISA {

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
    Vector d[detail::du_tokens];
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

/// Some ranks of a factor and its gradient in one pass; see one_token_rows. rows.c is fill(k, n, c)'s, which
/// writes the coefficients of the ranks from k on. Null pointers: not wanted.
template <class P, class Fill>
void one_token_pass(const OneTokenRows<P>& rows, Range ranks, const Fill& fill, const float* e, float* z,
                    float* dots, Index n) {
  for (Index first = ranks.begin; first < ranks.end; first += panel_ranks) {
    const Index count = std::min(panel_ranks, ranks.end - first);
    float c[panel_ranks];
    fill(first, count, c);
    in_groups<one_token_group>(0, count, [&](auto K, Index k) {
      OneTokenRows<P> some = rows;
      some.rows += (first + k) * rows.stride;
      some.c = c + k;
      if (rows.gradient) some.gradient += (first + k) * rows.gradient_stride;
      choose(
          [&](auto has_dots, auto has_z, auto has_gradient) {
            if constexpr (has_dots || has_z || has_gradient)
              one_token_rows<K, has_dots, has_z, has_gradient>(some, e, z, dots ? dots + first + k : nullptr,
                                                               n);
          },
          dots != nullptr, z != nullptr, rows.gradient != nullptr);
    });
  }
}

/// On n features of a factor: `ranks` of its gradient and of the dots, and z from all `rank` of them on the
/// features `own`. One pass makes it all for a whole call. A slice takes two, and rows of the gradient whole:
/// a part of every row would come from another core's cache.
template <class P, class Fill>
void one_token_passes(const OneTokenRows<P>& rows, Index rank, Range ranks, Range own, const Fill& fill,
                      const float* e, float* z, float* dots, Index n) {
  const bool whole = ranks.end - ranks.begin == rank && own.end - own.begin == n;
  float* const whole_z = whole ? z : nullptr;
  if (dots || rows.gradient || whole_z) one_token_pass(rows, ranks, fill, e, whole_z, dots, n);
  if (whole || !z) return;
  OneTokenRows<P> part = rows;
  part.rows += own.begin;
  part.gradient = nullptr;
  one_token_pass(part, {0, rank}, fill, nullptr, z + own.begin, nullptr, own.end - own.begin);
}

/// Those of the n features from i on that are in `features`, counted from i.
inline Range own_part(Range features, Index i, Index n) {
  const Index begin = std::clamp(features.begin - i, Index{0}, n);
  return {begin, std::clamp(features.end - i, begin, n)};
}

/// expand_backward for one token, where B or v is trained; dh may be null. One call does all, or a slice its
/// ranks of dh and dB and its features of dv.
template <class P, class Dy>
void expand_backward_one(const Factors<const P>& f, const float* h, const Dy* dy,
                         const Factors<float>& gradient, float* dh, float c, Range ranks, Range features) {
  // Without v the other side takes c, and dy is used as it is.
  const float c_of_h = f.v ? 1 : c;
  const auto fill = [&](Index k, Index n, float* s) { scale(h + k, f.u ? f.u + k : nullptr, c_of_h, s, n); };
  if (dh) std::fill_n(dh + ranks.begin, ranks.end - ranks.begin, 0.0f);
  for (Index i = 0; i < f.out_features; i += backward_features) {
    const Index n = std::min(backward_features, f.out_features - i);
    const Range own = own_part(features, i, n);
    const Index own_n = own.end - own.begin;
    alignas(64) float buffer[backward_features], z[backward_features];
    const float* e = buffer;
    if (!f.v)
      e = in_floats(dy + i, buffer, n);
    else if (dh || gradient.B)
      scale(dy + i, f.v + i, c, buffer, n);
    const bool wants_z = gradient.v && own_n > 0;
    if (wants_z) std::fill_n(z + own.begin, own_n, 0.0f);
    const OneTokenRows<P> rows = {.rows = f.B + i,
                                  .stride = f.b_stride,
                                  .c = nullptr,
                                  .gradient = gradient.B ? gradient.B + i : nullptr,
                                  .gradient_stride = gradient.b_stride};
    one_token_passes(rows, f.rank, ranks, own, fill, e, wants_z ? z : nullptr, dh, n);
    // dv += c dy ∘ z
    if (wants_z) add_products(z + own.begin, dy + i + own.begin, c, gradient.v + i + own.begin, own_n);
  }
  if (!dh) return;
  const auto from = [&](auto* p) { return p ? p + ranks.begin : nullptr; };
  h = from(h);
  dh = from(dh);
  finish_dh(&h, from(f.u), &c_of_h, from(gradient.u), &dh, 1, ranks.end - ranks.begin);
}

/// c[i] = dh[k + i] of token t, summed over the modules from m on that share m's A.
template <class Modules, class Dhs>
TIEDLORA_INLINE void fill_dh(const Modules& modules, const Dhs& dh, std::size_t m, Index t, Index k, Index n,
                             float* c) {
  std::copy_n(dh[m][t] + k, n, c);
  for (std::size_t other = m + 1; other < modules.size(); ++other)
    if (detail::first_with_same_A(modules, other) == m)
      for (Index i = 0; i < n; ++i) c[i] += dh[other][t][k + i];
}

/// Of all different A together.
template <class Modules>
Index rank_of_all(const Modules& modules) {
  Index rank = 0;
  for (std::size_t m = 0; m < modules.size(); ++m)
    if (detail::first_with_same_A(modules, m) == m) rank += modules[m].rank;
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
    const float* const e = in_floats(x + i, buffer, n);
    const bool wants_z = dx && own_n > 0;
    float* z = wants_z ? sums : nullptr;
    if constexpr (std::is_same_v<Dx, float>)
      if (wants_z && !adds_sum) z = dx + i;
    if (wants_z && from_zero)
      std::fill_n(z + own.begin, own_n, 0.0f);
    else if (z == sums)
      scale(dx + i + own.begin, static_cast<const P*>(nullptr), 1, z + own.begin, own_n);
    for (std::size_t m = 0; m < modules.size(); ++m) {
      if (modules[m].rank == 0 || detail::first_with_same_A(modules, m) != m) continue;
      const auto fill = [&](Index k, Index l, float* c) { fill_dh(modules, dh, m, 0, k, l, c); };
      const OneTokenRows<P> rows = {.rows = modules[m].A + i,
                                    .stride = modules[m].a_stride,
                                    .c = nullptr,
                                    .gradient = gradients[m].A ? gradients[m].A + i : nullptr,
                                    .gradient_stride = gradients[m].a_stride};
      one_token_passes(rows, modules[m].rank, detail::part_in_units(modules[m].rank, dot_chains, o.slice),
                       own, fill, e, z, nullptr, n);
    }
    if (z == sums)
      add_weighted(z + own.begin, static_cast<const P*>(nullptr), dx + i + own.begin, own_n, !adds_sum);
  }
}

}  // namespace TIEDLORA_ISA
}  // namespace kernels
}  // namespace v1
}  // namespace tiedlora
