// Eigen's matrices as tokens, and its 16-bit types. Part of tiedlora.hpp; beside ops.hpp for hosts on Eigen.
#pragma once

#include <Eigen/Core>  // DenseBase and its traits, half, bfloat16

#include <type_traits>  // is_base_of

#include "views/config.hpp"
#include "views/scalar.hpp"
#include "views/tokens.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// Eigen's half: IEEE 754's binary16.
template <>
struct ScalarTraits<Eigen::half> : Scalar16<Format::binary16> {};
/// Eigen's bfloat16: the upper half of a float.
template <>
struct ScalarTraits<Eigen::bfloat16> : Scalar16<Format::bfloat16> {};

/// Any column-major matrix, map or block of features × tokens. What cannot be viewed as tokens without a copy
/// does not compile.
template <class Matrix>
  requires std::is_base_of_v<Eigen::DenseBase<Matrix>, Matrix>
struct TokensOf<Matrix> {
  static_assert((int{Matrix::Flags} & int{Eigen::DirectAccessBit}) != 0,
                "tiedlora: tokens must lie in memory; evaluate this expression into a matrix first");
  static_assert(int{Matrix::InnerStrideAtCompileTime} == 1,
                "tiedlora: the features of a token must be contiguous (inner stride 1)");
  static_assert(!Matrix::IsRowMajor,
                "tiedlora: tokens are columns: this is row-major, so pass the transpose of a row-major "
                "[tokens, features] matrix (no copy), or a column-major matrix");

  /// Maps and blocks, whose memory outlives them.
  static constexpr bool is_view = (int{Matrix::Flags} & int{Eigen::NestByRefBit}) == 0;

  /// Its columns as tokens, to read or to write.
  TIEDLORA_VIEW static auto input(const Matrix& m) {
    return Tokens<const typename Matrix::Scalar>{m.derived().data(), m.rows(), m.cols(),
                                                 m.derived().outerStride()};
  }
  template <class Output>  // Matrix or const Matrix
  TIEDLORA_VIEW static auto output(Output& m) {
    using T = std::remove_pointer_t<decltype(m.derived().data())>;
    return Tokens<T>{m.derived().data(), m.rows(), m.cols(), m.derived().outerStride()};
  }
};

TIEDLORA_END_NAMESPACE
