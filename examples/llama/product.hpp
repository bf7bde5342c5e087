// The products with a weight matrix. W is out×in, row-major, as Hugging Face stores a Linear.
//
// They are what an adapter's halves compute with W in the place of A, or of B, and `out` in that of the rank.
// So the library's kernels do them: they pack nothing into memory of their own, and every element has the
// same bits however tokens and threads are cut.
#pragma once

#include <algorithm>  // min

#include <tiedlora/ops.hpp>  // shrink, expand, shrink_backward

#include "token_matrix.hpp"

namespace llama {

/// W, out×in, in the place of A or of B, whose column k is row k of W.
template <class T>
tiedlora::Factors<T> as_A(T* W, Index out, Index in) {
  return {.A = W, .a_stride = in, .rank = out, .in_features = in, .name = "base weight"};
}
template <class T>
tiedlora::Factors<T> as_B(T* W, Index out, Index in) {
  return {.B = W, .b_stride = in, .rank = out, .out_features = in, .name = "base weight"};
}

/// y = W x
template <class T>
void product(const T* W, const Tokens<const T>& x, const Tokens<T>& y) {
  tiedlora::shrink(as_A(W, y.width, x.width), x, y);
}

/// dx = Wᵀ dy
template <class T>
void transposed_product(const T* W, const Tokens<const T>& dy, const Tokens<T>& dx) {
  tiedlora::expand(as_B(W, dy.width, dx.width), dy, dx, {.overwrite = true});
}

/// From this many tokens on y = W x is faster as the transposed product with Wᵀ, copy included: that sums
/// rows, while dot products as short as a width end in folding.
inline constexpr Index transposing_tokens = 256;

/// The rows [begin, end) of W, out×in, become columns of `to`, in×out and row-major.
template <class T>
void transpose(const T* W, Index out, Index in, Range rows, T* to) {
  constexpr Index strip = 16;  // what one row of `to` takes at a time: a cache line
  for (Index begin = rows.begin; begin < rows.end; begin += strip) {
    const Index n = std::min(strip, rows.end - begin);
    for (Index i = 0; i < in; ++i)
      for (Index o = 0; o < n; ++o) to[i * out + begin + o] = W[(begin + o) * in + i];
  }
}

/// dW += dy xᵀ, the sum over tokens. Threads split it by rows of dW, that is by features of dy.
template <class T>
void add_weight_gradient(const Tokens<const T>& dy, const Tokens<const T>& x, T* dW) {
  const tiedlora::Factors<T> gradient = as_A(dW, dy.width, x.width);
  tiedlora::shrink_backward(tiedlora::Factors<const T>(gradient), x, dy, gradient, tiedlora::none);
}

}  // namespace llama
