// How the work is cut into blocks, and for which cache: everything in one place.
#pragma once

#include <algorithm>    // max
#include <type_traits>  // integral_constant

#include "dot_tile.hpp"
#include "sum_tile.hpp"

namespace tiedlora {
inline namespace v1 {
namespace kernels {
inline namespace TIEDLORA_ISA {

/// Features of one dot product before it is folded into h: folding costs as much as ten products, so long
/// runs pay; four packed rows are 64 KB of stack and of the second cache.
inline constexpr Index dot_features = 4096;

/// Features that backward takes at a time, so that a block of tokens (512 KB) is still in the second cache
/// when the gradients come to it, and what one token adds up in the first.
inline constexpr Index backward_features = 1024;

/// Tokens that share one packed panel of A, or one read and write of a gradient.
inline constexpr Index block_tokens = 128;

/// Tokens that share one read and write of a gradient where they come from far: few enough rows for the
/// prefetcher, many enough to earn the write.
inline constexpr Index gradient_tokens = 32;

/// From this many tokens on, packing four rows of A costs little beside the products it serves.
inline constexpr Index pack_tokens = 32;

/// Ranks that one sum takes in its registers before it is added to an output. Their coefficients for eight
/// tokens are 8 KB of stack.
inline constexpr Index panel_ranks = 256;

/// Outputs larger than this are fetched ahead of their sums: more than a core's share of the last cache.
inline constexpr Index far_bytes = 4 * 1024 * 1024;

/// Whether rows that many bytes apart compete, feature by feature, for one set of the first cache, which
/// holds eight lines.
constexpr bool shares_cache_sets(Index stride_bytes) { return stride_bytes % 4096 == 0; }

/// Features for which all rows of a panel stay in the second cache, at 256 KB, while tokens go past.
constexpr Index sum_features(Index rank) { return std::max<Index>(64 * 1024 / rank / 64 * 64, 512); }

/// Calls body(size, first) with the compile-time sizes Largest, …, 2, 1 until [begin, end) is covered.
template <unsigned Largest, class Body>
TIEDLORA_INLINE void in_groups(Index begin, Index end, const Body& body) {
  constexpr Index next = Largest == 6 ? 4 : Largest == 3 ? 2 : Largest / 2;
  Index i = begin;
  for (; end - i >= static_cast<Index>(Largest); i += Largest)
    body(std::integral_constant<unsigned, Largest>(), i);
  if constexpr (Largest > 1) in_groups<next>(i, end, body);
}

/// Outputs of sum_tile in groups, by how many rows are summed.
template <class Body>
TIEDLORA_INLINE void in_output_groups(Index outputs, Index rows, const Body& body) {
  constexpr Index many_rows = 32;
  if (many_registers && rows >= many_rows)
    in_groups<8>(0, outputs, body);
  else
    in_groups<4>(0, outputs, body);
}

}  // namespace TIEDLORA_ISA
}  // namespace kernels
}  // namespace v1
}  // namespace tiedlora
