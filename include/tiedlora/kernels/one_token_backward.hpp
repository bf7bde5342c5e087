// Backward of a single token: a factor and its gradient go past once, in one pass that makes all that either
// half wants of them. Slices, which share ranks for gradients and features for outputs, make two.
#pragma once

#include <algorithm>    // copy_n, fill_n, max, min
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

/// d = c · dh, du += h ∘ d, dh = u ∘ d for one token. du may be null.
template <class P>
TIEDLORA_INLINE void finish_dh(const float* h, const P* u, float c, float* du, float* dh, Index n) {
  in_vectors(n, [&](const auto& io, Index i) __attribute__((always_inline)) {
    const Vector d = io.load(dh + i) * c;
    if (du) io.store(du + i, multiply_add(io.load(h + i), d, io.load(du + i)));
    io.store(dh + i, u ? io.load(u + i) * d : d);
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
            one_token_rows<K, has_dots, has_z, has_gradient>(some, e, z, dots ? dots + first + k : nullptr,
                                                             n);
          },
          dots != nullptr, z != nullptr, rows.gradient != nullptr);
    });
  }
}

/// expand_backward for one token, where B or v is trained; dh may be null. One call does all, or a slice its
/// ranks of dh and dB and its features of dv.
template <class P, class Dy>
void expand_backward_one(const Factors<const P>& f, const float* h, const Dy* dy,
                         const Factors<float>& gradient, float* dh, float c, Range ranks, Range features) {
  const bool is_whole = ranks.end - ranks.begin == f.rank && features.end - features.begin == f.out_features;
  // Without v the other side takes c, and dy is used as it is.
  const float c_of_h = f.v ? 1 : c;
  const auto fill = [&](Index k, Index n, float* s) { scale(h + k, f.u ? f.u + k : nullptr, c_of_h, s, n); };
  if (dh) std::fill_n(dh + ranks.begin, ranks.end - ranks.begin, 0.0f);
  for (Index i = 0; i < f.out_features; i += backward_features) {
    const Index n = std::min(backward_features, f.out_features - i);
    const Range own = {std::max(i, features.begin), std::min(i + n, features.end)};
    const bool wants_z = gradient.v && own.begin < own.end;
    alignas(64) float buffer[backward_features], z[backward_features];
    float* const own_z = wants_z ? z + (own.begin - i) : nullptr;
    const float* e = buffer;
    if (!f.v)
      e = in_floats(dy + i, buffer, n);
    else if (dh || gradient.B)
      scale(dy + i, f.v + i, c, buffer, n);
    if (wants_z) std::fill_n(z, n, 0.0f);
    OneTokenRows<P> rows = {.rows = f.B + i,
                            .stride = f.b_stride,
                            .c = nullptr,
                            .gradient = gradient.B ? gradient.B + i : nullptr,
                            .gradient_stride = gradient.b_stride};
    // A slice has whole rows of dB: a part of every row would be taken from another core's cache.
    if (dh || gradient.B || is_whole) one_token_pass(rows, ranks, fill, e, is_whole ? own_z : nullptr, dh, n);
    if (!wants_z) continue;
    if (!is_whole) {
      rows.rows += own.begin - i;
      rows.gradient = nullptr;
      one_token_pass(rows, {0, f.rank}, fill, nullptr, own_z, nullptr, own.end - own.begin);
    }
    // dv += c dy ∘ z
    add_products(own_z, dy + own.begin, c, gradient.v + own.begin, own.end - own.begin);
  }
  const auto from = [&](auto* p) { return p ? p + ranks.begin : nullptr; };
  if (dh) finish_dh(from(h), from(f.u), c_of_h, from(gradient.u), from(dh), ranks.end - ranks.begin);
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
  const bool is_whole = o.slice.nth == 1;
  // As add_dx: few rows are added to dx one by one, the sum of many when it is complete.
  const bool adds_sum = !o.overwrite && rank_of_all(modules) > few_ranks;
  const bool in_place = std::is_same_v<Dx, float> && !adds_sum;
  for (Index i = 0; i < width; i += backward_features) {
    const Index n = std::min(backward_features, width - i);
    const Range own = {std::max(i, features.begin), std::min(i + n, features.end)};
    const Index own_n = own.end - own.begin;
    const bool wants_z = dx && own_n > 0;
    alignas(64) float buffer[backward_features], z[backward_features];
    const float* const e = in_floats(x + i, buffer, n);
    float* own_z = nullptr;
    if (wants_z) {
      own_z = z + (own.begin - i);
      if constexpr (std::is_same_v<Dx, float>)
        if (in_place) own_z = dx + own.begin;
      if (o.overwrite || adds_sum)
        std::fill_n(own_z, own_n, 0.0f);
      else if (!in_place)
        scale(dx + own.begin, static_cast<const P*>(nullptr), 1, own_z, own_n);
    }
    for (std::size_t m = 0; m < modules.size(); ++m) {
      if (modules[m].rank == 0 || detail::first_with_same_A(modules, m) != m) continue;
      const auto fill = [&](Index k, Index l, float* c) { fill_dh(modules, dh, m, 0, k, l, c); };
      const Range ranks = detail::part_in_units(modules[m].rank, dot_chains, o.slice);
      OneTokenRows<P> rows = {.rows = modules[m].A + i,
                              .stride = modules[m].a_stride,
                              .c = nullptr,
                              .gradient = gradients[m].A ? gradients[m].A + i : nullptr,
                              .gradient_stride = gradients[m].a_stride};
      if (rows.gradient || (is_whole && wants_z))
        one_token_pass(rows, ranks, fill, e, is_whole ? own_z : nullptr, nullptr, n);
      if (is_whole || !wants_z) continue;
      rows.rows += own.begin - i;
      rows.gradient = nullptr;
      one_token_pass(rows, {0, modules[m].rank}, fill, nullptr, own_z, nullptr, own_n);
    }
    if (wants_z && !in_place)
      add_weighted(own_z, static_cast<const P*>(nullptr), dx + own.begin, own_n, !adds_sum);
  }
}

}  // namespace TIEDLORA_ISA
}  // namespace kernels
}  // namespace v1
}  // namespace tiedlora
