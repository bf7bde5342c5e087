// A matrix of the base model where it lies: plain numbers, or a row of a file in the file's type, of which
// products take a panel at a time.
#pragma once

#include <algorithm>    // copy_n
#include <cstddef>      // byte
#include <type_traits>  // is_same

#include "quant/dequantize.hpp"

namespace llama {

/// out×in, row-major. Plain where `numbers` is not null.
template <class T>
struct Weight {
  Index out = 0, in = 0;
  const T* numbers = nullptr;
  const std::byte* rows = nullptr;  ///< in `type`, whole blocks; for T = float only
  NumberType type = NumberType::F32;

  static Weight plain(const T* numbers, Index out, Index in) {
    return {.out = out, .in = in, .numbers = numbers};
  }

  /// Numbers [first, first + count) of a row. Both are multiples of the type's block.
  void copy(Index row, Index first, Index count, T* to) const {
    if (numbers) {
      std::copy_n(numbers + row * in + first, count, to);
    } else if constexpr (std::is_same_v<T, float>) {
      dequantize(type, rows + row * bytes_of(type, in), first, count, to);
    }
  }
};

}  // namespace llama
