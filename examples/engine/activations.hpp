// What linear layers read and write: rows of a batch, one for each token.
#pragma once

#include <cstddef>  // size_t
#include <cstdint>  // int8_t
#include <vector>   // vector

#include <llama/thread_pool.hpp>
#include <llama/weight.hpp>

#include "quant.hpp"

namespace engine {

using llama::Member;
using llama::Range;
using Weight = llama::Weight<float>;

/// Row-major floats, and the same in blocks of bytes once `quantize` was called. Rows that are not a whole
/// number of blocks have none, nor has any weight that reads them.
class Activations {
 public:
  Activations(Index rows, Index width)
      : width_(width), blocks_per_row_(width % block_size == 0 ? width / block_size : 0) {
    const auto blocks = static_cast<std::size_t>(rows * blocks_per_row_);
    values_.resize(static_cast<std::size_t>(rows * width));
    p_.resize(static_cast<std::size_t>(rows * blocks_per_row_ * block_size));
    scales_.resize(blocks);
    sums_.resize(blocks);
    for (Index t = 0; t < rows; ++t)
      blocks_.push_back({p_.data() + t * blocks_per_row_ * block_size, scales_.data() + t * blocks_per_row_,
                         sums_.data() + t * blocks_per_row_});
  }

  Index width() const { return width_; }
  float* row(Index t) { return values_.data() + t * width_; }
  const float* row(Index t) const { return values_.data() + t * width_; }
  /// One for each row, one after the other.
  const Blocks* blocks() const { return blocks_.data(); }

  void quantize(Index t) { quantize(t, 0, width_); }
  /// Features [begin, end), in whole blocks.
  void quantize(Index t, Index begin, Index end) {
    if (blocks_per_row_ == 0) return;
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

/// In blocks, bytes by bytes.
template <class Type>
void multiply_blocks(const Weight& w, const Activations& x, Index count, Range outputs, float* y) {
  const Index row_bytes = w.in / block_size * Type::bytes;
  for (Index place = outputs.begin; place < outputs.end; ++place) {
    const std::byte* row = w.rows + place * row_bytes;
    const Index o = w.row_at(place);
    constexpr int tile = 4;  // tokens that share a look at the weights
    float sums[tile];
    Index t = 0;
    for (; t + tile <= count; t += tile) {
      dot_products<Type, tile>(row, w.in, x.blocks() + t, sums);
      for (Index n = 0; n < tile; ++n) y[(t + n) * w.out + o] = sums[n];
    }
    for (; t < count; ++t) dot_products<Type, 1>(row, w.in, x.blocks() + t, y + t * w.out + o);
  }
}

/// In floats: rows as they are, or widened one by one.
inline void multiply_floats(const Weight& w, const Activations& x, Index count, Range outputs, float* y) {
  thread_local std::vector<float> widened;
  if (!w.numbers) widened.resize(static_cast<std::size_t>(w.in));
  for (Index o = outputs.begin; o < outputs.end; ++o) {
    if (!w.numbers) w.copy(o, 0, w.in, widened.data());
    const float* row = w.numbers ? w.numbers + o * w.in : widened.data();
    for (Index t = 0; t < count; ++t) y[t * w.out + o] = dot_product(row, x.row(t), w.in);
  }
}

}  // namespace detail

/// y = W x for the first `count` rows of x and this thread's share of the outputs. y is row-major, w.out
/// wide. Q4_1 and Q8_0 are multiplied as they are, with activations in blocks; other types as floats.
inline void multiply(const Member& member, const Weight& w, const Activations& x, Index count, float* y) {
  const Range outputs = member.part(w.out, 16);  // 64 bytes: no two threads write one cache line
  if (w.numbers) return detail::multiply_floats(w, x, count, outputs, y);
  switch (w.type) {
    case llama::NumberType::Q4_1:
      return detail::multiply_blocks<BlockQ4>(w, x, count, outputs, y);
    case llama::NumberType::Q8_0:
      return detail::multiply_blocks<BlockQ8>(w, x, count, outputs, y);
    default:
      return detail::multiply_floats(w, x, count, outputs, y);
  }
}

}  // namespace engine
