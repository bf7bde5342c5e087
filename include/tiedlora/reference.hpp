// The mathematics of one module in plain loops, forward above backward: the reference that every faster
// version must match, and the path of every scalar that has none.
//
//   x in×T   h = A·(mask ∘ x) r×T   y += c ∘ v ∘ B·(u ∘ h) out×T       c_t = scaling · scale · token_scale_t
//   A r×in   B out×r   u r   v out (absent: ones)            arXiv 2311.09578; VeRA's formula, arXiv
//   2310.11454
//
// For a loss L write dy for ∂L/∂y and so on. For one token (those of A, B, u, v add up over tokens):
//   e = c v ∘ dy       dB += e (u ∘ h)ᵀ       dv += c dy ∘ B (u ∘ h)
//   d = Bᵀ e           du += h ∘ d            dh = u ∘ d
//   dA += dh (mask ∘ x)ᵀ                      dx += mask ∘ Aᵀ dh
//
// Every function works token by token, so T tokens at once give the bits of T calls of one token each; sums
// run over features in blocks, then over ranks, in that fixed order. Operands have been checked
// (forward_backward.hpp).
#pragma once

#include <algorithm>  // fill_n, min

#include "calls.hpp"
#include "config.hpp"
#include "dropout.hpp"
#include "factors.hpp"
#include "options.hpp"
#include "scalar.hpp"
#include "tokens.hpp"

