// forward and backward on views, for hosts that called check_forward and check_backward at load time:
// operands are not checked. The stages without checks are the backend's own functions, e.g.
// CpuBackend().shrink.
#pragma once

#include "../views/config.hpp"
#include "../views/factors.hpp"
#include "../views/options.hpp"
#include "../views/scalar.hpp"
#include "../views/slice.hpp"
#include "../views/tokens.hpp"
#include "backend.hpp"
#include "checks.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace unchecked {
inline namespace TIEDLORA_ISA {

/// y += c ∘ v ∘ B·(u ∘ A·x), and h = A·x. As tiedlora::forward.
template <class B, class P, class X, class Y>
void forward(const B& backend, const Factors<const P>& f, const Tokens<const X>& x, const Tokens<Y>& y,
             const Tokens<accumulator_t<P>>& h, const CallOptions& o = {}) {
  if (f.rank > 0) backend.shrink(f, x, h, o);
  if (f.rank > 0 || o.overwrite) backend.expand(f, Tokens<const accumulator_t<P>>(h), y, o);
}

/// The same with h in the scratch or on the stack, a block of tokens at a time.
template <class B, class P, class X, class Y>
void forward(const B& backend, const Factors<const P>& f, const Tokens<const X>& x, const Tokens<Y>& y,
             const CallOptions& o = {}) {
  using Acc = accumulator_t<P>;
  if (f.rank == 0) return forward(backend, f, x, y, Tokens<Acc>(), o);
  const detail::HiddenBlock<Acc> h(f, o);
  for (Index t = 0; t < x.count; t += h.capacity()) {
    const Index count = detail::smaller(h.capacity(), x.count - t);
    forward(backend, f, x.tokens(t, count), y.tokens(t, count), h.tokens(count), detail::from_token(o, t));
  }
}

/// As tiedlora::backward; x is null where A is frozen, dx where it is not wanted.
template <class B, class P, class X, class Dy, class Dx>
void backward(const B& backend, const Factors<const P>& f, const Tokens<const X>& x,
              const Tokens<const accumulator_t<P>>& h, const Tokens<const Dy>& dy,
              const Factors<accumulator_t<P>>& gradient, const Tokens<Dx>& dx, const CallOptions& o = {}) {
  using Acc = accumulator_t<P>;
  if (f.rank == 0) {
    if (o.overwrite && !dx.is_none()) backend.shrink_backward(f, x, Tokens<const Acc>(), gradient, dx, o);
    return;
  }
  if (!detail::needs_dh(gradient, dx)) return backend.expand_backward(f, h, dy, gradient, Tokens<Acc>(), o);
  const detail::HiddenBlock<Acc> block(f, o);
  for (Index t = 0; t < dy.count; t += block.capacity()) {
    const Index count = detail::smaller(block.capacity(), dy.count - t);
    const CallOptions options = detail::from_token(o, t);
    const Tokens<Acc> dh = block.tokens(count);
    backend.expand_backward(f, h.tokens(t, count), dy.tokens(t, count), gradient, dh, options);
    if (!gradient.A && dx.is_none()) continue;
    backend.shrink_backward(f, x.is_none() ? x : x.tokens(t, count), Tokens<const Acc>(dh), gradient,
                            dx.is_none() ? dx : dx.tokens(t, count), options);
  }
}

}  // namespace TIEDLORA_ISA
}  // namespace unchecked
TIEDLORA_END_NAMESPACE
