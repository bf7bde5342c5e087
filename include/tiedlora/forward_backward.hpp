// The mathematics of one module, forward above backward: the readable reference, for any scalar.
//
//   x in×T   h = A·(mask ∘ x) r×T   y += c ∘ v ∘ B·(u ∘ h) out×T        c_t = scaling · scale · token_scale_t
//   A r×in   B out×r   u r   v out (absent: ones)                      arXiv 2311.09578; VeRA's formula,
//   arXiv 2310.11454
//
// For a loss L write dy for ∂L/∂y and so on. The derivatives, for one token, sums over tokens implied in
// those of A, B, u, v:
//   e = c v ∘ dy       dB += e (u ∘ h)ᵀ       dv += c dy ∘ B (u ∘ h)
//   d = Bᵀ e           du += h ∘ d            dh = u ∘ d
//   dA += dh (mask ∘ x)ᵀ                      dx += mask ∘ Aᵀ dh
//
// Every function works token by token, so T tokens at once give the bits of T calls of one token each; sums
// run over features in blocks, then over ranks, in that fixed order. Calls allocate nothing, lock nothing and
// keep nothing.
#pragma once

#include <algorithm>    // min, fill
#include <cstddef>      // size_t
#include <memory>       // align
#include <string>       // string
#include <type_traits>  // is_trivially_copyable, is_same

#include "config.hpp"
#include "dropout.hpp"
#include "error.hpp"
#include "factors.hpp"
#include "options.hpp"
#include "scalar.hpp"
#include "tokens.hpp"

