// What linear layers read and write: rows of a batch, one for each token.
#pragma once

#include <cstddef>  // size_t
#include <cstdint>  // int8_t
#include <vector>   // vector

#include <llama/gguf_weight.hpp>
#include <llama/thread_pool.hpp>

#include "quant.hpp"

namespace engine {

using llama::GgufWeight;
using llama::Member;
using llama::Range;

/// Row-major floats, and the same in blocks of bytes once `quantize` was called.
class Activations {
 public:
  Activations(Index rows, Index width) : width_(width), blocks_per_row_(width / block_size) {
    const auto blocks = static_cast<std::size_t>(rows * blocks_per_row_);
    values_.resize(static_cast<std::size_t>(rows * width));
    p_.resize(values_.size());
    scales_.resize(blocks);
    sums_.resize(blocks);
    for (Index t = 0; t < rows; ++t)
      blocks_.push_back(
          {p_.data() + t * width, scales_.data() + t * blocks_per_row_, sums_.data() + t * blocks_per_row_});
  }

  Index width() const { return width_; }
  float* row(Index t) { return values_.data() + t * width_; }
  const float* row(Index t) const { return values_.data() + t * width_; }
  /// One for each row, one after the other.
  const Blocks* blocks() const { return blocks_.data(); }

  void quantize(Index t) { quantize(t, 0, width_); }
  /// Features [begin, end), in whole blocks.
  void quantize(Index t, Index begin, Index end) {
    engine::quantize(row(t), blocks_[static_cast<std::size_t>(t)], begin / block_size, end / block_size);
  }

 private:
  Index width_, blocks_per_row_;
  std::vector<float> values_;
  std::vector<std::int8_t> p_;
  std::vector<float> scales_, sums_;
  std::vector<Blocks> blocks_;
};

namespace detail {
template <class Type>
void multiply(const GgufWeight& w, const Activations& x, Index count, Range outputs, float* y) {
  for (Index o = outputs.begin; o < outputs.end; ++o) {
    constexpr int tile = 4;  // tokens that share a look at the weights
    float sums[tile];
    Index t = 0;
    for (; t + tile <= count; t += tile) {
      dot_products<Type, tile>(w.row(o), w.in, x.blocks() + t, sums);
      for (Index n = 0; n < tile; ++n) y[(t + n) * w.out + o] = sums[n];
    }
    for (; t < count; ++t) dot_products<Type, 1>(w.row(o), w.in, x.blocks() + t, y + t * w.out + o);
  }
}
}  // namespace detail

/// y = W x for the first `count` rows of x and this thread's share of the outputs. y is row-major, w.out
/// wide.
inline void multiply(const Member& member, const GgufWeight& w, const Activations& x, Index count, float* y) {
  const Range outputs = member.part(w.out, 16);  // 64 bytes: no two threads write one cache line
  switch (w.type) {
    case llama::NumberType::Q4_1:
      return detail::multiply<BlockQ4>(w, x, count, outputs, y);
    case llama::NumberType::Q8_0:
      return detail::multiply<BlockQ8>(w, x, count, outputs, y);
    case llama::NumberType::F32:
      for (Index o = outputs.begin; o < outputs.end; ++o)
        for (Index t = 0; t < count; ++t)
          y[t * w.out + o] = dot_product(reinterpret_cast<const float*>(w.row(o)), x.row(t), w.in);
      return;
    default:  // the engine's constructor refuses others
      return;
  }
}

}  // namespace engine
