// The backward passes of forward.hpp's operations, stage by stage and as one. Gradients accumulate, in
// accumulator_t<P>. Two calls whose trained factors overlap (layout.share_trained) must not run at the same
// time into one Gradients.
#pragma once

#include <type_traits>  // remove_const
#include <utility>      // forward

#include "../backends/cpu.hpp"
#include "../views/config.hpp"
#include "../views/factors.hpp"
#include "../views/options.hpp"
#include "../views/scalar.hpp"
#include "../views/tokens.hpp"
#include "backend.hpp"
#include "checks.hpp"
#include "forward.hpp"
#include "unchecked.hpp"

TIEDLORA_BEGIN_NAMESPACE

namespace detail {
inline namespace TIEDLORA_ISA {

template <class B, class P, class X, class Dy, class Dx>
void check_backward(const Factors<P>& f, const Tokens<X>& x, bool has_x,
                    const Tokens<const accumulator_t<P>>& h, const Tokens<Dy>& dy,
                    const Factors<accumulator_t<P>>& gradient, const Tokens<Dx>& dx, bool wants_dx,
                    const CallOptions& o) {
  require_backend<B, std::remove_const_t<P>, std::remove_const_t<X>, std::remove_const_t<Dy>>();
  check_options(f, o, false);
  check_backend<B>(f, o);
  if (f.rank == 0) {  // nothing but dx is touched
    if (wants_dx && o.overwrite) check_tokens(f, "dx", dx, "in_features", f.in_features, "dy", dy.count);
    return;
  }
  check_factors(f);
  check_tokens(f, "h", h, "the rank", f.rank, "dy", dy.count);
  check_tokens(f, "dy", dy, "out_features", f.out_features, "dy", dy.count);
  check_input_side(f, x, has_x, gradient, dx, wants_dx, "dy", dy.count);
  if (needs_dh(gradient, dx)) check_room_for_h<B>(f, o, "dh");
}

}  // namespace TIEDLORA_ISA
}  // namespace detail

