// shrink_backward on micro-kernels, for several modules with one x: each block of x and dx serves all of
// them.
#pragma once

#include <cstddef>  // size_t
#include <span>     // span

#include "../../views/factors.hpp"
#include "../../views/options.hpp"
#include "../../views/tokens.hpp"
#include "expand.hpp"
#include "sum_into_ranks.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace cpu {
inline namespace TIEDLORA_ISA {

/// c[i] = dh[k + i] of token t, summed over the modules (or gradients) from m on that share m's A.
template <class Modules, class Dhs>
TIEDLORA_INLINE void fill_dh(const Modules& modules, const Dhs& dh, std::size_t m, Index t, Index k, Index n,
                             float* c) {
  for (Index i = 0; i < n; ++i) c[i] = dh[m][t][k + i];
  for (std::size_t other = m + 1; other < modules.size(); ++other)
    if (first_with_same_A(modules, other) == m)
      for (Index i = 0; i < n; ++i) c[i] += dh[other][t][k + i];
}

/// dA += dh xᵀ for every gradient of an A that is wanted; each block of x serves all of them.
template <class P, class X>
void add_gradients_of_A(const Tokens<const X>& x, std::span<const Tokens<const float>> dh,
                        std::span<const Factors<float>> gradients) {
  for (Index i = 0; i < x.width; i += backward_features) {
    const Index n = smaller(backward_features, x.width - i);
    for (Index first = 0; first < x.count; first += gradient_tokens) {
      const Index count = smaller(gradient_tokens, x.count - first);
      const X* rows[gradient_tokens];
      point_at(x, first, count, i, rows);
      for (std::size_t m = 0; m < gradients.size(); ++m) {
        if (!gradients[m].A || first_with_same_A(gradients, m) != m) continue;
        const auto fill = [&](Index t, Index k, Index l, float* c) {
          fill_dh(gradients, dh, m, first + t, k, l, c);
        };
        const IntoRanks<P> into = {gradients[m].A + i, gradients[m].a_stride};
        sum_into_ranks(rows, next_from_afar(x), count, fill, gradients[m].rank, into, n);
      }
    }
  }
}

/// dx += Σ over the modules of Aᵀ dh: one sum over the rows of all different A.
template <class P, class Dx>
void add_dx(std::span<const Factors<const P>> modules, std::span<const Tokens<const float>> dh,
            const Tokens<Dx>& dx, bool overwrite) {
  // Calls body(m, k, n, at) for the part [k, k + n) of each A that falls into the ranks [first, first +
  // count) of all of them, with its position `at` in that range.
  const auto for_parts = [&](Index first, Index count, const auto& body) {
    Index begin = 0;
    for (std::size_t m = 0; m < modules.size(); ++m) {
      if (modules[m].rank == 0 || first_with_same_A(modules, m) != m) continue;
      const Index from = larger(first, begin), to = smaller(first + count, begin + modules[m].rank);
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
  Index rank = 0;
  for (std::size_t m = 0; m < modules.size(); ++m)
    if (first_with_same_A(modules, m) == m) rank += modules[m].rank;
  sum_into_tokens<P>(rows, rank, TokenSums<P, Dx, decltype(fill)>{dx, overwrite, {}, fill}, {0, dx.width});
}

/// Both; x or dx may be null.
template <class P, class X, class Dx>
void shrink_backward(std::span<const Factors<const P>> modules, const Tokens<const X>& x,
                     std::span<const Tokens<const float>> dh, std::span<const Factors<float>> gradients,
                     const Tokens<Dx>& dx, const CallOptions& o) {
  if (!x.is_none()) add_gradients_of_A<P>(x, dh, gradients);
  if (!dx.is_none()) add_dx<P>(modules, dh, dx, o.overwrite);
}

}  // namespace TIEDLORA_ISA
}  // namespace cpu
TIEDLORA_END_NAMESPACE
