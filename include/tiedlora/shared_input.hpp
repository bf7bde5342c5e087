// Several modules that read the same x (q, k and v; gate and up): x is read once for all of them, and modules
// that share A go through it once.
#pragma once

#include <algorithm>    // find_if
#include <cstddef>      // size_t
#include <span>         // span
#include <type_traits>  // type_identity
#include <utility>      // forward

#include "calls.hpp"
#include "config.hpp"
#include "error.hpp"
#include "factors.hpp"
#include "forward_backward.hpp"
#include "options.hpp"
#include "tokens.hpp"

namespace tiedlora {
inline namespace v1 {

namespace detail {
inline namespace TIEDLORA_ISA {

template <class P, class T>
void check_count(std::span<const Factors<const P>> modules, const char* what, std::span<T> operands) {
  if (operands.size() != modules.size())
    fail(message("modules that read the same x: ", modules.size(), " modules, but ", operands.size(), " of ",
                 what));
}

template <class P>
void check_same_input(std::span<const Factors<const P>> modules, Index width) {
  for (const Factors<const P>& f : modules)
    if (f.in_features != width)
      fail(message(of_module(f), "in_features is ", f.in_features, ", but the x that the modules share has ",
                   width, " features"));
}

}  // namespace TIEDLORA_ISA
}  // namespace detail

inline namespace TIEDLORA_ISA {

/// h[m] = A_m·(mask ∘ x) for every module m; the bits are those of a call for each. x in×T, h[m] r_m×T;
/// modules that share A may share h, too, and else get copies. Rank 0: h[m] is left alone. Throws Error if
/// the shapes disagree with the modules.
template <class P, class X>
void shrink(std::span<const Factors<const P>> modules, const X& x,
            std::type_identity_t<std::span<const Tokens<accumulator_t<P>>>> h, const CallOptions& o = {}) {
  using namespace detail;
  check_count(modules, "h", h);
  const auto xs = input_tokens(x);
  check_same_input(modules, xs.width);
  for (std::size_t m = 0; m < modules.size(); ++m) {
    check_options(modules[m], o, true);
    if (modules[m].rank == 0) continue;
    check_tokens(modules[m], "x", xs, "in_features", modules[m].in_features, xs.count);
    check_tokens(modules[m], "h", h[m], "the rank", modules[m].rank, xs.count);
  }
  if constexpr (has_kernels<P, element_or<P, X>>)
    if (!masks_x(o)) return kernels::shrink<P>(modules, xs, h, o);
  for (std::size_t m = 0; m < modules.size(); ++m) shrink(modules[m], xs, h[m], o);
}

/// Backward of that: adds to the gradient of every A that is there, and dx += mask ∘ Σ_m A_mᵀ dh[m] (dx = …
/// with overwrite), where the modules that share A go through it with the sum of their dh. dh[m] r_m×T, dx
/// in×T or `none`; x in×T, or `none` where all A are frozen.
template <class P, class X, class Dx>
void shrink_backward(std::span<const Factors<const P>> modules, const X& x,
                     std::type_identity_t<std::span<const Tokens<const accumulator_t<P>>>> dh,
                     std::type_identity_t<std::span<const Factors<accumulator_t<P>>>> gradients, Dx&& dx,
                     const CallOptions& o = {}) {
  using namespace detail;
  check_count(modules, "dh", dh);
  check_count(modules, "gradients", gradients);
  const auto xs = input_tokens_or_none(x);
  const auto dxs = output_tokens_or_none(std::forward<Dx>(dx));
  const auto is_adapted = [](const Factors<const P>& f) { return f.rank > 0; };
  const auto adapted = std::find_if(modules.begin(), modules.end(), is_adapted);
  if (adapted == modules.end()) {
    if constexpr (!is_none<Dx>)
      if (o.overwrite) set_zero(dxs, o.slice);
    return;
  }
  const Index count = dh[static_cast<std::size_t>(adapted - modules.begin())].count;
  if constexpr (!is_none<Dx>) check_same_input(modules, dxs.width);
  for (std::size_t m = 0; m < modules.size(); ++m) {
    const Factors<const P>& f = modules[m];
    check_options(f, o, true);
    if (f.rank == 0) continue;
    check_gradient(f, gradients[m]);
    check_tokens(f, "dh", dh[m], "the rank", f.rank, count);
    if constexpr (is_none<X>)
      check_x_not_needed(f, gradients[m]);
    else if (gradients[m].A)
      check_tokens(f, "x", xs, "in_features", f.in_features, count);
    if constexpr (!is_none<Dx>) check_tokens(f, "dx", dxs, "in_features", f.in_features, count);
  }
  if constexpr (has_kernels<P, element_or<P, X>, element_or<P, Dx>>)
    if (!masks_x(o)) return kernels::shrink_backward<P>(modules, xs, dh, gradients, dxs, o);
  CallOptions options = o;
  for (std::size_t m = 0; m < modules.size(); ++m) {
    if (modules[m].rank == 0) continue;
    shrink_backward(modules[m], xs, dh[m], gradients[m], dxs, options);
    options.overwrite = false;  // only the first sets dx
  }
}

}  // namespace TIEDLORA_ISA
}  // namespace v1
}  // namespace tiedlora
