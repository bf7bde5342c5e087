// Who computes. What a call means (checks, scratch, stages, options) is defined in ops/; the arithmetic is a
// backend's: the CPU's kernels, the reference loops, or a type of your own with the same four functions.
#pragma once

#include <concepts>     // same_as
#include <cstddef>      // byte, size_t
#include <span>         // span
#include <type_traits>  // is_trivially_copyable

#include "../views/config.hpp"
#include "../views/factors.hpp"
#include "../views/options.hpp"
#include "../views/scalar.hpp"
#include "../views/tokens.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// A type with these four functions for parameters P, x and dx in X, y and dy in Y:
///
///   shrink           h = A·x                                                  h is overwritten
///   expand           y += c ∘ v ∘ B·(u ∘ h), or y = … with overwrite          c as CallOptions says
///   expand_backward  dh = u ∘ d, du += h ∘ d with d = c Bᵀ(v ∘ dy); dB += c (v ∘ dy)(u ∘ h)ᵀ;
///                    dv += Σ_t c dy ∘ B(u ∘ h)
///   shrink_backward  dA += dh xᵀ; dx += Aᵀ dh, or dx = … with overwrite
///
/// Operands have been checked. What is absent or not wanted is a null pointer: u or v (ones), a gradient (not
/// trained), dh and dx, and x where A is frozen. With rank 0, expand is called with overwrite only and sets y
/// to zero; shrink_backward does the same to dx. backends/reference.hpp has the same in loops.
///
/// All pointers belong to the backend's memory: nothing above it dereferences them. Whatever else it needs (a
/// stream, a queue, a workspace) is its own state. It may also have
///   - `static constexpr bool runs_slices = true`: shrink and expand do their part of options.slice;
///   - `static constexpr bool masks_x = true`: shrink and shrink_backward apply options.dropout;
///   - `memory()`: its memory is not the host's; see DeviceMemory;
///   - overloads for several modules with one x: spans in place of f, h, y, gradient and dh;
///   - expand for tenants (serving/): every token's own u and v over one B.
template <class B, class P, class X = P, class Y = X>
concept Backend =
    requires(const B& b, const Factors<const P>& f, Tokens<const X> x, Tokens<const accumulator_t<P>> h,
             Tokens<accumulator_t<P>> h_out, Tokens<Y> y, Tokens<const Y> dy, Tokens<X> dx,
             const Factors<accumulator_t<P>>& gradient, const CallOptions& o) {
      b.shrink(f, x, h_out, o);
      b.expand(f, h, y, o);
      b.expand_backward(f, h, dy, gradient, h_out, o);
      b.shrink_backward(f, x, h, gradient, dx, o);
    };

namespace detail {
/// For a message that says what is missing, before a call fails somewhere inside.
template <class B, class P, class X, class Y>
constexpr void require_backend() {
  static_assert(Backend<B, P, X, Y>,
                "tiedlora: the backend lacks one of shrink, expand, expand_backward and shrink_backward for "
                "these types; see ops/backend.hpp");
}
}  // namespace detail

/// What memory() of a backend returns where kernels do not run on the host's memory. upload, download and
/// free wait for the kernels that were started before them: the library, and the owner of an adapter, free
/// what kernels in flight may still read.
template <class M>
concept DeviceMemory = requires(M& m, void* device, const void* from, void* host, std::size_t bytes) {
  { m.allocate(bytes) } -> std::same_as<void*>;
  m.free(device);
  m.upload(from, device, bytes);
  m.download(from, host, bytes);
};

namespace detail {

template <class B>
inline constexpr bool has_device_memory = requires(const B& b) { b.memory(); };

template <class B>
constexpr bool runs_slices() {
  if constexpr (requires { B::runs_slices; }) return B::runs_slices;
  return false;
}
template <class B>
constexpr bool masks_x() {
  if constexpr (requires { B::masks_x; }) return B::masks_x;
  return false;
}

inline namespace TIEDLORA_ISA {

/// Throws Error where options ask for what this backend does not do.
template <class B, class P>
void check_backend(const Factors<P>& f, const CallOptions& o) {
  if (!runs_slices<B>() && o.slice.nth != 1)
    fail_at(f, "this backend takes no slices; leave options.slice at its default");
  if (!masks_x<B>() && o.dropout.probability != 0)
    fail_at(f, "this backend has no dropout; leave options.dropout off");
}

/// How many values of h a call without h, or backward, has room for without scratch.
template <class Acc>
inline constexpr Index stack_numbers =
    sizeof(Acc) < 16 * 1024 ? 16 * 1024 / static_cast<Index>(sizeof(Acc)) : 1;

/// Room for h in the caller's scratch.
template <class Acc>
struct HiddenScratch {
  explicit HiddenScratch(const CallOptions& o) {
    std::byte* scratch = o.scratch.data();
    const auto misaligned = reinterpret_cast<std::size_t>(scratch) % alignof(Acc);
    const std::size_t skipped = misaligned ? alignof(Acc) - misaligned : 0;
    if (!std::is_trivially_copyable_v<Acc> || o.scratch.size() < skipped + sizeof(Acc)) return;
    data = reinterpret_cast<Acc*>(scratch + skipped);
    numbers = static_cast<Index>((o.scratch.size() - skipped) / sizeof(Acc));
  }
  Acc* data = nullptr;
  Index numbers = 0;
};

/// Throws Error where there is no room for h, or dh, of a single token.
template <class B, class P>
void check_room_for_h(const Factors<P>& f, const CallOptions& o, const char* what) {
  using Acc = accumulator_t<P>;
  if (HiddenScratch<Acc>(o).numbers >= f.rank) return;
  if (has_device_memory<B>)
    fail_at(f, "this backend needs options.scratch for ", what, ": scratch_bytes(…) bytes in its own memory");
  if (f.rank > stack_numbers<Acc>)
    fail_at(f, "without scratch the rank can be at most ", stack_numbers<Acc>,
            "; give scratch_bytes(…) bytes in options.scratch");
}

/// Room for h of a block of tokens: the caller's scratch, else the stack.
template <class Acc>
class HiddenBlock {
 public:
  template <class P>
  HiddenBlock(const Factors<P>& f, const CallOptions& o)
      : rank_(f.rank), data_(stack_), capacity_(stack_numbers<Acc> / f.rank) {
    const HiddenScratch<Acc> scratch(o);
    if (scratch.numbers < f.rank) return;
    data_ = scratch.data;
    capacity_ = scratch.numbers / f.rank;
  }
  HiddenBlock(const HiddenBlock&) = delete;
  HiddenBlock& operator=(const HiddenBlock&) = delete;

  Index capacity() const { return capacity_; }  ///< tokens
  Tokens<Acc> tokens(Index count) const { return {data_, rank_, count, rank_}; }

 private:
  Index rank_;
  Acc stack_[static_cast<std::size_t>(stack_numbers<Acc>)];
  Acc* data_;
  Index capacity_;
};

}  // namespace TIEDLORA_ISA
}  // namespace detail

inline namespace TIEDLORA_ISA {

/// Bytes of scratch with which forward without h, and backward, run in one block of tokens. With less, or
/// none, they take blocks that fit into it, or into 16 KB of stack, which bounds the rank (4096 in float).
/// Gradients in float are added up block by block, so their last bits depend on the scratch.
template <class P>
std::size_t scratch_bytes(const Factors<P>& f, Index tokens) {
  return static_cast<std::size_t>(f.rank * tokens) * sizeof(accumulator_t<P>) + alignof(accumulator_t<P>);
}

}  // namespace TIEDLORA_ISA
TIEDLORA_END_NAMESPACE
