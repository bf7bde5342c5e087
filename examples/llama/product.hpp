// The products with a weight matrix, on the whole pool. W is out×in, row-major, as Hugging Face stores a
// Linear. They are cut into tasks whose sizes do not depend on the threads, and no sum is cut: the bits are
// the same for any number of threads.
#pragma once

#include <algorithm>  // min

#include "gemm.hpp"
#include "profile.hpp"
#include "thread_pool.hpp"
#include "token_matrix.hpp"

namespace llama {

/// What one task computes: small enough that a few threads share a product evenly, large enough that packing
/// its operands costs little beside their product.
inline constexpr Index task_features = 96, task_tokens = 512;

/// Runs work(features, tokens) over all tasks, whose time counts as that of `what`.
template <class Work>
void for_product_tasks(ThreadPool& pool, Part what, Index features, Index tokens, const Work& work) {
  const Index rows = (features + task_features - 1) / task_features;
  const Index columns = (tokens + task_tokens - 1) / task_tokens;
  for_tasks(pool, rows * columns, [&](int, Index task) {
    const Timed timed(what);
    const Index row = task % rows * task_features, column = task / rows * task_tokens;
    work(Range{row, std::min(row + task_features, features)},
         Range{column, std::min(column + task_tokens, tokens)});
  });
}

/// y = W x
template <class T>
void product(ThreadPool& pool, Part what, const T* W, const Tokens<const T>& x, const Tokens<T>& y) {
  const Index in = x.width;
  for_product_tasks(pool, what, y.width, x.count, [&](Range rows, Range part) {
    gemm(rows.size(), part.size(), in, Operand<T>{W + rows.begin * in, in, true},
         Operand<T>{x[part.begin], x.stride}, y[part.begin] + rows.begin, y.stride, false);
  });
}

/// dx = Wᵀ dy
template <class T>
void transposed_product(ThreadPool& pool, Part what, const T* W, const Tokens<const T>& dy,
                        const Tokens<T>& dx) {
  const Index in = dx.width;
  for_product_tasks(pool, what, in, dy.count, [&](Range features, Range part) {
    gemm(features.size(), part.size(), dy.width, Operand<T>{W + features.begin, in},
         Operand<T>{dy[part.begin], dy.stride}, dx[part.begin] + features.begin, dx.stride, false);
  });
}

/// dW += dy xᵀ, the sum over tokens.
template <class T>
void add_weight_gradient(ThreadPool& pool, const Tokens<const T>& dy, const Tokens<const T>& x, T* dW) {
  const Index in = x.width;
  for_product_tasks(pool, Part::weight_gradients, dy.width, in, [&](Range rows, Range features) {
    gemm(features.size(), rows.size(), x.count, Operand<T>{x.data + features.begin, x.stride},
         Operand<T>{dy.data + rows.begin, dy.stride, true}, dW + rows.begin * in + features.begin, in, true);
  });
}

}  // namespace llama
