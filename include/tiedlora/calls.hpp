// What every call on one module does around its arithmetic: checks, shares of the work, room for h.
#pragma once

#include <algorithm>    // fill_n, max, min
#include <cstddef>      // size_t
#include <memory>       // align
#include <string>       // string
#include <type_traits>  // is_trivially_copyable

#include "config.hpp"
#include "error.hpp"
#include "factors.hpp"
#include "options.hpp"
#include "scalar.hpp"
#include "tokens.hpp"

namespace tiedlora {
inline namespace v1 {
namespace detail {
inline namespace TIEDLORA_ISA {

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

/// Throws Error unless the gradients that are there have the module's shape: backward would write past them.
template <class P, class G>
void check_gradient(const Factors<P>& f, const Factors<G>& gradient) {
  if (!gradient.A && !gradient.B && !gradient.u && !gradient.v) return;
  if (gradient.rank != f.rank || gradient.in_features != f.in_features ||
      gradient.out_features != f.out_features)
    fail(message(of_module(f), "the gradient is that of ", of_module(gradient),
                 "give gradients.factors of the same module"));
}

template <class P, class G>
void check_x_not_needed(const Factors<P>& f, const Factors<G>& gradient) {
  if (gradient.A) fail(message(of_module(f), "A is trained and its gradient needs x, but x is none"));
}

struct Range {
  Index begin, end;
};

/// Part ith of n things, of nearly equal size, in order.
inline Range part_of(Index n, const Slice& slice) {
  return {n / slice.nth * slice.ith + std::min(n % slice.nth, slice.ith),
          n / slice.nth * (slice.ith + 1) + std::min(n % slice.nth, slice.ith + 1)};
}

/// As part_of, in whole units but for the last.
inline Range part_in_units(Index n, Index unit, const Slice& slice) {
  const Range units = part_of((n + unit - 1) / unit, slice);
  return {std::min(n, units.begin * unit), std::min(n, units.end * unit)};
}

/// Features are shared out by whole cache lines (64 bytes hold 32 of the narrowest).
inline Range part_of_features(Index n, const Slice& slice) { return part_in_units(n, 32, slice); }

struct Shares {
  Range tokens, ranks;
};

/// Many tokens are shared out among threads by tokens, few by ranks (four at a time, as the kernels take
/// them).
inline Shares shares_of_shrink(Index tokens, Index rank, const Slice& slice) {
  return tokens >= rank ? Shares{part_of(tokens, slice), {0, rank}}
                        : Shares{{0, tokens}, part_in_units(rank, 4, slice)};
}

/// du is summed over this many tokens before it is added up: the unit in which slices of expand_backward
/// share out many tokens. With few they share out the ranks.
inline constexpr Index du_tokens = 16;
inline bool shares_tokens_backward(Index tokens) { return tokens > du_tokens; }

/// Throws Error where slices of expand_backward need scratch for the partial sums of du and have too little.
template <class P, class G>
void check_slice_scratch(const Factors<P>& f, const Factors<G>& gradient, Index tokens,
                         const CallOptions& o) {
  if (o.slice.nth == 1 || !gradient.u || !shares_tokens_backward(tokens)) return;
  const Index numbers = (tokens + du_tokens - 1) / du_tokens * f.rank;
  const std::size_t bytes = static_cast<std::size_t>(numbers) * sizeof(G) + alignof(G);
  if (o.scratch.size() < bytes)
    fail(message(of_module(f),
                 "expand_backward in slices adds up the gradient of u in scratch, the same for all ",
                 "slices and for finish_expand_backward: it needs ", bytes,
                 " bytes (scratch_bytes says more "
                 "than enough) and got ",
                 o.scratch.size()));
}

struct OutputShares {
  Range tokens, features;
};

/// Outputs of many tokens are shared out by tokens: a core that writes a part of every row would be sent the
/// lines beyond it by its prefetcher, and take them from their owner.
template <class T>
OutputShares shares_of_outputs(const Tokens<T>& out, const Slice& slice) {
  return out.count > du_tokens ? OutputShares{part_of(out.count, slice), {0, out.width}}
                               : OutputShares{{0, out.count}, part_of_features(out.width, slice)};
}

/// The first of the modules whose A is that of module m: they share h.
template <class Modules>
std::size_t first_with_same_A(const Modules& modules, std::size_t m) {
  std::size_t first = 0;
  while (modules[first].A != modules[m].A || modules[first].rank != modules[m].rank) ++first;
  return first;
}

/// The options for the tokens from `begin` on.
inline CallOptions from_token(CallOptions o, Index begin) {
  if (o.token_scale) o.token_scale += begin;
  o.dropout.first_token += begin;
  return o;
}

/// c_t, what the adapter's output for token t is multiplied with.
template <class Acc, class P>
Acc token_scaling(const Factors<P>& f, const CallOptions& o, Index t) {
  const Acc c = f.scaling * static_cast<Acc>(o.scale);
  return o.token_scale ? c * static_cast<Acc>(o.token_scale[t]) : c;
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
}  // namespace v1
}  // namespace tiedlora