namespace tiedlora {
inline namespace v1 {
namespace detail {
inline namespace TIEDLORA_ISA {

inline constexpr Index block_features = 256;     // features are converted and summed in blocks of this many
inline constexpr Index stack_bytes = 16 * 1024;  // for h where the caller gives neither h nor scratch

template <class P>
std::string of_module(const Factors<P>& f) {
  return message("module \"", f.name ? f.name : "?", "\" (", f.out_features, "x", f.in_features, ", rank ",
                 f.rank, "): ");
}

/// Throws Error, naming the module, unless `tokens` (called `what`) has the width that the module's
/// `dimension` asks for.
template <class P, class T>
void check_tokens(const Factors<P>& f, const char* what, const Tokens<T>& tokens, const char* dimension,
                  Index width, Index count) {
  if (tokens.width != width)
    fail(message(of_module(f), what, " has ", tokens.width, " features, but ", dimension, " is ", width,
                 " (wrong base model, wrong module, or a matrix that holds tokens as rows?)"));
  if (tokens.count != count)
    fail(message(of_module(f), what, " has ", tokens.count, " tokens, but another operand of this call has ",
                 count));
  if (!tokens.rows && !tokens.pointers && count > 1 && tokens.stride < width)
    fail(message(of_module(f), what, " has tokens of ", width, " features that overlap: its stride is ",
                 tokens.stride));
  if (!tokens.data && !tokens.pointers && width > 0 && count > 0)
    fail(message(of_module(f), what, " has no memory"));
}

template <class P>
void check_options(const Factors<P>& f, const CallOptions& o, bool is_half) {
  if (o.slice.nth < 1 || o.slice.ith < 0 || o.slice.ith >= o.slice.nth)
    fail(message(of_module(f), "slice ", o.slice.ith, " of ", o.slice.nth, " does not exist"));
  if (!is_half && o.slice.nth != 1)
    fail(message(of_module(f),
                 "forward and backward cannot be sliced: they are two halves with a barrier between; slice "
                 "shrink and expand, or expand_backward and shrink_backward"));
  if (!(o.dropout.probability >= 0 && o.dropout.probability < 1))
    fail(message(of_module(f), "dropout.probability is ", o.dropout.probability,
                 "; it must be at least 0 and less than 1"));
}

struct Range {
  Index begin, end;
};

/// Part ith of n things, of nearly equal size, in order.
inline Range part_of(Index n, const Slice& slice) {
  return {n / slice.nth * slice.ith + std::min(n % slice.nth, slice.ith),
          n / slice.nth * (slice.ith + 1) + std::min(n % slice.nth, slice.ith + 1)};
}

/// The options for the tokens from `begin` on.
inline CallOptions from_token(CallOptions o, Index begin) {
  if (o.token_scale) o.token_scale += begin;
  o.dropout.first_token += begin;
  return o;
}

template <class Acc, class P>
Acc token_scaling(const Factors<P>& f, const CallOptions& o, Index t) {
  const Acc c = f.scaling * static_cast<Acc>(o.scale);
  return o.token_scale ? c * static_cast<Acc>(o.token_scale[t]) : c;
}

/// Σ_i a_i x_i. Sixteen partial sums: an order that is ours rather than the compiler's, and that fits its
/// vector registers.
template <class Acc, class P>
Acc dot(const P* __restrict a, const Acc* __restrict x, Index n) {
  constexpr Index lanes = 16;
  Acc sums[lanes] = {};
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
  const DropoutMask mask(dropout, t);
  for (Index i = 0; i < n; ++i) out[i] *= static_cast<Acc>(mask(begin + i));
}

/// to = to + values, or = values; rounded once.
template <class Acc, class T>
void store(const Acc* values, Index n, bool overwrite, T* to) {
  for (Index i = 0; i < n; ++i)
    to[i] = static_cast<T>(overwrite ? values[i] : static_cast<Acc>(to[i]) + values[i]);
}

template <class T>
void set_zero(const Tokens<T>& tokens, const Slice& slice) {
  const auto [begin, end] = part_of(tokens.count, slice);
  for (Index t = begin; t < end; ++t) std::fill_n(tokens[t], tokens.width, T(0));
}

/// Room for h of a block of tokens: the caller's scratch, else the stack.
template <class Acc>
class HiddenBlock {
 public:
  template <class P>
  HiddenBlock(const Factors<P>& f, const CallOptions& o)
      : rank_(f.rank), data_(stack_), capacity_(stack_size / f.rank) {
    if constexpr (std::is_trivially_copyable_v<Acc>) {
      void* scratch = o.scratch.data();
      std::size_t bytes = o.scratch.size();
      if (scratch && std::align(alignof(Acc), sizeof(Acc), scratch, bytes) &&
          static_cast<Index>(bytes / sizeof(Acc)) / f.rank > 0) {
        data_ = static_cast<Acc*>(scratch);
        capacity_ = static_cast<Index>(bytes / sizeof(Acc)) / f.rank;
      }
    }
    if (capacity_ == 0)
      fail(message(of_module(f), "without scratch the rank can be at most ", stack_size,
                   "; give scratch_bytes(…) of scratch"));
  }
  HiddenBlock(const HiddenBlock&) = delete;
  HiddenBlock& operator=(const HiddenBlock&) = delete;

  Index capacity() const { return capacity_; }  ///< tokens
  Tokens<Acc> tokens(Index count) const { return {data_, rank_, count, rank_}; }

 private:
  static constexpr Index stack_size = std::max<Index>(1, stack_bytes / static_cast<Index>(sizeof(Acc)));
  Index rank_;
  Acc stack_[static_cast<std::size_t>(stack_size)];
  Acc* data_;
  Index capacity_;
};

}  // namespace TIEDLORA_ISA
}  // namespace detail

inline namespace TIEDLORA_ISA {

/// Bytes of scratch with which forward without h and backward run best on that many tokens; less or none also
/// works.
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
  using Acc = accumulator_t<P>;
  if (f.rank == 0) return;
  const auto xs = input_tokens(x);
  const Tokens<Acc> hs = output_tokens(h);
  check_options(f, o, true);
  check_tokens(f, "x", xs, "in_features", f.in_features, xs.count);
  check_tokens(f, "h", hs, "the rank", f.rank, xs.count);

  // Many tokens are shared out among threads by tokens, few by ranks.
  const bool by_tokens = xs.count >= f.rank;
  const Range tokens = by_tokens ? part_of(xs.count, o.slice) : Range{0, xs.count};
  const Range ranks = by_tokens ? Range{0, f.rank} : part_of(f.rank, o.slice);
  for (Index t = tokens.begin; t < tokens.end; ++t) {
    for (Index k = ranks.begin; k < ranks.end; ++k) hs[t][k] = Acc(0);
    for (Index i = 0; i < f.in_features; i += block_features) {
      const Index n = std::min(block_features, f.in_features - i);
      Acc block[block_features];
      load_input(xs, t, i, n, o.dropout, block);
      for (Index k = ranks.begin; k < ranks.end; ++k) hs[t][k] += dot(f.A + k * f.a_stride + i, block, n);
    }
  }
}

/// y += c ∘ v ∘ B·(u ∘ h), or y = … with overwrite. h r×T in accumulator_t<P>, y out×T.
template <class P, class H, class Y>
void expand(const Factors<P>& f, const H& h, Y&& y, const CallOptions& o = {}) {
  using namespace detail;
  using Acc = accumulator_t<P>;
  const auto ys = output_tokens(y);
  check_options(f, o, true);
  check_tokens(f, "y", ys, "out_features", f.out_features, ys.count);
  if (f.rank == 0) {
    if (o.overwrite) set_zero(ys, o.slice);
    return;
  }
  const Tokens<const Acc> hs = input_tokens(h);
  check_tokens(f, "h", hs, "the rank", f.rank, ys.count);

  const Range features = part_of(f.out_features, o.slice);
  for (Index t = 0; t < hs.count; ++t) {
    const Acc c = token_scaling<Acc>(f, o, t);
    for (Index i = features.begin; i < features.end; i += block_features) {
      const Index n = std::min(block_features, features.end - i);
      Acc block[block_features];
      std::fill_n(block, n, Acc(0));
      for (Index k = 0; k < f.rank; ++k)
        add_scaled(f.u ? c * static_cast<Acc>(f.u[k]) * hs[t][k] : c * hs[t][k], f.B + k * f.b_stride + i,
                   block, n);
      if (f.v)
        for (Index j = 0; j < n; ++j) block[j] *= static_cast<Acc>(f.v[i + j]);
      store(block, n, o.overwrite, ys[t] + i);
    }
  }
}

/// Both halves: y += c ∘ v ∘ B·(u ∘ A·(mask ∘ x)). Where y holds the base layer's output this is the adapted
/// layer. The caller keeps h (and x, if layout.backward_needs_x) until backward.
template <class P, class X, class Y, class H>
  requires(!std::is_same_v<std::remove_cvref_t<H>, CallOptions>)
void forward(const Factors<P>& f, const X& x, Y&& y, H&& h, const CallOptions& o = {}) {
  detail::check_options(f, o, false);
  shrink(f, x, h, o);
  expand(f, h, y, o);
}

/// The same for a caller who needs no h: it lives in the scratch or on the stack, a block of tokens at a
/// time.
template <class P, class X, class Y>
void forward(const Factors<P>& f, const X& x, Y&& y, const CallOptions& o = {}) {
  using namespace detail;
  check_options(f, o, false);
  const auto xs = input_tokens(x);
  const auto ys = output_tokens(y);
  check_tokens(f, "y", ys, "out_features", f.out_features, xs.count);
  if (f.rank == 0) return expand(f, Tokens<const accumulator_t<P>>{}, ys, o);
  const HiddenBlock<accumulator_t<P>> hidden(f, o);
  for (Index t = 0; t < xs.count; t += hidden.capacity()) {
    const Index count = std::min(hidden.capacity(), xs.count - t);
    forward(f, xs.tokens(t, count), ys.tokens(t, count), hidden.tokens(count), from_token(o, t));
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Backward

/// Backward of expand: dh = u ∘ d, and adds to the gradients of B, u and v that are there. h r×T, dy out×T,
/// dh r×T overwritten.
template <class P, class H, class Dy, class Dh>
void expand_backward(const Factors<P>& f, const H& h, const Dy& dy, const Factors<accumulator_t<P>>& gradient,
                     Dh&& dh, const CallOptions& o = {}) {
  using namespace detail;
  using Acc = accumulator_t<P>;
  if (f.rank == 0) return;
  const Tokens<const Acc> hs = input_tokens(h);
  const auto dys = input_tokens(dy);
  const Tokens<Acc> dhs = output_tokens(dh);
  check_options(f, o, true);
  check_tokens(f, "dy", dys, "out_features", f.out_features, dys.count);
  check_tokens(f, "h", hs, "the rank", f.rank, dys.count);
  check_tokens(f, "dh", dhs, "the rank", f.rank, dys.count);

  // Each slice has its own ranks of dh and du and its own features of dB and dv: no two slices write to one
  // place.
  const Range ranks = part_of(f.rank, o.slice);
  const Range features = part_of(f.out_features, o.slice);
  for (Index t = 0; t < dys.count; ++t) {
    const Acc c = token_scaling<Acc>(f, o, t);
    Acc e[block_features];  // c v ∘ dy
    const auto load_e = [&](Index begin, Index n) {
      for (Index j = 0; j < n; ++j) e[j] = c * static_cast<Acc>(dys[t][begin + j]);
      if (f.v)
        for (Index j = 0; j < n; ++j) e[j] *= static_cast<Acc>(f.v[begin + j]);
    };

    for (Index k = ranks.begin; k < ranks.end; ++k) dhs[t][k] = Acc(0);
    for (Index i = 0; i < f.out_features; i += block_features) {
      const Index n = std::min(block_features, f.out_features - i);
      load_e(i, n);
      for (Index k = ranks.begin; k < ranks.end; ++k) dhs[t][k] += dot(f.B + k * f.b_stride + i, e, n);
    }
    for (Index k = ranks.begin; k < ranks.end; ++k) {
      if (gradient.u) gradient.u[k] += hs[t][k] * dhs[t][k];
      if (f.u) dhs[t][k] *= static_cast<Acc>(f.u[k]);
    }

    if (!gradient.B && !gradient.v) continue;
    for (Index i = features.begin; i < features.end; i += block_features) {
      const Index n = std::min(block_features, features.end - i);
      load_e(i, n);
      Acc z[block_features];  // B (u ∘ h)
      std::fill_n(z, n, Acc(0));
      for (Index k = 0; k < f.rank; ++k) {
        const Acc uh = f.u ? static_cast<Acc>(f.u[k]) * hs[t][k] : hs[t][k];
        if (gradient.B) add_scaled(uh, e, gradient.B + k * gradient.b_stride + i, n);
        if (gradient.v) add_scaled(uh, f.B + k * f.b_stride + i, z, n);
      }
      if (gradient.v)
        for (Index j = 0; j < n; ++j) gradient.v[i + j] += c * static_cast<Acc>(dys[t][i + j]) * z[j];
    }
  }
}

/// Backward of shrink: adds to the gradient of A if it is there, and dx += mask ∘ Aᵀ dh (dx = … with
/// overwrite). dh r×T, dx in×T or `none`; x in×T, or `none` where A is frozen.
template <class P, class X, class Dh, class Dx>
void shrink_backward(const Factors<P>& f, const X& x, const Dh& dh, const Factors<accumulator_t<P>>& gradient,
                     Dx&& dx, const CallOptions& o = {}) {
  using namespace detail;
  using Acc = accumulator_t<P>;
  check_options(f, o, true);
  if (f.rank == 0) {
    if constexpr (!is_none<Dx>)
      if (o.overwrite) set_zero(output_tokens(dx), o.slice);
    return;
  }
  const Tokens<const Acc> dhs = input_tokens(dh);
  check_tokens(f, "dh", dhs, "the rank", f.rank, dhs.count);
  const Range features = part_of(f.in_features, o.slice);

  if constexpr (!is_none<X>) {
    const auto xs = input_tokens(x);
    if (gradient.A) check_tokens(f, "x", xs, "in_features", f.in_features, dhs.count);
    for (Index t = 0; t < dhs.count && gradient.A; ++t)
      for (Index i = features.begin; i < features.end; i += block_features) {
        const Index n = std::min(block_features, features.end - i);
        Acc block[block_features];
        load_input(xs, t, i, n, o.dropout, block);
        for (Index k = 0; k < f.rank; ++k)
          add_scaled(dhs[t][k], block, gradient.A + k * gradient.a_stride + i, n);
      }
  } else {
    if (gradient.A) fail(message(of_module(f), "A is trained, and its gradient needs x, which is none"));
  }

  if constexpr (!is_none<Dx>) {
    const auto dxs = output_tokens(dx);
    check_tokens(f, "dx", dxs, "in_features", f.in_features, dhs.count);
    for (Index t = 0; t < dhs.count; ++t)
      for (Index i = features.begin; i < features.end; i += block_features) {
        const Index n = std::min(block_features, features.end - i);
        Acc block[block_features];
        std::fill_n(block, n, Acc(0));
        for (Index k = 0; k < f.rank; ++k) add_scaled(dhs[t][k], f.A + k * f.a_stride + i, block, n);
        if (o.dropout.probability != 0) {
          const DropoutMask mask(o.dropout, t);
          for (Index j = 0; j < n; ++j) block[j] *= static_cast<Acc>(mask(i + j));
        }
        store(block, n, o.overwrite, dxs[t] + i);
      }
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
  if (f.rank == 0) return shrink_backward(f, x, Tokens<const Acc>{}, gradient, dx, o);
  const Tokens<const Acc> hs = input_tokens(h);
  const auto dys = input_tokens(dy);
  check_tokens(f, "h", hs, "the rank", f.rank, dys.count);
  check_tokens(f, "dy", dys, "out_features", f.out_features, dys.count);
  const auto xs = input_tokens_or_none(x);
  const auto dxs = output_tokens_or_none(dx);
  if constexpr (!is_none<X>) check_tokens(f, "x", xs, "in_features", f.in_features, dys.count);
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
