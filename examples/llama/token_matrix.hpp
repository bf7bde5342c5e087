// Token views as Eigen matrices and arrays.
#pragma once

#include <Eigen/Core>

#include <type_traits>  // conditional, is_const, remove_const

#include <tiedlora/views/tokens.hpp>  // Tokens

#include "config.hpp"
#include "range.hpp"

namespace llama {

using tiedlora::Tokens;

template <class T, class Plain>
using ConstLike = std::conditional_t<std::is_const_v<T>, const Plain, Plain>;
template <class T, int Order = Eigen::ColMajor>
using Matrix = Eigen::Matrix<std::remove_const_t<T>, Eigen::Dynamic, Eigen::Dynamic, Order>;
template <class T>
using MatrixMap = Eigen::Map<ConstLike<T, Matrix<T>>, 0, Eigen::OuterStride<>>;
template <class T>
using ArrayMap = Eigen::Map<ConstLike<T, Eigen::Array<std::remove_const_t<T>, Eigen::Dynamic, 1>>>;

/// `count` tokens of `width` features, one after the other.
template <class T>
Tokens<T> columns(T* data, Index width, Index count) {
  return {.data = data, .width = width, .count = count, .stride = width};
}

/// Those tokens only.
template <class T>
Tokens<T> cut(const Tokens<T>& x, Range range) {
  return x.tokens(range.begin, range.size());
}

/// width × count.
template <class T>
MatrixMap<T> matrix(const Tokens<T>& x) {
  return {x.data, x.width, x.count, Eigen::OuterStride<>(x.stride)};
}

/// Token t, or its features [first, first + n).
template <class T>
ArrayMap<T> column(const Tokens<T>& x, Index t) {
  return {x[t], x.width};
}
template <class T>
ArrayMap<T> column(const Tokens<T>& x, Index t, Index first, Index n) {
  return {x[t] + first, n};
}

}  // namespace llama
