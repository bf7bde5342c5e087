// The factors of a module as Eigen maps.
#pragma once

#include <Eigen/Core>  // Map

#include <type_traits>  // conditional, is_const, remove_const

#include "../eigen.hpp"
#include "../views/config.hpp"
#include "../views/factors.hpp"

TIEDLORA_BEGIN_NAMESPACE

namespace detail {

template <class P, int Rows, int Columns, int Order>
using EigenLike =
    std::conditional_t<std::is_const_v<P>, const Eigen::Matrix<std::remove_const_t<P>, Rows, Columns, Order>,
                       Eigen::Matrix<std::remove_const_t<P>, Rows, Columns, Order>>;

}  // namespace detail

/// A: r×in, row-major.
template <class P>
using RowsMap = Eigen::Map<detail::EigenLike<P, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>, 0,
                           Eigen::OuterStride<>>;
/// B: out×r, column-major.
template <class P>
using ColumnsMap = Eigen::Map<detail::EigenLike<P, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>, 0,
                              Eigen::OuterStride<>>;
/// u or v.
template <class P>
using VectorMap = Eigen::Map<detail::EigenLike<P, Eigen::Dynamic, 1, Eigen::ColMajor>>;

/// The factors as Eigen maps: A r×in, B out×r, u r, v out; empty where the factor is absent or, in gradients,
/// not trained.
template <class P>
RowsMap<P> map_A(const Factors<P>& f) {
  return {f.A, f.A ? f.rank : 0, f.A ? f.in_features : 0, Eigen::OuterStride<>(f.a_stride)};
}
template <class P>
ColumnsMap<P> map_B(const Factors<P>& f) {
  return {f.B, f.B ? f.out_features : 0, f.B ? f.rank : 0, Eigen::OuterStride<>(f.b_stride)};
}
template <class P>
VectorMap<P> map_u(const Factors<P>& f) {
  return {f.u, f.u ? f.rank : 0};
}
template <class P>
VectorMap<P> map_v(const Factors<P>& f) {
  return {f.v, f.v ? f.out_features : 0};
}

TIEDLORA_END_NAMESPACE
