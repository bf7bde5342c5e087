// The products with weights of the base model, on the whole pool. They are cut into tasks whose sizes do not
// depend on the threads, and every sum has its order: the bits are the same for any number of threads.
//
// A weight that is not plain is widened into a panel that stays in L2, as often as there are blocks of
// tokens.
#pragma once

#include <algorithm>    // min
#include <cstddef>      // size_t
#include <span>         // span
#include <type_traits>  // is_same
#include <vector>       // vector

#include "bfloat16.hpp"
#include "gemm.hpp"
#include "profile.hpp"
#include "thread_pool.hpp"
#include "token_matrix.hpp"
#include "weight.hpp"

namespace llama {

/// What one task computes: small enough that a few threads share a product evenly, large enough that packing
/// its operands costs little beside their product. Blocks of 256 weights are not cut.
inline constexpr Index task_features = 96, task_features_of_blocks = 256, task_tokens = 512;

/// A panel: a task's rows × at most panel_numbers columns, or at most panel_rows rows × a task's features.
inline constexpr Index panel_numbers = 2048, panel_rows = 512;

/// Room for a panel, of this thread's own.
template <class T>
T* panel_of(Index count) {
  thread_local std::vector<T> panel;
  if (static_cast<Index>(panel.size()) < count) panel.resize(static_cast<std::size_t>(count));
  return panel.data();
}

/// `features` rounded up to whole tasks.
constexpr Index whole_tasks(Index features) {
  return (features + task_features - 1) / task_features * task_features;
}

/// Runs work(features, tokens) over all tasks of `width` features, whose time counts as that of `what`.
template <class Work>
void for_product_tasks(ThreadPool& pool, Part what, Index features, Index tokens, const Work& work,
                       Index width = task_features) {
  const Index rows = (features + width - 1) / width;
  const Index columns = (tokens + task_tokens - 1) / task_tokens;
  for_tasks(pool, rows * columns, [&](int, Index task) {
    const Timed timed(what);
    const Index row = task % rows * width, column = task / rows * task_tokens;
    work(Range{row, std::min(row + width, features)}, Range{column, std::min(column + task_tokens, tokens)});
  });
}

/// Tokens in bfloat16, for products that read them so: valid until the next one of the caller.
inline Tokens<const Bfloat16> in_bfloat16(ThreadPool& pool, Part what, const Tokens<const float>& x) {
  thread_local std::vector<Bfloat16> memory;
  memory.resize(static_cast<std::size_t>(x.width * x.count));
  const auto rounded = columns(memory.data(), x.width, x.count);
  for_tokens(pool, x.count, [&](Range part) {
    const Timed timed(what);
    for (Index t = part.begin; t < part.end; ++t) to_bfloat16(x[t], x.width, rounded[t]);
  });
  return rounded;
}

/// Weights [first, first + n) of some rows of W, as a product of P reads them: as they are, or rounded.
template <class T, class P>
void fill_panel(const Weight<T>& W, Range rows, Index first, Index n, P* panel) {
  for (Index r = rows.begin; r < rows.end; ++r, panel += n) {
    if constexpr (std::is_same_v<P, T>) {
      W.copy(r, first, n, panel);
    } else {
      T* const row = panel_of<T>(n);
      W.copy(r, first, n, row);
      to_bfloat16(row, n, panel);
    }
  }
}

/// y = W x for some rows of W and some tokens.
template <class T, class P>
void product_of_rows(const Weight<T>& W, Range rows, const Tokens<const P>& x, T* y, Index stride) {
  if constexpr (std::is_same_v<P, T>)
    if (W.numbers)
      return gemm(rows.size(), x.count, W.in, Operand<T>{W.numbers + rows.begin * W.in, W.in, true},
                  Operand<T>{x.data, x.stride}, y, stride, false);
  P* const panel = panel_of<P>(task_features * panel_numbers);
  for (Index first = 0; first < W.in; first += panel_numbers) {
    const Index n = std::min(panel_numbers, W.in - first);
    fill_panel(W, rows, first, n, panel);
    gemm(rows.size(), x.count, n, Operand<P>{panel, n, true}, Operand<P>{x.data + first, x.stride}, y, stride,
         first > 0);
  }
}

/// `product` for operands as they are multiplied.
template <class T, class P>
void product_of(ThreadPool& pool, Part what, std::span<const Weight<T>> weights, const Tokens<const P>& x,
                const Tokens<T>& y) {
  // A task is of one weight: each has whole tasks of its own.
  Index features = 0;
  for (const Weight<T>& W : weights) features += whole_tasks(W.out);
  for_product_tasks(pool, what, features, x.count, [&](Range task, Range part) {
    Index begin = task.begin, first_row = 0;
    for (const Weight<T>& W : weights) {
      if (begin < W.out)
        return product_of_rows(W, {begin, std::min(begin + task_features, W.out)}, cut(x, part),
                               y[part.begin] + first_row + begin, y.stride);
      begin -= whole_tasks(W.out);
      first_row += W.out;
    }
  });
}

/// y = W x for weights that read the same x; the outputs of each stand below those of the one before.
template <class T>
void product(ThreadPool& pool, Part what, std::span<const Weight<T>> weights, const Tokens<const T>& x,
             const Tokens<T>& y) {
  if constexpr (std::is_same_v<T, float>)
    if (weights.front().in_bfloat16) return product_of(pool, what, weights, in_bfloat16(pool, what, x), y);
  product_of(pool, what, weights, x, y);
}

/// `transposed_product` for operands as they are multiplied.
template <class T, class P>
void transposed_product_of(ThreadPool& pool, Part what, std::span<const Weight<T>> weights,
                           const Tokens<const P>& dy, const Tokens<T>& dx) {
  Index width = task_features;
  for (const Weight<T>& W : weights)
    if (!W.numbers && info(W.type).block > task_features) width = task_features_of_blocks;
  const auto task = [&](Range features, Range part) {
    T* const to = dx[part.begin] + features.begin;
    const P* from = dy[part.begin];
    bool adds = false;
    for (const Weight<T>& W : weights) {
      const bool in_place = std::is_same_v<P, T> && W.numbers;
      const Index n = features.size(), chunk = in_place ? W.out : panel_rows;
      for (Index row = 0; row < W.out; row += chunk) {
        const Index k = std::min(chunk, W.out - row);
        Operand<P> rows = {};
        if constexpr (std::is_same_v<P, T>)
          if (in_place) rows = {W.numbers + features.begin, W.in};
        if (!in_place) {
          P* const panel = panel_of<P>(panel_rows * task_features_of_blocks);
          fill_panel(W, {row, row + k}, features.begin, n, panel);
          rows = {panel, n};
        }
        gemm(n, part.size(), k, rows, Operand<P>{from + row, dy.stride}, to, dx.stride, adds);
        adds = true;
      }
      from += W.out;
    }
  };
  for_product_tasks(pool, what, dx.width, dy.count, task, width);
}

/// dx = Σ Wᵀ dy, likewise.
template <class T>
void transposed_product(ThreadPool& pool, Part what, std::span<const Weight<T>> weights,
                        const Tokens<const T>& dy, const Tokens<T>& dx) {
  if constexpr (std::is_same_v<T, float>)
    if (weights.front().in_bfloat16)
      return transposed_product_of(pool, what, weights, in_bfloat16(pool, what, dy), dx);
  transposed_product_of(pool, what, weights, dy, dx);
}

/// dW += dy xᵀ, the sum over tokens, for a plain W.
template <class T>
void add_weight_gradient(ThreadPool& pool, const Tokens<const T>& dy, const Tokens<const T>& x, T* dW) {
  const Index in = x.width;
  for_product_tasks(pool, Part::weight_gradients, dy.width, in, [&](Range rows, Range features) {
    gemm(features.size(), rows.size(), x.count, Operand<T>{x.data + features.begin, x.stride},
         Operand<T>{dy.data + rows.begin, dy.stride, true}, dW + rows.begin * in + features.begin, in, true);
  });
}

}  // namespace llama
