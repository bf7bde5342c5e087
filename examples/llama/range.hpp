// Which tokens or rows are whose.
#pragma once

#include <algorithm>  // max

#include <tiedlora/ops.hpp>  // token_block, token_blocks

#include "config.hpp"

namespace llama {

/// Tokens or rows [begin, end).
struct Range {
  Index begin = 0, end = 0;
  Index size() const { return end - begin; }
};

/// Part ith of nth of `count` tokens or rows. Cuts lie at multiples of 16, a cache line of floats, and no
/// part but the only one is shorter than that.
inline Range slice(Index count, int ith, int nth) {
  const Index blocks = std::max<Index>(count / 16, 1);
  const auto cut = [&](Index i) { return i == nth ? count : blocks * i / nth * 16; };
  return {cut(ith), cut(ith + 1)};
}

/// Tokens that one thread takes through several steps at a time.
struct Block {
  Index begin = 0, end = 0;
  Index index = 0;
  Index size() const { return end - begin; }
  operator Range() const { return {begin, end}; }
};

using tiedlora::token_blocks;

inline Block token_block(Index count, Index index) {
  const auto [begin, end] = tiedlora::token_block(count, index);
  return {begin, end, index};
}

}  // namespace llama
