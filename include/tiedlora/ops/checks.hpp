// What every call checks, once, before a backend sees its operands. Hosts that check at load time call
// check_forward and check_backward themselves and from then on the unchecked calls (unchecked.hpp).
#pragma once

#include "../views/config.hpp"
#include "../views/error.hpp"
#include "../views/factors.hpp"
#include "../views/options.hpp"
#include "../views/scalar.hpp"
#include "../views/tokens.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace detail {
inline namespace TIEDLORA_ISA {

/// Throws Error, naming the module, unless `tokens` (called `what`) has the width that the module's
/// `dimension` asks for and as many tokens as `other`.
template <class P, class T>
void check_tokens(const Factors<P>& f, const char* what, const Tokens<T>& tokens, const char* dimension,
                  Index width, const char* other, Index count) {
  if (tokens.width != width)
    fail_at(f, what, " has ", tokens.width, " features, but ", dimension, " is ", width,
            " (wrong base model, wrong module, or a matrix that holds tokens as rows?)");
  if (tokens.count != count) fail_at(f, what, " has ", tokens.count, " tokens, but ", other, " has ", count);
  if (count < 0) fail_at(f, what, " has ", count, " tokens; the count must not be negative");
  if (!tokens.rows && !tokens.pointers && count > 1 && tokens.stride < width)
    fail_at(f, what, " has stride ", tokens.stride, ", but its tokens are ", width,
            " features wide and would overlap; the stride is in elements, not bytes");
  if (tokens.is_none() && width > 0 && count > 0) fail_at(f, what, " is null");
}

/// Checks the options of shrink and expand, which may be sliced, or of a call that may not. The values in
/// token_scale, operands and factors are not checked: that would cost as much as some calls.
template <class P>
void check_options(const Factors<P>& f, const CallOptions& o, bool may_be_sliced) {
  if (o.slice.nth < 1 || o.slice.ith < 0 || o.slice.ith >= o.slice.nth)
    fail_at(f, "slice ", o.slice.ith, " of ", o.slice.nth,
            " does not exist: ith must be at least 0 and less than nth");
  if (!may_be_sliced && o.slice.nth != 1)
    fail_at(f,
            "this call takes no slice; in threads call shrink and expand with a barrier between them, and "
            "backward_in_blocks for backward");
  if (!(o.scale * 0 == 0)) fail_at(f, "options.scale is ", o.scale, "; it must be finite");
  // As kernels compute it.
  if (!is_finite<accumulator_t<P>>(f.scaling * static_cast<accumulator_t<P>>(o.scale)))
    fail_at(f, "options.scale is ", o.scale,
            "; in the type of h its product with the scaling must be finite as well");
  if (!(o.dropout.probability >= 0 && o.dropout.probability < 1))
    fail_at(f, "options.dropout.probability is ", o.dropout.probability,
            "; it must be at least 0 and less than 1");
}

/// Rows of A and columns of B that overlap: a stride that was forgotten.
template <class P>
void check_stride(const Factors<P>& f, const char* stride, Index given, const char* length, Index least) {
  if (f.rank > 1 && given < least)
    fail_at(f, stride, " is ", given, ", less than ", length, ", ", least,
            ", so that ranks would overlap; it is in elements, not bytes");
}

/// Throws Error unless the gradients that are there are the module's, by its index where both say one, and
/// have its shape: backward would write past them.
template <class P, class G>
void check_gradient(const Factors<P>& f, const Factors<G>& gradient) {
  if (!gradient.A && !gradient.B && !gradient.u && !gradient.v) return;
  const bool is_others = f.module >= 0 && gradient.module >= 0 && gradient.module != f.module;
  if (is_others || gradient.rank != f.rank || gradient.in_features != f.in_features ||
      gradient.out_features != f.out_features)
    fail_at(f, "the gradient is that of module \"", gradient.name ? gradient.name : "?", "\" (",
            gradient.out_features, "x", gradient.in_features, ", rank ", gradient.rank,
            "); give gradients.factors(m) of the same module");
  if (gradient.A) check_stride(f, "the gradient's a_stride", gradient.a_stride, "in_features", f.in_features);
  if (gradient.B)
    check_stride(f, "the gradient's b_stride", gradient.b_stride, "out_features", f.out_features);
}

template <class P>
[[noreturn]] void fail_null(const Factors<P>& f, const char* factor) {
  fail_at(f, factor,
          " is null (factors_at of a null array, or gradients.factors(m) in place of adapter.factors(m)?)");
}

template <class P>
void check_A(const Factors<P>& f) {
  if (f.rank > 0 && !f.A) fail_null(f, "A");
  check_stride(f, "a_stride", f.a_stride, "in_features", f.in_features);
}
template <class P>
void check_B(const Factors<P>& f) {
  if (f.rank > 0 && !f.B) fail_null(f, "B");
  check_stride(f, "b_stride", f.b_stride, "out_features", f.out_features);
}
template <class P>
void check_factors(const Factors<P>& f) {
  check_A(f);
  check_B(f);
}

template <class P, class X>
void check_shrink(const Factors<P>& f, const Tokens<X>& x, const Tokens<accumulator_t<P>>& h) {
  check_A(f);
  check_tokens(f, "x", x, "in_features", f.in_features, "x", x.count);
  check_tokens(f, "h", h, "the rank", f.rank, "x", x.count);
}

template <class P, class H, class Y>
void check_expand(const Factors<P>& f, const Tokens<H>& h, const Tokens<Y>& y) {
  check_tokens(f, "y", y, "out_features", f.out_features, "y", y.count);
  check_B(f);
  if (f.rank > 0) check_tokens(f, "h", h, "the rank", f.rank, "y", y.count);
}

/// Whether the first stage of backward has to compute dh, for the second stage or for du.
template <class G, class Dx>
bool needs_dh(const Factors<G>& gradient, const Tokens<Dx>& dx) {
  return gradient.A || gradient.u || !dx.is_none();
}

template <class P, class Dy, class Dh>
void check_expand_backward(const Factors<P>& f, const Tokens<const accumulator_t<P>>& h, const Tokens<Dy>& dy,
                           const Factors<accumulator_t<P>>& gradient, const Tokens<Dh>& dh, bool wants_dh) {
  check_gradient(f, gradient);
  check_B(f);
  check_tokens(f, "dy", dy, "out_features", f.out_features, "dy", dy.count);
  check_tokens(f, "h", h, "the rank", f.rank, "dy", dy.count);
  if (wants_dh)
    check_tokens(f, "dh", dh, "the rank", f.rank, "dy", dy.count);
  else if (gradient.u)
    fail_at(f, "u is trained and its gradient needs dh, but dh is none");
}

/// Whether backward was given an operand that it may do without: not `none`, nor a view without memory in its
/// place. Without tokens or features an operand has no memory either, but the width of the module's.
template <class Operand, class T>
bool is_given(const Tokens<T>& view, Index tokens, Index features) {
  return !is_none_t<Operand> && !(view.is_none() && features > 0 && (tokens > 0 || view.width == 0));
}

/// x and dx of the second stage of backward, for as many tokens as `other` has.
template <class P, class X, class Dx>
void check_input_side(const Factors<P>& f, const Tokens<X>& x, bool has_x,
                      const Factors<accumulator_t<P>>& gradient, const Tokens<Dx>& dx, bool wants_dx,
                      const char* other, Index count) {
  check_gradient(f, gradient);
  check_A(f);
  if (!has_x && gradient.A) fail_at(f, "A is trained and its gradient needs x, but x is none");
  if (has_x) check_tokens(f, "x", x, "in_features", f.in_features, other, count);
  if (wants_dx) check_tokens(f, "dx", dx, "in_features", f.in_features, other, count);
}

}  // namespace TIEDLORA_ISA
}  // namespace detail
TIEDLORA_END_NAMESPACE
