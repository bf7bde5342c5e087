// The products with a weight matrix, as Eigen GEMMs. W is out×in, row-major, as Hugging Face stores a Linear.
#pragma once

#include "token_matrix.hpp"

namespace transformer {

template <class T>
using WeightMap = Eigen::Map<ConstLike<T, Matrix<T, Eigen::RowMajor>>>;

/// y = W x
template <class T>
void product(const T* W, const Tokens<const T>& x, const Tokens<T>& y) {
  if (x.count > 0) matrix(y).noalias() = WeightMap<const T>(W, y.width, x.width) * matrix(x);
}

/// y += W x
template <class T>
void add_product(const T* W, const Tokens<const T>& x, const Tokens<T>& y) {
  if (x.count > 0) matrix(y).noalias() += WeightMap<const T>(W, y.width, x.width) * matrix(x);
}

/// dx = Wᵀ dy
template <class T>
void transposed_product(const T* W, const Tokens<const T>& dy, const Tokens<T>& dx) {
  if (dy.count > 0) matrix(dx).noalias() = WeightMap<const T>(W, dy.width, dx.width).transpose() * matrix(dy);
}

/// dW += dy xᵀ, the sum over tokens. Threads split it by rows of dW, that is by features of dy.
template <class T>
void add_weight_gradient(const Tokens<const T>& dy, const Tokens<const T>& x, T* dW) {
  if (dy.width == 0 || dy.count == 0) return;
  // As column-major matrices: (dW)ᵀ += x dyᵀ.
  matrix(columns(dW, x.width, dy.width)).noalias() += matrix(x) * matrix(dy).transpose();
}

}  // namespace transformer