inline namespace TIEDLORA_ISA {

/// Backward of expand: writes dh, and adds to the gradients of B, u and v that are there. h r×T, dy out×T, dh
/// r×T overwritten, or `none` where u is frozen and nothing below wants it. Throws Error if the shapes
/// disagree with the module.
template <class B, class P, class H, class Dy, class Dh>
void expand_backward(const B& backend, const Factors<P>& f, const H& h, const Dy& dy,
                     const Factors<accumulator_t<P>>& gradient, Dh&& dh, const CallOptions& o = {}) {
  using Acc = accumulator_t<P>;
  if (f.rank == 0) return;
  const Tokens<const Acc> hs = detail::input_tokens(h);
  const auto dys = detail::input_tokens(dy);
  const Tokens<Acc> dhs = detail::output_tokens_or_none<Acc>(std::forward<Dh>(dh));
  detail::check_options(f, o, false);
  detail::check_backend<B>(f, o);
  detail::check_expand_backward(f, hs, dys, gradient, dhs, detail::is_given<Dh>(dhs, dys.count, f.rank));
  backend.expand_backward(Factors<const std::remove_const_t<P>>(f), hs, dys, gradient, dhs, o);
}
template <class P, class H, class Dy, class Dh>
void expand_backward(const Factors<P>& f, const H& h, const Dy& dy, const Factors<accumulator_t<P>>& gradient,
                     Dh&& dh, const CallOptions& o = {}) {
  expand_backward(CpuBackend(), f, h, dy, gradient, std::forward<Dh>(dh), o);
}

/// Backward of shrink: adds to the gradient of A if it is there, and dx += mask ∘ Aᵀ dh (dx = … with
/// overwrite). dh r×T, dx in×T or `none`; x in×T, or `none` where A is frozen. Throws Error if the shapes
/// disagree with the module.
template <class B, class P, class X, class Dh, class Dx>
void shrink_backward(const B& backend, const Factors<P>& f, const X& x, const Dh& dh,
                     const Factors<accumulator_t<P>>& gradient, Dx&& dx, const CallOptions& o = {}) {
  using Scalar = std::remove_const_t<P>;
  const auto xs = detail::input_tokens_or_none<Scalar>(x);
  const auto dxs = detail::output_tokens_or_none<Scalar>(std::forward<Dx>(dx));
  const Tokens<const accumulator_t<P>> dhs = detail::input_tokens(dh);
  const bool has_x = detail::is_given<X>(xs, dhs.count, f.in_features),
             wants_dx = detail::is_given<Dx>(dxs, dhs.count, f.in_features);
  detail::check_options(f, o, false);
  detail::check_backend<B>(f, o);
  if (f.rank > 0) {
    detail::check_tokens(f, "dh", dhs, "the rank", f.rank, "dh", dhs.count);
    detail::check_input_side(f, xs, has_x, gradient, dxs, wants_dx, "dh", dhs.count);
  } else {
    if (!o.overwrite || !wants_dx) return;
    detail::check_tokens(f, "dx", dxs, "in_features", f.in_features, "dx", dxs.count);
  }
  backend.shrink_backward(Factors<const Scalar>(f), xs, dhs, gradient, dxs, o);
}
template <class P, class X, class Dh, class Dx>
void shrink_backward(const Factors<P>& f, const X& x, const Dh& dh, const Factors<accumulator_t<P>>& gradient,
                     Dx&& dx, const CallOptions& o = {}) {
  shrink_backward(CpuBackend(), f, x, dh, gradient, std::forward<Dx>(dx), o);
}

/// Throws what backward would throw for these operands; reads none of them. x and dx may be Tokens, with or
/// without memory, or `none`.
template <class B, class P, class X, class H, class Dy, class Dx>
void check_backward(const B&, const Factors<P>& f, const X& x, const H& h, const Dy& dy,
                    const Factors<accumulator_t<P>>& gradient, const Dx& dx, const CallOptions& o = {}) {
  using Scalar = std::remove_const_t<P>;
  const Tokens<const accumulator_t<P>> hs = detail::input_tokens(h);
  const auto xs = detail::input_tokens_or_none<Scalar>(x);
  const auto dys = detail::input_tokens(dy);
  const auto dxs = detail::output_tokens_or_none<Scalar>(dx);
  detail::check_backward<B>(f, xs, detail::is_given<X>(xs, dys.count, f.in_features), hs, dys, gradient, dxs,
                            detail::is_given<Dx>(dxs, dys.count, f.in_features), o);
}

/// The same for the CPU's kernels.
template <class P, class X, class H, class Dy, class Dx>
void check_backward(const Factors<P>& f, const X& x, const H& h, const Dy& dy,
                    const Factors<accumulator_t<P>>& gradient, const Dx& dx, const CallOptions& o = {}) {
  check_backward(CpuBackend(), f, x, h, dy, gradient, dx, o);
}

/// Both stages. Adds to exactly the gradients that are there (a null pointer: not trained) and to dx. x may
/// be `none`, or Tokens without memory, where A is frozen, and dx in any case. h as forward left it.
template <class B, class P, class X, class H, class Dy, class Dx>
  requires(!IsOptions<Dx>)
void backward(const B& backend, const Factors<P>& f, const X& x, const H& h, const Dy& dy,
              const Factors<accumulator_t<P>>& gradient, Dx&& dx, const CallOptions& o = {}) {
  using Scalar = std::remove_const_t<P>;
  const Tokens<const accumulator_t<P>> hs = detail::input_tokens(h);
  const auto dys = detail::input_tokens(dy);
  const auto xs = detail::input_tokens_or_none<Scalar>(x);
  const auto dxs = detail::output_tokens_or_none<Scalar>(std::forward<Dx>(dx));
  detail::check_backward<B>(f, xs, detail::is_given<X>(xs, dys.count, f.in_features), hs, dys, gradient, dxs,
                            detail::is_given<Dx>(dxs, dys.count, f.in_features), o);
  unchecked::backward(backend, Factors<const Scalar>(f), xs, hs, dys, gradient, dxs, o);
}
template <class P, class X, class H, class Dy, class Dx>
  requires(!IsOptions<Dx>)
void backward(const Factors<P>& f, const X& x, const H& h, const Dy& dy,
              const Factors<accumulator_t<P>>& gradient, Dx&& dx, const CallOptions& o = {}) {
  backward(CpuBackend(), f, x, h, dy, gradient, std::forward<Dx>(dx), o);
}

/// Without dx: for the lowest layer.
template <class B, class P, class X, class H, class Dy>
void backward(const B& backend, const Factors<P>& f, const X& x, const H& h, const Dy& dy,
              const Factors<accumulator_t<P>>& gradient, const CallOptions& o = {}) {
  backward(backend, f, x, h, dy, gradient, none, o);
}
template <class P, class X, class H, class Dy>
void backward(const Factors<P>& f, const X& x, const H& h, const Dy& dy,
              const Factors<accumulator_t<P>>& gradient, const CallOptions& o = {}) {
  backward(CpuBackend(), f, x, h, dy, gradient, none, o);
}

}  // namespace TIEDLORA_ISA
TIEDLORA_END_NAMESPACE
