// Several modules that read the same x (q, k and v; gate and up): x is read once for all of them, and modules
// that share A go through it once. A backend without overloads for several modules gets one call for each;
// one with them (a GPU's) can make one launch of them.
#pragma once

#include <cstddef>      // size_t
#include <span>         // span
#include <type_traits>  // type_identity
#include <utility>      // forward

#include "../backends/cpu.hpp"
#include "../views/config.hpp"
#include "../views/error.hpp"
#include "../views/factors.hpp"
#include "../views/options.hpp"
#include "../views/tokens.hpp"
#include "backend.hpp"
#include "checks.hpp"

TIEDLORA_BEGIN_NAMESPACE

namespace detail {
inline namespace TIEDLORA_ISA {

template <class P, class T>
void check_count(std::span<const Factors<const P>> modules, const char* what, std::span<T> operands) {
  if (operands.size() != modules.size())
    fail(what, " must have one element for each of the ", modules.size(), " modules, but has ",
         operands.size());
}

template <class P, class X>
void check_same_input(std::span<const Factors<const P>> modules, const char* what, const Tokens<X>& x) {
  for (const Factors<const P>& f : modules)
    if (f.in_features != x.width)
      fail_at(f, "in_features is ", f.in_features, ", but the ", what, " that the modules share has ",
              x.width, " features");
  if (!modules.empty()) check_tokens(modules[0], what, x, "in_features", x.width, "x", x.count);
}

}  // namespace TIEDLORA_ISA
}  // namespace detail

