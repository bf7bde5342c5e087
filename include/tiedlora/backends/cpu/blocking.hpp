// Block sizes, and the cache each of them is for: everything in one place.
#pragma once

#include <cstdint>  // intptr_t

#include "../../views/slice.hpp"
#include "simd.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace cpu {
inline namespace TIEDLORA_ISA {

using detail::larger, detail::Range, detail::smaller;

// Micro-tiles

// A tile of rows × tokens has four chains of sums per token: one for each of four rows, two for each of two,
// or four for one. So one token alone keeps the multiply-add units busy, and six fill the registers (24 sums
// and 7 operands of 32; with 16 registers 12 and 4). One token alone takes eight rows of one chain each: the
// reduction at the end of each tile then costs half. With 32 registers so do two and three tokens.
inline constexpr unsigned dots_mr = 4;
inline constexpr unsigned dots_nr = many_registers ? 6 : 3;
inline constexpr unsigned dots_most_mr = 8;
inline constexpr unsigned dots_nr_of_most_rows = many_registers ? 3 : 1;

// A tile is J outputs of M vectors each. Sums of many rows fill the registers; sums of few leave a third of
// them free, so that the next tile can start while this one's results are stored. With 16 registers a tile is
// one cache line wide and reads each line of a row once. Few outputs get long runs of features, so that each
// row is read at least 256 bytes at a time.
template <unsigned J>
inline constexpr unsigned sum_vectors = many_registers ? (J >= 7   ? 3
                                                          : J >= 3 ? 4
                                                                   : 8)
                                                       : (J >= 4   ? 2
                                                          : J == 3 ? 3
                                                          : J == 2 ? 4
                                                                   : 8);

/// Sums of at most this many rows into tokens run in axpyf. The choice decides the order of the sum, so it
/// may depend on nothing else.
inline constexpr Index few_ranks = 4;

/// Vectors of each of few rows in registers: with as many of an output and of w they fill the registers.
inline constexpr unsigned few_vectors = many_registers ? 4 : 2;

/// Outputs that stream side by side past few rows in L1: their coefficients fill the registers.
inline constexpr unsigned side_by_side = many_registers ? 4 : 2;

// Blocks

/// KC: features of one dot product before it is folded into h. Folding costs as much as ten products, so long
/// runs pay. With 32 registers six tokens share each load of a row, and L2 is fast enough: four packed rows
/// are 64 KB. With 16 registers three do, and four rows and three tokens must fit into L1.
inline constexpr Index dots_kc = many_registers ? 4096 : 1024;

/// Packed rows of A, four at a time, or tokens with v folded in: 64 KB of stack, with 16 registers 32 KB.
inline constexpr Index dots_packed_rows = many_registers ? 4 : 8;

/// Features that backward takes at a time, and that one token sums up in L1.
inline constexpr Index backward_features = 1024;

/// Tokens that share one packed panel of A, or one read and write of a gradient: backward_features of them,
/// 512 or 256 KB, are still in L2 when the gradients need them. (Cores with 32 registers have a larger L2.)
inline constexpr Index block_tokens = many_registers ? 128 : 64;

/// Tokens whose `features`, of `bytes` each, take no more room than that.
constexpr Index block_of(Index features, Index bytes) {
  const Index fit = block_tokens * backward_features * static_cast<Index>(sizeof(float)) / (features * bytes);
  return smaller(block_tokens, (fit + dots_nr - 1) / dots_nr * dots_nr);
}

/// Tokens that share one read and write of a gradient where they come from beyond L2: few enough rows for the
/// prefetcher, enough to pay for the write.
inline constexpr Index gradient_tokens = 64;

/// Tokens whose dh is finished at a time, in registers.
inline constexpr Index dh_tokens = 16;

/// Coefficients of the tokens of one block for a panel of ranks: 32 KB of stack.
inline constexpr Index gradient_floats = 8 * 1024;

/// From this many tokens on, packing rows of factors (or, for this many ranks, rows of tokens) is cheap
/// beside the products that use them.
inline constexpr Index pack_tokens = many_registers ? 32 : 16;
inline constexpr Index pack_ranks = 8;

/// Ranks that one sum accumulates in registers before it is added to an output. Their coefficients for eight
/// tokens are 8 KB of stack.
inline constexpr Index sums_kc = 256;

/// Tokens larger than this in total are prefetched ahead of their products and sums: about a core's share of
/// the L3. (Prefetching tokens that are in that share anyway costs up to a fifth.)
inline constexpr Index far_bytes = 3 * 1024 * 1024;

/// Distance from the first address to the second, in bytes.
inline Index bytes_apart(const void* first, const void* second) {
  return reinterpret_cast<std::intptr_t>(second) - reinterpret_cast<std::intptr_t>(first);
}

/// A place in the first page of a buffer whose offset in its page is half a kilobyte off that of `other`:
/// against 4K aliasing, in which a load waits for an earlier store with the same lower twelve address bits.
inline float* away_from(const void* other, float* buffer) {
  return buffer + ((bytes_apart(buffer, other) + 512) & 4032) / static_cast<Index>(sizeof(float));
}
inline constexpr unsigned page_floats = 4096 / sizeof(float);

/// Whether two lines that many bytes apart fall into the same set of L1, or nearly.
constexpr bool shares_cache_set(Index bytes_apart) {
  const Index apart = bytes_apart & 4095;
  return apart < 64 || apart > 4096 - 64;
}

/// Whether that many rows, that many bytes apart, evict each other from L1, which has eight ways for each
/// address modulo 4096; half of them are left to the rows.
constexpr bool share_cache_sets(Index rows, Index stride_bytes) {
  Index beside_the_first = 0;
  for (Index p = 0; p < rows; ++p) beside_the_first += shares_cache_set(p * stride_bytes);
  return beside_the_first > 4;
}

/// Outputs that stream past one stripe of few rows: the more there are, the less loading the stripe costs.
inline constexpr Index few_outputs = 32;

/// Features of few rows in L1, 16 KB of them, past which outputs stream side by side.
inline constexpr Index axpyf_features = 1024;

/// Features of a sum over more than sums_kc rows, for which a panel of them stays in L2.
inline constexpr Index sums_nc_of_panels = 512;

/// More rows than the prefetcher can follow. A single token, which has no other work to hide a distant
/// factor's latency behind, takes few of them at a time, a page of each: no more than fit into one set of L1
/// beside the sums, since rows are often a power of two apart.
inline constexpr Index many_rows = 32;
inline constexpr Index rows_of_one_token = 6;
inline constexpr Index one_token_features = 1024;

/// NC: features for which all rows stay in L2, at 256 KB, while tokens stream past.
constexpr Index sum_features(Index rank, Index tokens) {
  if (rank > sums_kc) return sums_nc_of_panels;
  if (tokens == 1 && rank >= many_rows) return one_token_features;
  return larger(64 * 1024 / rank / 64 * 64, sums_nc_of_panels);
}

/// Packed rows of a sum, 48 KB of stack: three lines of sums_kc rows, or eleven of gradient_tokens.
inline constexpr Index packed_floats = 12 * 1024;

/// Features of that many rows, at most sums_kc, that fit.
constexpr Index packed_features(Index rows) {
  constexpr Index line = 16;
  return ((packed_floats / line / rows - 1) | 1) * line;
}

}  // namespace TIEDLORA_ISA
}  // namespace cpu
TIEDLORA_END_NAMESPACE