namespace tiedlora {
inline namespace v1 {
namespace reference {
inline namespace TIEDLORA_ISA {

using detail::part_of, detail::Range;

inline constexpr Index block_features = 256;  // features are converted and summed in blocks of this many

/// Σ_i a_i x_i. Sixteen partial sums: an order that is ours rather than the compiler's, and that fits its
/// vector registers.
template <class Acc, class P>
Acc dot(const P* __restrict a, const Acc* __restrict x, Index n) {
  constexpr Index lanes = 16;
  Acc sums[lanes];
  std::fill_n(sums, lanes, Acc(0));  // a scalar of the user's own need not start at zero
  Index i = 0;
  for (; i + lanes <= n; i += lanes)
    for (Index l = 0; l < lanes; ++l) sums[l] += static_cast<Acc>(a[i + l]) * x[i + l];
  for (Index l = 0; i + l < n; ++l) sums[l] += static_cast<Acc>(a[i + l]) * x[i + l];
  for (Index half = lanes / 2; half > 0; half /= 2)
    for (Index l = 0; l < half; ++l) sums[l] += sums[l + half];
  return sums[0];
}

/// out_i += c a_i
template <class Acc, class P>
void add_scaled(const Acc& c, const P* __restrict a, Acc* __restrict out, Index n) {
  for (Index i = 0; i < n; ++i) out[i] += c * static_cast<Acc>(a[i]);
}

/// Features [begin, begin + n) of mask ∘ x for token t.
template <class Acc, class T>
void load_input(const Tokens<const T>& x, Index t, Index begin, Index n, const Dropout& dropout, Acc* out) {
  const T* from = x[t] + begin;
  for (Index i = 0; i < n; ++i) out[i] = static_cast<Acc>(from[i]);
  if (dropout.probability == 0) return;
  const detail::DropoutMask mask(dropout, t);
  for (Index i = 0; i < n; ++i) out[i] *= static_cast<Acc>(mask(begin + i));
}

/// to = to + values, or = values; rounded once.
template <class Acc, class T>
void store(const Acc* values, Index n, bool overwrite, T* to) {
  using Sum = sum_t<Acc, T>;
  for (Index i = 0; i < n; ++i)
    to[i] = overwrite ? static_cast<T>(values[i])
                      : static_cast<T>(static_cast<Sum>(to[i]) + static_cast<Sum>(values[i]));
}

/// h = A·(mask ∘ x)
template <class P, class X, class Acc>
void shrink(const Factors<P>& f, const Tokens<const X>& x, const Tokens<Acc>& h, const CallOptions& o) {
  const auto [tokens, ranks] = detail::shares_of_shrink(x.count, f.rank, o.slice);
  for (Index t = tokens.begin; t < tokens.end; ++t) {
    std::fill(h[t] + ranks.begin, h[t] + ranks.end, Acc(0));
    for (Index i = 0; i < f.in_features; i += block_features) {
      const Index n = std::min(block_features, f.in_features - i);
      Acc block[block_features];
      load_input(x, t, i, n, o.dropout, block);
      for (Index k = ranks.begin; k < ranks.end; ++k) h[t][k] += dot(f.A + k * f.a_stride + i, block, n);
    }
  }
}

/// y += c ∘ v ∘ B·(u ∘ h)
template <class P, class Acc, class Y>
void expand(const Factors<P>& f, const Tokens<const Acc>& h, const Tokens<Y>& y, const CallOptions& o) {
  const Range features = part_of(f.out_features, o.slice);
  for (Index t = 0; t < h.count; ++t) {
    const Acc c = detail::token_scaling<Acc>(f, o, t);
    for (Index i = features.begin; i < features.end; i += block_features) {
      const Index n = std::min(block_features, features.end - i);
      Acc block[block_features];
      std::fill_n(block, n, Acc(0));
      for (Index k = 0; k < f.rank; ++k) {
        const Acc ch = c * h[t][k];
        add_scaled(f.u ? ch * static_cast<Acc>(f.u[k]) : ch, f.B + k * f.b_stride + i, block, n);
      }
      if (f.v)
        for (Index j = 0; j < n; ++j) block[j] *= static_cast<Acc>(f.v[i + j]);
      store(block, n, o.overwrite, y[t] + i);
    }
  }
}

/// dh = u ∘ d, dB += e (u ∘ h)ᵀ, du += h ∘ d, dv += c dy ∘ B (u ∘ h)
/// dh may be none where neither it nor du is wanted.
template <class P, class Acc, class Dy, class Dh>
void expand_backward(const Factors<P>& f, const Tokens<const Acc>& h, const Tokens<const Dy>& dy,
                     const Factors<Acc>& gradient, const Dh& dh, const CallOptions& o) {
  // A slice has its own ranks of dh and du and its own features of dB and dv: no two slices write to one
  // place.
  const Range ranks = part_of(f.rank, o.slice);
  const Range features = part_of(f.out_features, o.slice);
  for (Index t = 0; t < dy.count; ++t) {
    const Acc c = detail::token_scaling<Acc>(f, o, t);
    Acc e[block_features];  // c v ∘ dy
    const auto load_e = [&](Index begin, Index n) {
      for (Index j = 0; j < n; ++j) e[j] = c * static_cast<Acc>(dy[t][begin + j]);
      if (f.v)
        for (Index j = 0; j < n; ++j) e[j] *= static_cast<Acc>(f.v[begin + j]);
    };

    if constexpr (!detail::is_none<Dh>) {
      std::fill(dh[t] + ranks.begin, dh[t] + ranks.end, Acc(0));
      for (Index i = 0; i < f.out_features; i += block_features) {
        const Index n = std::min(block_features, f.out_features - i);
        load_e(i, n);
        for (Index k = ranks.begin; k < ranks.end; ++k) dh[t][k] += dot(f.B + k * f.b_stride + i, e, n);
      }
      for (Index k = ranks.begin; k < ranks.end; ++k) {
        if (gradient.u) gradient.u[k] += h[t][k] * dh[t][k];
        if (f.u) dh[t][k] *= static_cast<Acc>(f.u[k]);
      }
    }

    if (!gradient.B && !gradient.v) continue;
    for (Index i = features.begin; i < features.end; i += block_features) {
      const Index n = std::min(block_features, features.end - i);
      load_e(i, n);
      Acc z[block_features];  // B (u ∘ h)
      std::fill_n(z, n, Acc(0));
      for (Index k = 0; k < f.rank; ++k) {
        const Acc uh = f.u ? static_cast<Acc>(f.u[k]) * h[t][k] : h[t][k];
        if (gradient.B) add_scaled(uh, e, gradient.B + k * gradient.b_stride + i, n);
        if (gradient.v) add_scaled(uh, f.B + k * f.b_stride + i, z, n);
      }
      if (gradient.v)
        for (Index j = 0; j < n; ++j) gradient.v[i + j] += c * static_cast<Acc>(dy[t][i + j]) * z[j];
    }
  }
}

/// dA += dh (mask ∘ x)ᵀ
template <class P, class X, class Acc>
void add_gradient_of_A(const Factors<P>& f, const Tokens<const X>& x, const Tokens<const Acc>& dh,
                       const Factors<Acc>& gradient, const CallOptions& o) {
  const Range features = part_of(f.in_features, o.slice);
  for (Index t = 0; t < dh.count; ++t)
    for (Index i = features.begin; i < features.end; i += block_features) {
      const Index n = std::min(block_features, features.end - i);
      Acc block[block_features];
      load_input(x, t, i, n, o.dropout, block);
      for (Index k = 0; k < f.rank; ++k)
        add_scaled(dh[t][k], block, gradient.A + k * gradient.a_stride + i, n);
    }
}

/// dx += mask ∘ Aᵀ dh
template <class P, class Acc, class Dx>
void add_dx(const Factors<P>& f, const Tokens<const Acc>& dh, const Tokens<Dx>& dx, const CallOptions& o) {
  const Range features = part_of(f.in_features, o.slice);
  for (Index t = 0; t < dh.count; ++t)
    for (Index i = features.begin; i < features.end; i += block_features) {
      const Index n = std::min(block_features, features.end - i);
      Acc block[block_features];
      std::fill_n(block, n, Acc(0));
      for (Index k = 0; k < f.rank; ++k) add_scaled(dh[t][k], f.A + k * f.a_stride + i, block, n);
      if (o.dropout.probability != 0) {
        const detail::DropoutMask mask(o.dropout, t);
        for (Index j = 0; j < n; ++j) block[j] *= static_cast<Acc>(mask(i + j));
      }
      store(block, n, o.overwrite, dx[t] + i);
    }
}

/// dA and dx; x or dx may be none.
template <class P, class X, class Acc, class Dx>
void shrink_backward(const Factors<P>& f, const X& x, const Tokens<const Acc>& dh,
                     const Factors<Acc>& gradient, const Dx& dx, const CallOptions& o) {
  if constexpr (!detail::is_none<X>)
    if (gradient.A) add_gradient_of_A(f, x, dh, gradient, o);
  if constexpr (!detail::is_none<Dx>) add_dx(f, dh, dx, o);
}

}  // namespace TIEDLORA_ISA
}  // namespace reference
}  // namespace v1
}  // namespace tiedlora
