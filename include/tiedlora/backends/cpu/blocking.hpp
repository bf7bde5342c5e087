// How the work is cut into blocks, and for which cache: everything in one place.
#pragma once

#include <cstdint>      // intptr_t
#include <type_traits>  // integral_constant

#include "../../views/slice.hpp"
#include "axpyf.hpp"
#include "microkernel_dots.hpp"
#include "microkernel_sums.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace cpu {
inline namespace TIEDLORA_ISA {

using detail::larger, detail::Range, detail::smaller;

/// Features of one dot product before it is folded into h. Folding costs as much as ten products, so long
/// runs pay. With 32 registers six tokens share each load of a row, and the second cache is fast enough: four
/// packed rows are 64 KB. With 16 three do, and four rows and three tokens have to fit into the first.
inline constexpr Index dot_features = many_registers ? 4096 : 1024;

/// Packed rows of A, four at a time, or tokens with v folded in: 64 KB of stack, or 32.
inline constexpr Index dot_panel_rows = many_registers ? 4 : 8;

/// Features that backward takes at a time, and what one token adds up in the first cache.
inline constexpr Index backward_features = 1024;

/// Tokens that share one packed panel of A, or one read and write of a gradient: so many that
/// backward_features of them, 256 KB or 512, are still in the second cache when the gradients come to them.
/// (Cores with 32 registers have larger ones.)
inline constexpr Index block_tokens = many_registers ? 128 : 64;

/// Tokens of which so many features, of `bytes` each, take no more room than that.
constexpr Index block_of(Index features, Index bytes) {
  const Index fit = block_tokens * backward_features * static_cast<Index>(sizeof(float)) / (features * bytes);
  return smaller(block_tokens, (fit + dot_tokens - 1) / dot_tokens * dot_tokens);
}

/// Tokens that share one read and write of a gradient where they come from far: few enough rows for the
/// prefetcher, many enough to earn the write.
inline constexpr Index gradient_tokens = 64;

/// Tokens whose dh is finished at a time, in registers.
inline constexpr Index dh_tokens = 16;

/// Coefficients of the tokens of one block for a panel of ranks: 32 KB of stack.
inline constexpr Index gradient_coefficients = 8 * 1024;

/// From this many tokens on, packing rows of factors, or of tokens for this many ranks, costs little beside
/// the products that they serve.
inline constexpr Index pack_tokens = many_registers ? 32 : 16;
inline constexpr Index pack_ranks = 8;

/// Ranks that one sum takes in its registers before it is added to an output. Their coefficients for eight
/// tokens are 8 KB of stack.
inline constexpr Index panel_ranks = 256;

/// Tokens larger than this in all are fetched ahead of their products and sums: about a core's share of the
/// last cache. (Fetching those that come from there anyway costs up to a fifth.)
inline constexpr Index far_bytes = 3 * 1024 * 1024;

/// From the first of two places to the second, in bytes.
inline Index bytes_apart(const void* first, const void* second) {
  return reinterpret_cast<std::intptr_t>(second) - reinterpret_cast<std::intptr_t>(first);
}

/// A place in the first page of a buffer, half a kilobyte off another one's place in its page: a load waits
/// for a store before it whose lower twelve bits are the same.
inline float* away_from(const void* other, float* buffer) {
  return buffer + ((bytes_apart(buffer, other) + 512) & 4032) / static_cast<Index>(sizeof(float));
}
inline constexpr unsigned page_floats = 4096 / sizeof(float);

/// Whether two lines that many bytes apart lie at one place of the first cache, or nearly.
constexpr bool shares_cache_set(Index bytes_apart) {
  const Index apart = bytes_apart & 4095;
  return apart < 64 || apart > 4096 - 64;
}

/// Whether so many rows, that many bytes apart, drive each other out of the first cache, which has eight
/// lines for each address modulo 4096; half of them are left to the rows.
constexpr bool share_cache_sets(Index rows, Index stride_bytes) {
  Index beside_the_first = 0;
  for (Index p = 0; p < rows; ++p) beside_the_first += shares_cache_set(p * stride_bytes);
  return beside_the_first > 4;
}

/// Outputs that go past a stripe of few rows at a time: the more, the less it costs to load these. But where
/// they share cache sets so few that their lines, those of the rows and those of B beside dB stay until the
/// last.
inline constexpr Index few_outputs = 32;
constexpr Index few_outputs_at_once(Index stride_bytes) {
  return share_cache_sets(few_outputs, stride_bytes) ? 4 : few_outputs;
}

/// Features of few rows in the first cache, at 16 KB, that outputs go past side by side.
inline constexpr Index few_rows_features = 1024;

/// Numbers of few tokens, 8 KB, past which ranks of a gradient go side by side: the first cache has room for
/// these too, where all share its sets.
inline constexpr Index side_by_side_numbers = 2048;

/// Features of a sum over more than panel_ranks rows, for which a panel of them stays in the second cache.
inline constexpr Index panels_features = 512;

/// So many rows are more than a prefetcher follows. A single token, which has nothing else to hide a distant
/// factor behind, takes few of them at a time, a page of each: no more than stay in one set of the first
/// cache beside the sums, for they are often a power of two apart.
inline constexpr Index many_rows = 32;
inline constexpr Index rows_of_one_token = 6;
inline constexpr Index one_token_features = 1024;

/// Features for which all rows stay in the second cache, at 256 KB, while tokens go past.
constexpr Index sum_features(Index rank, Index tokens) {
  if (rank > panel_ranks) return panels_features;
  if (tokens == 1 && rank >= many_rows) return one_token_features;
  return larger(64 * 1024 / rank / 64 * 64, panels_features);
}

/// Packed rows of a sum, 48 KB of stack: three lines of panel_ranks rows, or eleven of gradient_tokens.
inline constexpr Index packed_floats = 12 * 1024;

/// Features of so many rows, at most panel_ranks, that fit.
constexpr Index packed_features(Index rows) {
  constexpr Index line = 16;
  return ((packed_floats / line / rows - 1) | 1) * line;
}

/// Calls body(size, first) with the compile-time sizes Largest, …, 4, 2, 1 until [begin, end) is covered.
template <unsigned Largest, class Body>
TIEDLORA_INLINE void in_groups(Index begin, Index end, const Body& body) {
  Index i = begin;
  for (; i + static_cast<Index>(Largest) <= end; i += Largest)
    body(std::integral_constant<unsigned, Largest>(), i);
  if constexpr (Largest > 1) in_groups<Largest / 2>(i, end, body);
}

/// Calls body(constant) with `size` in 1, …, Most as a compile-time constant.
template <unsigned Most, class Body>
TIEDLORA_INLINE void with_size(Index size, const Body& body) {
  if constexpr (Most > 1)
    if (size < static_cast<Index>(Most)) return with_size<Most - 1>(size, body);
  body(std::integral_constant<unsigned, Most>());
}

/// Calls body(size, first) for n things in as few groups of at most Most as there can be, of sizes that
/// differ by one at most: none is left alone, with nothing to share a load with.
template <unsigned Most, class Body>
TIEDLORA_INLINE void in_balanced_groups(Index n, const Body& body) {
  const Index groups = (n + Index{Most} - 1) / Index{Most};
  if (groups == 0) return;
  const Index size = n / groups, larger_groups = n % groups;
  Index first = 0;
  const auto go_to = [&](Index end, Index tokens) {
    if (first < end)
      with_size<Most>(tokens, [&](auto S) {
        for (; first < end; first += S) body(S, first);
      });
  };
  go_to(larger_groups * (size + 1), size + 1);
  go_to(n, size);
}

/// Calls body(R) with the smallest R of Most, …, 4, 2, 1 that is not below `rows`.
template <unsigned Most, class Body>
TIEDLORA_INLINE void with_few_rows(Index rows, const Body& body) {
  if constexpr (Most > 1)
    if (rows <= static_cast<Index>(Most / 2)) return with_few_rows<Most / 2>(rows, body);
  body(std::integral_constant<unsigned, Most>());
}

/// Outputs of sum_tile in groups, by how many rows are summed.
template <class Body>
TIEDLORA_INLINE void in_output_groups(Index outputs, Index rows, const Body& body) {
  if (rows >= many_rows)
    in_balanced_groups<many_registers ? 8 : 6>(outputs, body);
  else
    in_balanced_groups<4>(outputs, body);
}

}  // namespace TIEDLORA_ISA
}  // namespace cpu
TIEDLORA_END_NAMESPACE
