// The weights of a row as floats, whatever type the file has them in. Bit for bit those of the Python package
// gguf; a trainer that keeps weights as they are in the file does this several times a step for each of them.
#pragma once

#include <cassert>  // assert
#include <cstddef>  // byte
#include <cstring>  // memcpy

#include "blocks_256.hpp"
#include "blocks_32.hpp"
#include "halves.hpp"       // dequantize_f16, dequantize_bf16
#include "number_type.hpp"  // NumberType, info, bytes_of

namespace llama {

namespace quant {

template <class Block>
void dequantize_blocks(const std::byte* from, Index count, float* out) {
  for (Index i = 0; i < count; i += Block::numbers, from += Block::bytes) Block::unpack(from, out + i);
}

}  // namespace quant

/// out = weights [first, first + count) of a row. Both are multiples of the type's block; the row need not be
/// aligned.
inline void dequantize(NumberType type, const std::byte* row, Index first, Index count, float* out) {
  assert(first % info(type).block == 0 && count % info(type).block == 0);
  const std::byte* from = row + bytes_of(type, first);
  using enum NumberType;
  switch (type) {
    case F32:
      if (count > 0) std::memcpy(out, from, static_cast<std::size_t>(count) * sizeof(float));
      return;
    case F16:
      return quant::dequantize_f16(from, count, out);
    case BF16:
      return quant::dequantize_bf16(from, count, out);
    case Q8_0:
      return quant::dequantize_blocks<quant::BlockQ80>(from, count, out);
    case Q4_0:
      return quant::dequantize_blocks<quant::BlockQ40>(from, count, out);
    case Q4_1:
      return quant::dequantize_blocks<quant::BlockQ41>(from, count, out);
    case Q5_0:
      return quant::dequantize_blocks<quant::BlockQ50>(from, count, out);
    case Q5_1:
      return quant::dequantize_blocks<quant::BlockQ51>(from, count, out);
    case Q4_K:
      return quant::dequantize_blocks<quant::BlockQ4K>(from, count, out);
    case Q5_K:
      return quant::dequantize_blocks<quant::BlockQ5K>(from, count, out);
    case Q6_K:
      return quant::dequantize_blocks<quant::BlockQ6K>(from, count, out);
  }
}

}  // namespace llama
