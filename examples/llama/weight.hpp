// A matrix of the base model where it lies: plain values, or rows of a file in the file's type, of which
// products take a panel at a time.
#pragma once

#include <algorithm>    // copy_n
#include <cstddef>      // byte
#include <type_traits>  // is_same

#include "quant/dequantize.hpp"

namespace llama {

/// out×in, row-major. Plain where `numbers` is not null.
///
/// `neighbours`: what a GGUF file of a Llama has of q and k. Rows whose features RoPE turns together, i and
/// i + D/2 of a head of D, stand there as neighbours, 2i and 2i + 1; here they are read in transformers'
/// order, so that an adapter is the same whichever file its base comes from.
template <class T>
struct Weight {
  Index out = 0, in = 0;
  const T* numbers = nullptr;
  const std::byte* rows = nullptr;  ///< in `type`, whole blocks; for T = float only
  NumberType type = NumberType::F32;
  Index neighbours = 0;      ///< D; 0: rows are where they belong. Not for plain weights
  bool in_bfloat16 = false;  ///< products round both operands to bfloat16: gemm.hpp says where there are any

  static Weight plain(const T* numbers, Index out, Index in) {
    return {.out = out, .in = in, .numbers = numbers};
  }

  /// Weights [first, first + count) of a row. Both are multiples of the type's block.
  void copy(Index row, Index first, Index count, T* to) const {
    if (numbers) {
      std::copy_n(numbers + row * in + first, count, to);
    } else if constexpr (std::is_same_v<T, float>) {
      dequantize(type, rows + place_of(row) * bytes_of(type, in), first, count, to);
    }
  }

  /// Where row `row` is in the file.
  Index place_of(Index row) const {
    if (neighbours == 0) return row;
    const Index feature = row % neighbours, half = neighbours / 2;
    return row - feature + 2 * (feature % half) + feature / half;
  }
  /// Which row is at that place.
  Index row_at(Index place) const {
    if (neighbours == 0) return place;
    const Index within = place % neighbours;
    return place - within + within / 2 + within % 2 * (neighbours / 2);
  }
};

}  // namespace llama
