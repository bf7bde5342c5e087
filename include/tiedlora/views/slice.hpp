// How the slices of a stage share its work.
#pragma once

#include "config.hpp"
#include "options.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace detail {
inline namespace TIEDLORA_ISA {

constexpr Index smaller(Index a, Index b) { return b < a ? b : a; }
constexpr Index larger(Index a, Index b) { return a < b ? b : a; }

struct Range {
  Index begin, end;
};

/// Part ith of n things: contiguous, in order, all parts of nearly equal size.
constexpr Range part_of(Index n, const Slice& slice) {
  return {n / slice.nth * slice.ith + smaller(n % slice.nth, slice.ith),
          n / slice.nth * (slice.ith + 1) + smaller(n % slice.nth, slice.ith + 1)};
}

/// As part_of, in whole units except for the last.
constexpr Range part_in_units(Index n, Index unit, const Slice& slice) {
  const Range units = part_of((n + unit - 1) / unit, slice);
  return {smaller(n, units.begin * unit), smaller(n, units.end * unit)};
}

/// Features are shared out by whole cache lines (64 bytes hold 32 of the narrowest).
constexpr Range part_of_features(Index n, const Slice& slice) { return part_in_units(n, 32, slice); }

struct ShrinkShares {
  Range tokens, ranks;
};

/// Many tokens are shared out among threads by tokens, few by ranks (four at a time, as the micro-kernels
/// take them).
constexpr ShrinkShares shares_of_shrink(Index tokens, Index rank, const Slice& slice) {
  return tokens >= rank ? ShrinkShares{part_of(tokens, slice), {0, rank}}
                        : ShrinkShares{{0, tokens}, part_in_units(rank, 4, slice)};
}

struct ExpandShares {
  Range tokens, features;
};

/// More tokens than this are shared out by tokens: the prefetcher of a core that writes part of every row
/// would fetch the lines beyond it, and take them from the core that owns them.
inline constexpr Index most_tokens_by_features = 16;

constexpr ExpandShares shares_of_expand(Index tokens, Index features, const Slice& slice) {
  return tokens > most_tokens_by_features ? ExpandShares{part_of(tokens, slice), {0, features}}
                                          : ExpandShares{{0, tokens}, part_of_features(features, slice)};
}

}  // namespace TIEDLORA_ISA
}  // namespace detail
TIEDLORA_END_NAMESPACE
