// What kernels get: the factors of one module as pointers.
#pragma once

#include <Eigen/Core>  // Map

#include <cstdint>      // int32_t
#include <type_traits>  // remove_const

#include "config.hpp"
#include "error.hpp"
#include "layout.hpp"
#include "scalar.hpp"

namespace tiedlora {
inline namespace v1 {

/// One module's share of the flat arrays. Plain and trivially copyable; the seam at which a kernel of the
/// user's own plugs in. In gradients a null pointer means: not trained. Valid as long as the owner of the
/// arrays (and, for `name`, its Layout).
template <class P>
struct Factors {
  P* A = nullptr;  ///< row k at A + k · a_stride, in_features long
  Index a_stride = 0;
  P* B = nullptr;  ///< column k at B + k · b_stride, out_features long
  Index b_stride = 0;
  P* u = nullptr;  ///< rank long; null: ones
  P* v = nullptr;  ///< out_features long; null: ones
  accumulator_t<P> scaling = accumulator_t<P>(1);
  Index rank = 0;  ///< 0: the module is not adapted
  Index in_features = 0;
  Index out_features = 0;
  std::int32_t module = -1;    ///< its index in the module list
  const char* name = nullptr;  ///< for messages

  operator Factors<const P>() const
    requires(!std::is_const_v<P>)
  {
    return {A, a_stride, B, b_stride, u, v, scaling, rank, in_features, out_features, module, name};
  }
};

namespace detail {
inline namespace TIEDLORA_ISA {

/// Module m's factors in two flat arrays of that layout. A null array gives null pointers.
template <class P>
Factors<P> make_factors(const Layout& layout, Index m, P* trainable, P* frozen) {
  const auto place = [&](FactorId id) -> P* {
    const Layout::Group* group = layout.group(id, m);
    P* array = layout.is_trained(id) ? trainable : frozen;
    return group && array ? array + group->offset : nullptr;
  };
  const auto stride = [&](FactorId id) {
    const Layout::Group* group = layout.group(id, m);
    return group ? group->features : 0;
  };
  const Module& module = layout.modules()[m];
  return {.A = place(FactorId::A),
          .a_stride = stride(FactorId::A),
          .B = place(FactorId::B),
          .b_stride = stride(FactorId::B),
          .u = place(FactorId::u),
          .v = place(FactorId::v),
          .scaling = static_cast<accumulator_t<P>>(layout.scaling(m)),
          .rank = layout.rank(m),
          .in_features = module.in_features,
          .out_features = module.out_features,
          .module = static_cast<std::int32_t>(m),
          .name = module.name.c_str()};
}

template <class P>
void check_cut(const Factors<P>& f, const char* side, Index begin, Index n, Index features) {
  if (begin < 0 || n < 0 || begin > features - n)
    fail(message("module \"", f.name ? f.name : "?", "\" (", f.out_features, "x", f.in_features, ", rank ",
                 f.rank, "): its ", side, " features [", begin, ", ", begin + n,
                 ") do not exist (another model, or a cut made twice?)"));
}

}  // namespace TIEDLORA_ISA

template <class P, int Rows, int Columns, int Order>
using EigenLike =
    std::conditional_t<std::is_const_v<P>, const Eigen::Matrix<std::remove_const_t<P>, Rows, Columns, Order>,
                       Eigen::Matrix<std::remove_const_t<P>, Rows, Columns, Order>>;

}  // namespace detail

template <class P>
using RowsMap = Eigen::Map<detail::EigenLike<P, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>, 0,
                           Eigen::OuterStride<>>;
template <class P>
using ColumnsMap = Eigen::Map<detail::EigenLike<P, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>, 0,
                              Eigen::OuterStride<>>;
template <class P>
using VectorMap = Eigen::Map<detail::EigenLike<P, Eigen::Dynamic, 1, Eigen::ColMajor>>;

inline namespace TIEDLORA_ISA {

/// One device's part of a module whose base layer is cut over its inputs (row-parallel): the columns [begin,
/// begin + n) of A. Forward needs no exchange of its own: expand is linear in h, so each device adds the
/// outputs of its own h to its partial y before the base layer's all-reduce. Where h itself is wanted, for
/// backward, it is the sum of the devices' (r numbers a token). B, u and v are each device's whole ones, and
/// so are their gradients once h is summed. Gradients are cut alike. Throws Error, naming the module, outside
/// of in_features.
template <class P>
Factors<P> slice_in(Factors<P> f, Index begin, Index n) {
  detail::check_cut(f, "input", begin, n, f.in_features);
  if (f.A) f.A += begin;
  f.in_features = n;
  return f;
}

/// One device's part of a module whose base layer is cut over its outputs (column-parallel): the rows [begin,
/// begin + n) of B and v. Forward needs no exchange: every device computes the whole h. In backward dh is the
/// sum of the devices' (r numbers a token), or rather dx of the base layer's all-reduce, if u and A are
/// frozen. Gradients are cut alike. Throws Error, naming the module, outside of out_features.
template <class P>
Factors<P> slice_out(Factors<P> f, Index begin, Index n) {
  detail::check_cut(f, "output", begin, n, f.out_features);
  if (f.B) f.B += begin;
  if (f.v) f.v += begin;
  f.out_features = n;
  return f;
}

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

}  // namespace TIEDLORA_ISA
}  // namespace v1
}  // namespace tiedlora
