// How the work is cut into blocks, and for which cache: everything in one place.
#pragma once

#include <cstdint>  // intptr_t

#include "../../views/slice.hpp"
#include "simd.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace cpu {
inline namespace TIEDLORA_ISA {

using detail::larger, detail::Range, detail::smaller;

// Micro-tiles

// A tile of rows × tokens has four chains of sums for each token: of four rows, or two chains of each of two
// rows, or four of one. So one token alone keeps the multipliers busy, and six fill the registers (24 sums, 7
// operands of 32; or 12 and 4 of 16). One token alone takes eight rows, of one chain each as four have: the
// adding up at the end of each tile then costs half. With 32 registers so do two and three.
inline constexpr unsigned dots_mr = 4;
inline constexpr unsigned dots_nr = many_registers ? 6 : 3;
inline constexpr unsigned dots_most_mr = 8;
inline constexpr unsigned dots_nr_of_most_rows = many_registers ? 3 : 1;

// A tile is J outputs of M vectors each. Sums of many rows fill the registers; sums of few leave a third of
// them free, so that the next tile begins while this one's results are stored. With 16 registers a tile is a
// cache line wide, which it takes from each row once. A few outputs get long runs of features, so that each
// row is read at least 256 bytes at a time.
template <unsigned J>
inline constexpr unsigned sum_vectors = many_registers ? (J >= 7   ? 3
                                                          : J >= 3 ? 4
                                                                   : 8)
                                                       : (J >= 4   ? 2
                                                          : J == 3 ? 3
                                                          : J == 2 ? 4
                                                                   : 8);

/// Sums of at most so many rows into tokens are axpyf's. Which it is decides the order of the sum, so it must
/// not depend on anything else.
inline constexpr Index few_ranks = 4;

/// Vectors of each of few rows in registers: with as many of an output and of w they fill them.
inline constexpr unsigned few_vectors = many_registers ? 4 : 2;

/// Outputs that go side by side past few rows in L1: their coefficients fill the registers.
inline constexpr unsigned side_by_side = many_registers ? 4 : 2;

// Blocks

/// Features of one dot product before it is folded into h. Folding costs as much as ten products, so long
/// runs pay. With 32 registers six tokens share each load of a row, and L2 is fast enough: four
/// packed rows are 64 KB. With 16 three do, and four rows and three tokens have to fit into the first.
inline constexpr Index dots_kc = many_registers ? 4096 : 1024;

/// Packed rows of A, four at a time, or tokens with v folded in: 64 KB of stack, or 32.
inline constexpr Index dots_packed_rows = many_registers ? 4 : 8;

/// Features that backward takes at a time, and what one token adds up in L1.
inline constexpr Index backward_features = 1024;

/// Tokens that share one packed panel of A, or one read and write of a gradient: so many that
/// backward_features of them, 256 KB or 512, are still in L2 when the gradients come to them.
/// (Cores with 32 registers have larger ones.)
inline constexpr Index block_tokens = many_registers ? 128 : 64;

/// Tokens of which so many features, of `bytes` each, take no more room than that.
constexpr Index block_of(Index features, Index bytes) {
  const Index fit = block_tokens * backward_features * static_cast<Index>(sizeof(float)) / (features * bytes);
  return smaller(block_tokens, (fit + dots_nr - 1) / dots_nr * dots_nr);
}

/// Tokens that share one read and write of a gradient where they come from far: few enough rows for the
/// prefetcher, many enough to earn the write.
inline constexpr Index gradient_tokens = 64;

/// Tokens whose dh is finished at a time, in registers.
inline constexpr Index dh_tokens = 16;

/// Coefficients of the tokens of one block for a panel of ranks: 32 KB of stack.
inline constexpr Index gradient_floats = 8 * 1024;

/// From this many tokens on, packing rows of factors, or of tokens for this many ranks, costs little beside
/// the products that they serve.
inline constexpr Index pack_tokens = many_registers ? 32 : 16;
inline constexpr Index pack_ranks = 8;

/// Ranks that one sum takes in its registers before it is added to an output. Their coefficients for eight
/// tokens are 8 KB of stack.
inline constexpr Index sums_kc = 256;

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

/// Whether two lines that many bytes apart lie at one place of L1, or nearly.
constexpr bool shares_cache_set(Index bytes_apart) {
  const Index apart = bytes_apart & 4095;
  return apart < 64 || apart > 4096 - 64;
}

/// Whether so many rows, that many bytes apart, drive each other out of L1, which has eight
/// lines for each address modulo 4096; half of them are left to the rows.
constexpr bool share_cache_sets(Index rows, Index stride_bytes) {
  Index beside_the_first = 0;
  for (Index p = 0; p < rows; ++p) beside_the_first += shares_cache_set(p * stride_bytes);
  return beside_the_first > 4;
}

/// Outputs that go past a stripe of few rows at a time: the more, the less it costs to load these.
inline constexpr Index few_outputs = 32;

/// Features of few rows in L1, at 16 KB, that outputs go past side by side.
inline constexpr Index axpyf_features = 1024;

/// Features of a sum over more than sums_kc rows, for which a panel of them stays in L2.
inline constexpr Index sums_nc_of_panels = 512;

/// So many rows are more than a prefetcher follows. A single token, which has nothing else to hide a distant
/// factor behind, takes few of them at a time, a page of each: no more than stay in one set of the first
/// cache beside the sums, for they are often a power of two apart.
inline constexpr Index many_rows = 32;
inline constexpr Index rows_of_one_token = 6;
inline constexpr Index one_token_features = 1024;

/// Features for which all rows stay in L2, at 256 KB, while tokens go past.
constexpr Index sum_features(Index rank, Index tokens) {
  if (rank > sums_kc) return sums_nc_of_panels;
  if (tokens == 1 && rank >= many_rows) return one_token_features;
  return larger(64 * 1024 / rank / 64 * 64, sums_nc_of_panels);
}

/// Packed rows of a sum, 48 KB of stack: three lines of sums_kc rows, or eleven of gradient_tokens.
inline constexpr Index packed_floats = 12 * 1024;

/// Features of so many rows, at most sums_kc, that fit.
constexpr Index packed_features(Index rows) {
  constexpr Index line = 16;
  return ((packed_floats / line / rows - 1) | 1) * line;
}

}  // namespace TIEDLORA_ISA
}  // namespace cpu
TIEDLORA_END_NAMESPACE
