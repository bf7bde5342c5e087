// The adapter's operation on one module: shrink, expand and forward, which is both. Each call checks its
// operands once and hands them to a backend: the CPU's, unless another is passed first. Calls allocate
// nothing, take no locks, start no threads and keep no state.
#pragma once

#include <type_traits>  // is_same, remove_const, remove_cvref
#include <utility>      // forward

#include "../backends/cpu.hpp"
#include "../views/config.hpp"
#include "../views/factors.hpp"
#include "../views/options.hpp"
#include "../views/scalar.hpp"
#include "../views/tokens.hpp"
#include "backend.hpp"
#include "checks.hpp"
#include "unchecked.hpp"

TIEDLORA_BEGIN_NAMESPACE

namespace detail {
inline namespace TIEDLORA_ISA {

template <class B, class P, class X, class Y>
void check_forward(const Factors<P>& f, const Tokens<X>& x, const Tokens<Y>& y, const CallOptions& o) {
  require_backend<B, std::remove_const_t<P>, std::remove_const_t<X>, Y>();
  check_options(f, o, false);
  check_backend<B>(f, o);
  check_factors(f);
  check_tokens(f, "y", y, "out_features", f.out_features, "x", x.count);
  check_tokens(f, "x", x, "in_features", f.in_features, "x", x.count);
}

}  // namespace TIEDLORA_ISA
}  // namespace detail

inline namespace TIEDLORA_ISA {

/// Tells CallOptions from an operand where overloads leave out one or the other.
template <class T>
concept IsOptions = std::is_same_v<std::remove_cvref_t<T>, CallOptions>;

/// h = A·(mask ∘ x). x in×T, h r×T in accumulator_t<P>, overwritten. Throws Error if the shapes disagree with
/// the module.
template <class B, class P, class X, class H>
void shrink(const B& backend, const Factors<P>& f, const X& x, H&& h, const CallOptions& o = {}) {
  if (f.rank == 0) return;
  const auto xs = detail::input_tokens(x);
  const Tokens<accumulator_t<P>> hs = detail::output_tokens(std::forward<H>(h));
  detail::check_options(f, o, true);
  detail::check_backend<B>(f, o);
  detail::check_shrink(f, xs, hs);
  backend.shrink(Factors<const std::remove_const_t<P>>(f), xs, hs, o);
}
template <class P, class X, class H>
void shrink(const Factors<P>& f, const X& x, H&& h, const CallOptions& o = {}) {
  shrink(CpuBackend(), f, x, std::forward<H>(h), o);
}

/// y += c ∘ v ∘ B·(u ∘ h) with c = scaling · scale · token_scale, or y = … with overwrite. h r×T in
/// accumulator_t<P>, y out×T. Throws Error if the shapes disagree with the module.
template <class B, class P, class H, class Y>
void expand(const B& backend, const Factors<P>& f, const H& h, Y&& y, const CallOptions& o = {}) {
  const auto ys = detail::output_tokens(std::forward<Y>(y));
  const Tokens<const accumulator_t<P>> hs = detail::input_tokens(h);
  detail::check_options(f, o, true);
  detail::check_backend<B>(f, o);
  detail::check_expand(f, hs, ys);
  if (f.rank > 0 || o.overwrite) backend.expand(Factors<const std::remove_const_t<P>>(f), hs, ys, o);
}
template <class P, class H, class Y>
void expand(const Factors<P>& f, const H& h, Y&& y, const CallOptions& o = {}) {
  expand(CpuBackend(), f, h, std::forward<Y>(y), o);
}

/// Throws what forward would throw for these operands; reads none of them. Without h: what forward without h
/// would.
template <class B, class P, class X, class Y>
void check_forward(const B&, const Factors<P>& f, const Tokens<X>& x, const Tokens<Y>& y,
                   const Tokens<accumulator_t<P>>& h, const CallOptions& o = {}) {
  detail::check_forward<B>(f, x, y, o);
  if (f.rank > 0) detail::check_tokens(f, "h", h, "the rank", f.rank, "x", x.count);
}
template <class B, class P, class X, class Y>
void check_forward(const B&, const Factors<P>& f, const Tokens<X>& x, const Tokens<Y>& y,
                   const CallOptions& o = {}) {
  detail::check_forward<B>(f, x, y, o);
  if (f.rank > 0) detail::check_room_for_h<B>(f, o, "h");
}

/// The same for the CPU's kernels.
template <class P, class X, class Y>
void check_forward(const Factors<P>& f, const Tokens<X>& x, const Tokens<Y>& y,
                   const Tokens<accumulator_t<P>>& h, const CallOptions& o = {}) {
  check_forward(CpuBackend(), f, x, y, h, o);
}
template <class P, class X, class Y>
void check_forward(const Factors<P>& f, const Tokens<X>& x, const Tokens<Y>& y, const CallOptions& o = {}) {
  check_forward(CpuBackend(), f, x, y, o);
}

/// Both stages: y += c ∘ v ∘ B·(u ∘ A·(mask ∘ x)). Where y holds the base layer's output this is the adapted
/// layer. The caller keeps h (and x, if layout.backward_needs_x) until backward.
template <class B, class P, class X, class Y, class H>
  requires(!IsOptions<H>)
void forward(const B& backend, const Factors<P>& f, const X& x, Y&& y, H&& h, const CallOptions& o = {}) {
  const auto xs = detail::input_tokens(x);
  const auto ys = detail::output_tokens(std::forward<Y>(y));
  const Tokens<accumulator_t<P>> hs = detail::output_tokens(std::forward<H>(h));
  check_forward(backend, f, xs, ys, hs, o);
  unchecked::forward(backend, Factors<const std::remove_const_t<P>>(f), xs, ys, hs, o);
}
template <class P, class X, class Y, class H>
  requires(!IsOptions<H>)
void forward(const Factors<P>& f, const X& x, Y&& y, H&& h, const CallOptions& o = {}) {
  forward(CpuBackend(), f, x, std::forward<Y>(y), std::forward<H>(h), o);
}

/// The same for a caller who needs no h: it lives in the scratch or on the stack, a block of tokens at a
/// time.
template <class B, class P, class X, class Y>
void forward(const B& backend, const Factors<P>& f, const X& x, Y&& y, const CallOptions& o = {}) {
  const auto xs = detail::input_tokens(x);
  const auto ys = detail::output_tokens(std::forward<Y>(y));
  check_forward(backend, f, xs, ys, o);
  unchecked::forward(backend, Factors<const std::remove_const_t<P>>(f), xs, ys, o);
}
template <class P, class X, class Y>
void forward(const Factors<P>& f, const X& x, Y&& y, const CallOptions& o = {}) {
  forward(CpuBackend(), f, x, std::forward<Y>(y), o);
}

}  // namespace TIEDLORA_ISA
TIEDLORA_END_NAMESPACE
