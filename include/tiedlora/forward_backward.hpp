// The adapter's operation on one module, forward above backward: what users and engines call. Each function
// checks its operands once and hands them to the tiles of kernels/ or, for other scalars, to the loops of
// reference.hpp, which states the formulas. Calls allocate nothing, take no locks, start no threads and keep
// no state.
#pragma once

#include <algorithm>    // min
#include <cstddef>      // size_t
#include <span>         // span
#include <type_traits>  // is_same, remove_cvref, remove_const
#include <utility>      // forward

#include "calls.hpp"
#include "config.hpp"
#include "error.hpp"
#include "factors.hpp"
#include "kernels/backward.hpp"
#include "kernels/forward.hpp"
#include "options.hpp"
#include "reference.hpp"
#include "scalar.hpp"
#include "tokens.hpp"

namespace tiedlora {
inline namespace v1 {

namespace detail {
inline namespace TIEDLORA_ISA {

/// The types in memory that kernels/ covers, parameters and activations in any mixture.
template <class T>
inline constexpr bool is_kernel_type = std::is_same_v<std::remove_const_t<T>, float> || is_narrow<T>;
template <class P, class... X>
inline constexpr bool has_kernels = is_kernel_type<P> && (is_kernel_type<X> && ...);

/// The kernels read x as it is; a mask takes the reference path.
inline bool masks_x(const CallOptions& o) { return o.dropout.probability != 0; }

}  // namespace TIEDLORA_ISA
}  // namespace detail

inline namespace TIEDLORA_ISA {

/// Bytes of scratch with which forward without h, and backward, run in one block of tokens. With less, or
/// none, they take blocks that fit it or 16 KB of stack, which bounds the rank (4096 in float); float
/// gradients add up block by block, so that their last bits depend on the scratch.
template <class P>
std::size_t scratch_bytes(const Factors<P>& f, Index tokens) {
  return static_cast<std::size_t>(f.rank * tokens) * sizeof(accumulator_t<P>) + alignof(accumulator_t<P>);
}

// ---------------------------------------------------------------------------------------------------------------------
// Forward

/// h = A·(mask ∘ x). x in×T, h r×T in accumulator_t<P>, overwritten. Throws Error if the shapes disagree with
/// the module.
template <class P, class X, class H>
void shrink(const Factors<P>& f, const X& x, H&& h, const CallOptions& o = {}) {
  using namespace detail;
  if (f.rank == 0) return;
  const auto xs = input_tokens(x);
  const Tokens<accumulator_t<P>> hs = output_tokens(std::forward<H>(h));
  check_options(f, o, true);
  check_tokens(f, "x", xs, "in_features", f.in_features, xs.count);
  check_tokens(f, "h", hs, "the rank", f.rank, xs.count);
  if constexpr (has_kernels<P, element_t<decltype(xs)>>)
    if (!masks_x(o)) {
      const Factors<const P> module = f;
      return kernels::shrink<std::remove_const_t<P>>(std::span(&module, 1), xs, std::span(&hs, 1), o);
    }
  reference::shrink(f, xs, hs, o);
}

/// y += c ∘ v ∘ B·(u ∘ h) with c = scaling · scale · token_scale, or y = … with overwrite. h r×T in
/// accumulator_t<P>, y out×T.
template <class P, class H, class Y>
void expand(const Factors<P>& f, const H& h, Y&& y, const CallOptions& o = {}) {
  using namespace detail;
  const auto ys = output_tokens(std::forward<Y>(y));
  check_options(f, o, true);
  check_tokens(f, "y", ys, "out_features", f.out_features, ys.count);
  if (f.rank == 0) {
    if (o.overwrite) set_zero(ys, o.slice);
    return;
  }
  const Tokens<const accumulator_t<P>> hs = input_tokens(h);
  check_tokens(f, "h", hs, "the rank", f.rank, ys.count);
  if constexpr (has_kernels<P, element_t<decltype(ys)>>)
    return kernels::expand<std::remove_const_t<P>>(f, hs, ys, o);
  else
    reference::expand(f, hs, ys, o);
}

/// Both halves: y += c ∘ v ∘ B·(u ∘ A·(mask ∘ x)). Where y holds the base layer's output this is the adapted
/// layer. The caller keeps h (and x, if layout.backward_needs_x) until backward.
template <class P, class X, class Y, class H>
  requires(!std::is_same_v<std::remove_cvref_t<H>, CallOptions>)
void forward(const Factors<P>& f, const X& x, Y&& y, H&& h, const CallOptions& o = {}) {
  using namespace detail;
  check_options(f, o, false);
  const auto xs = input_tokens(x);
  const auto ys = output_tokens(std::forward<Y>(y));
  const Tokens<accumulator_t<P>> hs = output_tokens(std::forward<H>(h));
  check_tokens(f, "y", ys, "out_features", f.out_features, xs.count);
  shrink(f, xs, hs, o);
  expand(f, hs, ys, o);
}

/// The same for a caller who needs no h: it lives in the scratch or on the stack, a block of tokens at a
/// time.
template <class P, class X, class Y>
void forward(const Factors<P>& f, const X& x, Y&& y, const CallOptions& o = {}) {
  using namespace detail;
  check_options(f, o, false);
  const auto xs = input_tokens(x);
  const auto ys = output_tokens(std::forward<Y>(y));
  check_tokens(f, "y", ys, "out_features", f.out_features, xs.count);
  if (f.rank == 0) return expand(f, Tokens<const accumulator_t<P>>{}, ys, o);
  const HiddenBlock<accumulator_t<P>> h(f, o);
  for (Index t = 0; t < xs.count; t += h.capacity()) {
    const Index count = std::min(h.capacity(), xs.count - t);
    forward(f, xs.tokens(t, count), ys.tokens(t, count), h.tokens(count), from_token(o, t));
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Backward

/// Backward of expand: writes dh, and adds to the gradients of B, u and v that are there. h r×T, dy out×T, dh
/// r×T overwritten, or `none` where u is frozen and nothing below wants it.
template <class P, class H, class Dy, class Dh>
void expand_backward(const Factors<P>& f, const H& h, const Dy& dy, const Factors<accumulator_t<P>>& gradient,
                     Dh&& dh, const CallOptions& o = {}) {
  using namespace detail;
  if (f.rank == 0) return;
  const Tokens<const accumulator_t<P>> hs = input_tokens(h);
  const auto dys = input_tokens(dy);
  check_options(f, o, true);
  check_gradient(f, gradient);
  check_tokens(f, "dy", dys, "out_features", f.out_features, dys.count);
  check_tokens(f, "h", hs, "the rank", f.rank, dys.count);
  const auto dhs = output_tokens_or_none(std::forward<Dh>(dh));
  if constexpr (is_none<Dh>) {
    if (gradient.u) fail(message(of_module(f), "u is trained and its gradient needs dh, but dh is none"));
  } else {
    check_tokens(f, "dh", dhs, "the rank", f.rank, dys.count);
  }
  if constexpr (has_kernels<P, element_t<decltype(dys)>>) {
    check_slice_scratch(f, gradient, dys.count, o);
    kernels::expand_backward<std::remove_const_t<P>>(f, hs, dys, gradient, dhs, o);
  } else {
    reference::expand_backward(f, hs, dys, gradient, dhs, o);
  }
}

/// What is left of expand_backward where it ran in slices: du, whose partial sums these left in scratch.
/// After the barrier, sliced likewise, for example just before shrink_backward; dy, gradient and options as
/// there. Nothing is left to do where u is frozen or absent, with one slice, or for few tokens.
template <class P, class Dy>
void finish_expand_backward(const Factors<P>& f, const Dy& dy, const Factors<accumulator_t<P>>& gradient,
                            const CallOptions& o) {
  using namespace detail;
  const auto dys = input_tokens(dy);
  check_options(f, o, true);
  if (f.rank == 0 || !gradient.u) return;
  check_gradient(f, gradient);
  if constexpr (has_kernels<P, element_t<decltype(dys)>>) {
    check_slice_scratch(f, gradient, dys.count, o);
    kernels::finish_expand_backward(f.rank, dys.count, gradient.u, o);
  }
}

/// Backward of shrink: adds to the gradient of A if it is there, and dx += mask ∘ Aᵀ dh (dx = … with
/// overwrite). dh r×T, dx in×T or `none`; x in×T, or `none` where A is frozen.
template <class P, class X, class Dh, class Dx>
void shrink_backward(const Factors<P>& f, const X& x, const Dh& dh, const Factors<accumulator_t<P>>& gradient,
                     Dx&& dx, const CallOptions& o = {}) {
  using namespace detail;
  check_options(f, o, true);
  const auto dxs = output_tokens_or_none(std::forward<Dx>(dx));
  if (f.rank == 0) {
    if constexpr (!is_none<Dx>)
      if (o.overwrite) set_zero(dxs, o.slice);
    return;
  }
  check_gradient(f, gradient);
  const Tokens<const accumulator_t<P>> dhs = input_tokens(dh);
  check_tokens(f, "dh", dhs, "the rank", f.rank, dhs.count);
  const auto xs = input_tokens_or_none(x);
  if constexpr (is_none<X>)
    check_x_not_needed(f, gradient);
  else if (gradient.A)
    check_tokens(f, "x", xs, "in_features", f.in_features, dhs.count);
  if constexpr (!is_none<Dx>) check_tokens(f, "dx", dxs, "in_features", f.in_features, dhs.count);
  if constexpr (has_kernels<P, element_or<P, X>, element_or<P, Dx>>)
    if (!masks_x(o)) {
      const Factors<const P> module = f;
      return kernels::shrink_backward<std::remove_const_t<P>>(std::span(&module, 1), xs, std::span(&dhs, 1),
                                                              std::span(&gradient, 1), dxs, o);
    }
  reference::shrink_backward(f, xs, dhs, gradient, dxs, o);
}

/// Both halves. Adds to exactly the gradients that are there (a null pointer: not trained) and to dx. x may
/// be `none` where A is frozen, dx may be `none`. h as forward left it. Two calls whose trained factors
/// overlap (layout.share_trained) must not run at once into the same Gradients.
template <class P, class X, class H, class Dy, class Dx>
  requires(!std::is_same_v<std::remove_cvref_t<Dx>, CallOptions>)
void backward(const Factors<P>& f, const X& x, const H& h, const Dy& dy,
              const Factors<accumulator_t<P>>& gradient, Dx&& dx, const CallOptions& o = {}) {
  using namespace detail;
  using Acc = accumulator_t<P>;
  check_options(f, o, false);
  const auto dxs = output_tokens_or_none(std::forward<Dx>(dx));
  if (f.rank == 0) return shrink_backward(f, x, Tokens<const Acc>{}, gradient, dxs, o);
  const Tokens<const Acc> hs = input_tokens(h);
  const auto dys = input_tokens(dy);
  check_tokens(f, "h", hs, "the rank", f.rank, dys.count);
  check_tokens(f, "dy", dys, "out_features", f.out_features, dys.count);
  const auto xs = input_tokens_or_none(x);
  if constexpr (is_none<X>)
    check_x_not_needed(f, gradient);
  else
    check_tokens(f, "x", xs, "in_features", f.in_features, dys.count);
  if constexpr (!is_none<Dx>) check_tokens(f, "dx", dxs, "in_features", f.in_features, dys.count);
  if (!gradient.A && !gradient.u && is_none<Dx>) return expand_backward(f, hs, dys, gradient, none, o);
  const HiddenBlock<Acc> dh(f, o);
  for (Index t = 0; t < dys.count; t += dh.capacity()) {
    const Index count = std::min(dh.capacity(), dys.count - t);
    const CallOptions options = from_token(o, t);
    expand_backward(f, hs.tokens(t, count), dys.tokens(t, count), gradient, dh.tokens(count), options);
    shrink_backward(f, xs.tokens(t, count), dh.tokens(count), gradient, dxs.tokens(t, count), options);
  }
}

/// Without dx: for the lowest layer.
template <class P, class X, class H, class Dy>
void backward(const Factors<P>& f, const X& x, const H& h, const Dy& dy,
              const Factors<accumulator_t<P>>& gradient, const CallOptions& o = {}) {
  backward(f, x, h, dy, gradient, none, o);
}

}  // namespace TIEDLORA_ISA
}  // namespace v1
}  // namespace tiedlora
