// Gradients of adapters, summed over one block of tokens by whoever has it, then over the blocks in their
// order: the same bits for every number of threads, and no thread waits for another in between.
#pragma once

#include <algorithm>  // fill_n

#include <tiedlora/factors.hpp>

#include "token_matrix.hpp"

namespace transformer {

/// The gradient of one module, once for each block of tokens, in memory of the caller's.
template <class T>
class BlockGradients {
 public:
  using Factors = tiedlora::Factors<T>;

  /// Numbers of memory for one block, at most.
  static Index size(Index rank, Index in_features, Index out_features) {
    return rank * (in_features + out_features + 1) + out_features;
  }

  Index size() const { return size(gradient_.rank, gradient_.in_features, gradient_.out_features); }

  BlockGradients() = default;
  /// For the factors that `gradient` has.
  BlockGradients(const Factors& gradient, T* memory) : gradient_(gradient), memory_(memory) {}

  /// Where the gradient of that block is summed; zero at first.
  Factors block(Index index) const {
    const Factors& g = gradient_;
    T* next = memory_ + index * size();
    const auto take = [&](const T* wanted, Index count) -> T* {
      if (!wanted) return nullptr;
      next += count;
      return std::fill_n(next - count, count, T(0)) - count;
    };
    Factors own = g;
    own.A = take(g.A, g.rank * g.in_features);
    own.a_stride = g.in_features;
    own.B = take(g.B, g.rank * g.out_features);
    own.b_stride = g.out_features;
    own.u = take(g.u, g.rank);
    own.v = take(g.v, g.out_features);
    return own;
  }

  /// Thread ith's part of adding all blocks to the gradient. Row k of a factor is always the same thread's,
  /// so that modules with a common factor may be added up one after the other without a barrier.
  void add_up(Index blocks, int ith, int nth) const {
    const Factors& g = gradient_;
    const Index stride = size();
    const T* next = memory_;
    const auto add_rows = [&](T* to, Index to_stride, Index rows, Index n) {
      if (!to) return;
      for (Index k = ith; k < rows; k += nth)
        for (Index b = 0; b < blocks; ++b)
          ArrayMap<T>(to + k * to_stride, n) += ArrayMap<const T>(next + b * stride + k * n, n);
      next += rows * n;
    };
    add_rows(g.A, g.a_stride, g.rank, g.in_features);
    add_rows(g.B, g.b_stride, g.rank, g.out_features);
    add_rows(g.u, 0, 1, g.rank);
    add_rows(g.v, 0, 1, g.out_features);
  }

 private:
  Factors gradient_ = {};
  T* memory_ = nullptr;
};

}  // namespace transformer