inline namespace TIEDLORA_ISA {

/// h[m] = A_m·(mask ∘ x) for every module m; the bits are those of a call for each. x in×T, h[m] r_m×T;
/// modules that share A may also share h, or else each gets a copy. Where the rank is 0, h[m] is left alone.
/// Throws Error if the shapes disagree with the modules.
template <class B, class P, class X>
void shrink(const B& backend, std::span<const Factors<const P>> modules, const X& x,
            std::type_identity_t<std::span<const Tokens<accumulator_t<P>>>> h, const CallOptions& o = {}) {
  using namespace detail;
  check_count(modules, "h", h);
  const auto xs = input_tokens(x);
  check_same_input(modules, "x", xs);
  for (std::size_t m = 0; m < modules.size(); ++m) {
    check_options(modules[m], o, true);
    check_backend<B>(modules[m], o);
    if (modules[m].rank > 0) check_shrink(modules[m], xs, h[m]);
  }
  if constexpr (requires { backend.shrink(modules, xs, h, o); }) {
    backend.shrink(modules, xs, h, o);
  } else {
    for (std::size_t m = 0; m < modules.size(); ++m)
      if (modules[m].rank > 0) backend.shrink(modules[m], xs, h[m], o);
  }
}
template <class P, class X>
void shrink(std::span<const Factors<const P>> modules, const X& x,
            std::type_identity_t<std::span<const Tokens<accumulator_t<P>>>> h, const CallOptions& o = {}) {
  shrink(CpuBackend(), modules, x, h, o);
}

/// Backward of that: adds to the gradient of every A that is there, and dx += mask ∘ Σ_m A_mᵀ dh[m] (dx = …
/// with overwrite), where modules that share A go through it once, with the sum of their dh. dh[m] r_m×T, dx
/// in×T or `none`; x in×T, or `none` where all A are frozen.
template <class B, class P, class X, class Dx>
void shrink_backward(const B& backend, std::span<const Factors<const P>> modules, const X& x,
                     std::type_identity_t<std::span<const Tokens<const accumulator_t<P>>>> dh,
                     std::type_identity_t<std::span<const Factors<accumulator_t<P>>>> gradients, Dx&& dx,
                     const CallOptions& o = {}) {
  using namespace detail;
  check_count(modules, "dh", dh);
  check_count(modules, "gradients", gradients);
  const auto xs = input_tokens_or_none<P>(x);
  const auto dxs = output_tokens_or_none<P>(std::forward<Dx>(dx));
  std::size_t first = 0;  // adapted module
  while (first < modules.size() && modules[first].rank == 0) ++first;
  const Index tokens = modules.empty() ? 0 : dh[first < modules.size() ? first : 0].count;
  const Index features = modules.empty() ? 0 : modules[0].in_features;  // of all: they read one x
  const bool has_x = is_given<X>(xs, tokens, features), wants_dx = is_given<Dx>(dxs, tokens, features);
  if (wants_dx) check_same_input(modules, "dx", dxs);
  for (std::size_t m = first; m < modules.size(); ++m) {
    const Factors<const P>& f = modules[m];
    check_options(f, o, false);
    check_backend<B>(f, o);
    if (f.rank == 0) continue;
    check_tokens(f, "dh", dh[m], "the rank", f.rank, "dh", tokens);
    check_input_side(f, xs, has_x, gradients[m], dxs, wants_dx, "dh", tokens);
  }
  if (first == modules.size()) {
    if (o.overwrite && wants_dx && first > 0)
      backend.shrink_backward(modules[0], xs, dh[0], gradients[0], dxs, o);
    return;
  }
  if constexpr (requires { backend.shrink_backward(modules, xs, dh, gradients, dxs, o); }) {
    backend.shrink_backward(modules, xs, dh, gradients, dxs, o);
  } else {
    CallOptions options = o;
    for (std::size_t m = first; m < modules.size(); ++m) {
      if (modules[m].rank == 0) continue;
      backend.shrink_backward(modules[m], xs, dh[m], gradients[m], dxs, options);
      options.overwrite = false;  // only the first sets dx
    }
  }
}
template <class P, class X, class Dx>
void shrink_backward(std::span<const Factors<const P>> modules, const X& x,
                     std::type_identity_t<std::span<const Tokens<const accumulator_t<P>>>> dh,
                     std::type_identity_t<std::span<const Factors<accumulator_t<P>>>> gradients, Dx&& dx,
                     const CallOptions& o = {}) {
  shrink_backward(CpuBackend(), modules, x, dh, gradients, std::forward<Dx>(dx), o);
}

/// y[m] += c_m ∘ v_m ∘ B_m·(u_m ∘ h[m]) for every module m; the bits are those of a call for each. h[m]
/// r_m×T, y[m] out_m×T. Throws Error if the shapes disagree with the modules.
template <class B, class P, class Y>
void expand(const B& backend, std::span<const Factors<const P>> modules,
            std::type_identity_t<std::span<const Tokens<const accumulator_t<P>>>> h,
            std::span<const Tokens<Y>> y, const CallOptions& o = {}) {
  using namespace detail;
  check_count(modules, "h", h);
  check_count(modules, "y", y);
  for (std::size_t m = 0; m < modules.size(); ++m) {
    check_options(modules[m], o, true);
    check_backend<B>(modules[m], o);
    check_expand(modules[m], h[m], y[m]);
  }
  if constexpr (requires { backend.expand(modules, h, y, o); }) {
    backend.expand(modules, h, y, o);
  } else {
    for (std::size_t m = 0; m < modules.size(); ++m)
      if (modules[m].rank > 0 || o.overwrite) backend.expand(modules[m], h[m], y[m], o);
  }
}
template <class P, class Y>
void expand(std::span<const Factors<const P>> modules,
            std::type_identity_t<std::span<const Tokens<const accumulator_t<P>>>> h,
            std::span<const Tokens<Y>> y, const CallOptions& o = {}) {
  expand(CpuBackend(), modules, h, y, o);
}

/// Backward of that: writes every dh[m], and adds to the gradients of B, u and v that are there. dy[m]
/// out_m×T, dh[m] r_m×T, none of them left out. Throws Error if the shapes disagree with the modules.
template <class B, class P, class Dy>
void expand_backward(const B& backend, std::span<const Factors<const P>> modules,
                     std::type_identity_t<std::span<const Tokens<const accumulator_t<P>>>> h,
                     std::span<const Tokens<const Dy>> dy,
                     std::type_identity_t<std::span<const Factors<accumulator_t<P>>>> gradients,
                     std::type_identity_t<std::span<const Tokens<accumulator_t<P>>>> dh,
                     const CallOptions& o = {}) {
  using namespace detail;
  check_count(modules, "h", h);
  check_count(modules, "dy", dy);
  check_count(modules, "gradients", gradients);
  check_count(modules, "dh", dh);
  for (std::size_t m = 0; m < modules.size(); ++m) {
    check_options(modules[m], o, false);
    check_backend<B>(modules[m], o);
    if (modules[m].rank > 0) check_expand_backward(modules[m], h[m], dy[m], gradients[m], dh[m], true);
  }
  if constexpr (requires { backend.expand_backward(modules, h, dy, gradients, dh, o); }) {
    backend.expand_backward(modules, h, dy, gradients, dh, o);
  } else {
    for (std::size_t m = 0; m < modules.size(); ++m)
      if (modules[m].rank > 0) backend.expand_backward(modules[m], h[m], dy[m], gradients[m], dh[m], o);
  }
}
template <class P, class Dy>
void expand_backward(std::span<const Factors<const P>> modules,
                     std::type_identity_t<std::span<const Tokens<const accumulator_t<P>>>> h,
                     std::span<const Tokens<const Dy>> dy,
                     std::type_identity_t<std::span<const Factors<accumulator_t<P>>>> gradients,
                     std::type_identity_t<std::span<const Tokens<accumulator_t<P>>>> dh,
                     const CallOptions& o = {}) {
  expand_backward(CpuBackend(), modules, h, dy, gradients, dh, o);
}

}  // namespace TIEDLORA_ISA
TIEDLORA_END_NAMESPACE
