// What a call can be told beyond its operands, in one struct so that signatures stay as they are.
#pragma once

#include <cstddef>  // byte
#include <cstdint>  // uint64_t
#include <span>     // span

#include "config.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// Part `ith` of `nth` of the work of one stage of forward, for a host's thread. The host's barrier separates
/// the stages. Results are bit-identical for every nth. (Backward in threads is cut by tokens:
/// BlockGradients.)
struct Slice {
  Index ith = 0;  ///< which part, from 0
  Index nth = 1;  ///< how many parts there are
};

/// Dropout on the adapter's input, h = A·(mask ∘ x / (1 - probability)), as PEFT's lora_dropout. The mask is
/// a pure function of (seed, step, input, token, feature), so that backward recomputes it and modules that
/// share an input share a mask. Where it is on, the CPU backend computes the stages that read x or write dx
/// by the reference loops: several times slower than without.
struct Dropout {
  double probability = 0;   ///< in [0, 1); 0: off
  std::uint64_t seed = 0;   ///< of the run
  std::uint64_t step = 0;   ///< a new mask each step
  std::uint64_t input = 0;  ///< Layout::input_id of the module
  Index first_token = 0;    ///< the view's place in its batch, where that is cut into several calls
};

/// What a call can be told beyond its operands. The defaults: the adapter as it was trained, added to y.
struct CallOptions {
  double scale = 1;                    ///< multiplies the module's scaling; 0 switches the adapter off
  const float* token_scale = nullptr;  ///< one more multiplier per token, by its place in the view
  bool overwrite = false;              ///< y (backward: dx) is set instead of added to
  Dropout dropout = {};                ///< off by default
  Slice slice = {};                    ///< of shrink or expand
  /// Memory for h of a forward without h, and for dh of backward; scratch_bytes(…) bytes are best. With
  /// fewer, tokens are computed in blocks; where not even one token fits, in blocks on the stack.
  std::span<std::byte> scratch = {};
};

namespace detail {
inline namespace TIEDLORA_ISA {

/// The options for the tokens from `begin` on.
inline CallOptions from_token(CallOptions o, Index begin) {
  if (o.token_scale) o.token_scale += begin;
  o.dropout.first_token += begin;
  return o;
}

}  // namespace TIEDLORA_ISA
}  // namespace detail
TIEDLORA_END_NAMESPACE
