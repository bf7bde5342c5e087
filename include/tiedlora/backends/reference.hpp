// The mathematics of one module in plain loops, forward above backward: the reference that every faster
// version must match, and the path of every scalar without one.
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
// Derived in docs/mathematics.md, E2 to E14, with the mask in E17.
//
// Every function works token by token, so T tokens at once give the bits of T calls of one token each; sums
// run over features in blocks, then over ranks, in that fixed order. Operands have been checked (ops/).
#pragma once

#include "../views/config.hpp"
#include "../views/factors.hpp"
#include "../views/options.hpp"
#include "../views/scalar.hpp"
#include "../views/slice.hpp"
#include "../views/tokens.hpp"
#include "dropout.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace reference {
inline namespace TIEDLORA_ISA {

using detail::Range, detail::smaller;

inline constexpr Index block_features = 256;  // features are converted and summed in blocks of this many

template <class Acc>
void fill(Acc* values, Index n, const Acc& value) {
  for (Index i = 0; i < n; ++i) values[i] = value;
}

/// Σ_i a_i x_i. Sixteen partial sums: an order that is ours rather than the compiler's, and that fits its
/// vector registers.
template <class Acc, class P>
Acc dot(const P* __restrict a, const Acc* __restrict x, Index n) {
  constexpr Index lanes = 16;
  Acc sums[lanes];
  fill(sums, lanes, Acc(0));  // a scalar of the user's own need not start at zero
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

/// h = A·(mask ∘ x): docs/mathematics.md, E3 and E17.
template <class P, class X, class Acc>
void shrink(const Factors<P>& f, const Tokens<const X>& x, const Tokens<Acc>& h, const CallOptions& o) {
  const auto [tokens, ranks] = detail::shares_of_shrink(x.count, f.rank, o.slice);
  for (Index t = tokens.begin; t < tokens.end; ++t) {
    fill(h[t] + ranks.begin, ranks.end - ranks.begin, Acc(0));
    for (Index i = 0; i < f.in_features; i += block_features) {
      const Index n = smaller(block_features, f.in_features - i);
      Acc block[block_features];
      load_input(x, t, i, n, o.dropout, block);
      for (Index k = ranks.begin; k < ranks.end; ++k) h[t][k] += dot(f.A + k * f.a_stride + i, block, n);
    }
  }
}

/// y += c ∘ v ∘ B·(u ∘ h): docs/mathematics.md, E4.
template <class P, class Acc, class Y>
void expand(const Factors<P>& f, const Tokens<const Acc>& h, const Tokens<Y>& y, const CallOptions& o) {
  // Not a structured binding: Clang's analyzer loses its members and takes them for garbage.
  const detail::ExpandShares shares = detail::shares_of_expand(y.count, f.out_features, o.slice);
  for (Index t = shares.tokens.begin; t < shares.tokens.end; ++t) {
    const Acc c = detail::token_scaling<Acc>(f, o, t);
    for (Index i = shares.features.begin; i < shares.features.end; i += block_features) {
      const Index n = smaller(block_features, shares.features.end - i);
      Acc block[block_features];
      fill(block, n, Acc(0));
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

/// dh = u ∘ d, dB += e (u ∘ h)ᵀ, du += h ∘ d, dv += c dy ∘ B (u ∘ h): docs/mathematics.md, E7 to E12. dh is
/// null where neither it nor du is wanted.
template <class P, class Acc, class Dy>
void expand_backward(const Factors<P>& f, const Tokens<const Acc>& h, const Tokens<const Dy>& dy,
                     const Factors<Acc>& gradient, const Tokens<Acc>& dh, const CallOptions& o) {
  for (Index t = 0; t < dy.count; ++t) {
    const Acc c = detail::token_scaling<Acc>(f, o, t);
    if (!dh.is_none()) fill(dh[t], f.rank, Acc(0));
    for (Index i = 0; i < f.out_features; i += block_features) {
      const Index n = smaller(block_features, f.out_features - i);
      Acc e[block_features], z[block_features];  // c v ∘ dy, B (u ∘ h)
      for (Index j = 0; j < n; ++j) e[j] = c * static_cast<Acc>(dy[t][i + j]);
      if (f.v)
        for (Index j = 0; j < n; ++j) e[j] *= static_cast<Acc>(f.v[i + j]);
      if (!dh.is_none())
        for (Index k = 0; k < f.rank; ++k) dh[t][k] += dot(f.B + k * f.b_stride + i, e, n);
      if (!gradient.B && !gradient.v) continue;
      fill(z, n, Acc(0));
      for (Index k = 0; k < f.rank; ++k) {
        const Acc uh = f.u ? static_cast<Acc>(f.u[k]) * h[t][k] : h[t][k];
        if (gradient.B) add_scaled(uh, e, gradient.B + k * gradient.b_stride + i, n);
        if (gradient.v) add_scaled(uh, f.B + k * f.b_stride + i, z, n);
      }
      if (gradient.v)
        for (Index j = 0; j < n; ++j) gradient.v[i + j] += c * static_cast<Acc>(dy[t][i + j]) * z[j];
    }
    if (dh.is_none()) continue;
    for (Index k = 0; k < f.rank; ++k) {
      if (gradient.u) gradient.u[k] += h[t][k] * dh[t][k];
      if (f.u) dh[t][k] *= static_cast<Acc>(f.u[k]);
    }
  }
}

/// dA += dh (mask ∘ x)ᵀ and dx += mask ∘ Aᵀ dh: docs/mathematics.md, E13, E14 and E17. x is null where A is
/// frozen, dx where it is not wanted.
template <class P, class X, class Acc, class Dx>
void shrink_backward(const Factors<P>& f, const Tokens<const X>& x, const Tokens<const Acc>& dh,
                     const Factors<Acc>& gradient, const Tokens<Dx>& dx, const CallOptions& o) {
  const Index count = dx.is_none() ? dh.count : dx.count;
  for (Index t = 0; t < count; ++t)
    for (Index i = 0; i < f.in_features; i += block_features) {
      const Index n = smaller(block_features, f.in_features - i);
      Acc block[block_features];
      if (gradient.A && !x.is_none()) {
        load_input(x, t, i, n, o.dropout, block);
        for (Index k = 0; k < f.rank; ++k)
          add_scaled(dh[t][k], block, gradient.A + k * gradient.a_stride + i, n);
      }
      if (dx.is_none()) continue;
      fill(block, n, Acc(0));
      for (Index k = 0; k < f.rank; ++k) add_scaled(dh[t][k], f.A + k * f.a_stride + i, block, n);
      if (o.dropout.probability != 0) {
        const detail::DropoutMask mask(o.dropout, t);
        for (Index j = 0; j < n; ++j) block[j] *= static_cast<Acc>(mask(i + j));
      }
      store(block, n, o.overwrite, dx[t] + i);
    }
}

}  // namespace TIEDLORA_ISA
}  // namespace reference

inline namespace TIEDLORA_ISA {

/// The loops above as a backend (ops/backend.hpp), for every scalar type.
struct ReferenceBackend {
  static constexpr bool runs_slices = true;
  static constexpr bool masks_x = true;

  template <class P, class X>
  void shrink(const Factors<P>& f, const Tokens<const X>& x, const Tokens<accumulator_t<P>>& h,
              const CallOptions& o) const {
    reference::shrink(f, x, h, o);
  }
  template <class P, class Y>
  void expand(const Factors<P>& f, const Tokens<const accumulator_t<P>>& h, const Tokens<Y>& y,
              const CallOptions& o) const {
    reference::expand(f, h, y, o);
  }
  template <class P, class Dy>
  void expand_backward(const Factors<P>& f, const Tokens<const accumulator_t<P>>& h,
                       const Tokens<const Dy>& dy, const Factors<accumulator_t<P>>& gradient,
                       const Tokens<accumulator_t<P>>& dh, const CallOptions& o) const {
    reference::expand_backward(f, h, dy, gradient, dh, o);
  }
  template <class P, class X, class Dx>
  void shrink_backward(const Factors<P>& f, const Tokens<const X>& x,
                       const Tokens<const accumulator_t<P>>& dh, const Factors<accumulator_t<P>>& gradient,
                       const Tokens<Dx>& dx, const CallOptions& o) const {
    reference::shrink_backward(f, x, dh, gradient, dx, o);
  }
};

}  // namespace TIEDLORA_ISA
TIEDLORA_END_NAMESPACE
