// The adapter's operation on one module, forward above backward: what users and engines call. Each function
// checks its operands once and hands them to the tiles of kernels/ or, for other scalars, to the loops of
// reference.hpp, which states the formulas. Calls allocate nothing, take no locks, start no threads and keep
// no state.
#pragma once

#include <algorithm>    // min
#include <cstddef>      // size_t
#include <type_traits>  // is_same, remove_cvref, remove_const
#include <utility>      // forward

#include "calls.hpp"
#include "config.hpp"
#include "error.hpp"
#include "factors.hpp"
#include "kernels/passes.hpp"
#include "options.hpp"
#include "reference.hpp"
#include "scalar.hpp"
#include "tokens.hpp"

namespace tiedlora {
inline namespace v1 {

namespace detail {
inline namespace TIEDLORA_ISA {

/// Whether kernels/ covers parameters P beside activations X.
template <class P, class X>
inline constexpr bool has_kernels = TIEDLORA_HAS_KERNELS && std::is_same_v<std::remove_const_t<P>, float> &&
                                    std::is_same_v<std::remove_const_t<X>, float>;

/// The one place that chooses: by the module's rank and whether x is masked, never by the number of tokens or
/// the slice.
template <class P>
bool use_kernels(const Factors<P>& f, const CallOptions& o) {
  return f.rank <= kernels::largest_rank && o.dropout.probability == 0;
}

template <class P, class X, class Acc>
void add_gradient_of_A(const Factors<P>& f, const Tokens<const X>& x, const Tokens<const Acc>& dh,
                       const Factors<Acc>& gradient, const CallOptions& o) {
  if constexpr (has_kernels<P, X>)
    if (use_kernels(f, o)) return kernels::add_gradient_of_A(f, x, dh, gradient, o);
  reference::add_gradient_of_A(f, x, dh, gradient, o);
}

template <class P, class Acc, class Dx>
void add_dx(const Factors<P>& f, const Tokens<const Acc>& dh, const Tokens<Dx>& dx, const CallOptions& o) {
  if constexpr (has_kernels<P, Dx>)
    if (use_kernels(f, o)) return kernels::add_dx(f, dh, dx, o);
  reference::add_dx(f, dh, dx, o);
}

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
    if (use_kernels(f, o)) return kernels::shrink(f, xs, hs, o);
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
    if (use_kernels(f, o)) return kernels::expand(f, hs, ys, o);
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
/// r×T overwritten.
template <class P, class H, class Dy, class Dh>
void expand_backward(const Factors<P>& f, const H& h, const Dy& dy, const Factors<accumulator_t<P>>& gradient,
                     Dh&& dh, const CallOptions& o = {}) {
  using namespace detail;
  if (f.rank == 0) return;
  const Tokens<const accumulator_t<P>> hs = input_tokens(h);
  const auto dys = input_tokens(dy);
  const Tokens<accumulator_t<P>> dhs = output_tokens(std::forward<Dh>(dh));
  check_options(f, o, true);
  check_gradient(f, gradient);
  check_tokens(f, "dy", dys, "out_features", f.out_features, dys.count);
  check_tokens(f, "h", hs, "the rank", f.rank, dys.count);
  check_tokens(f, "dh", dhs, "the rank", f.rank, dys.count);
  if constexpr (has_kernels<P, element_t<decltype(dys)>>)
    if (use_kernels(f, o)) return kernels::expand_backward(f, hs, dys, gradient, dhs, o);
  reference::expand_backward(f, hs, dys, gradient, dhs, o);
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
  if constexpr (is_none<X>) {
    check_x_not_needed(f, gradient);
  } else if (gradient.A) {
    const auto xs = input_tokens(x);
    check_tokens(f, "x", xs, "in_features", f.in_features, dhs.count);
    add_gradient_of_A(f, xs, dhs, gradient, o);
  }
  if constexpr (!is_none<Dx>) {
    check_tokens(f, "dx", dxs, "in_features", f.in_features, dhs.count);
    add_dx(f, dhs, dxs, o);
  }
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
