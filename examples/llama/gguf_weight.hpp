// A weight where it lies in a GGUF file, in the type that the file has it in.
#pragma once

#include <cstddef>  // byte
#include <string>   // string

#include "config.hpp"
#include "quant/number_type.hpp"  // NumberType

namespace llama {

/// Numbers of Q4_1 and Q8_0 that share a scale, the engine's blocks.
inline constexpr Index block_size = 32;

/// A row-major matrix of out × in, in the file.
struct GgufWeight {
  std::string name = {};  ///< without ".weight": "blk.3.attn_q"
  Index number = -1;      ///< among the model's linear layers, in the order in which they are computed
  NumberType type = NumberType::F32;
  Index in = 0, out = 0;
  const std::byte* data = nullptr;
  Index row_bytes = 0;

  const std::byte* row(Index i) const { return data + i * row_bytes; }
};

}  // namespace llama
