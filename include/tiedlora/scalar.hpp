// Which type sums are kept in.
#pragma once

#include <Eigen/Core>  // half, bfloat16

#include <type_traits>  // remove_const

#include "config.hpp"

namespace tiedlora {
inline namespace v1 {

namespace detail {
template <class T>
struct Accumulator {
  using type = T;
};
template <>
struct Accumulator<Eigen::half> {
  using type = float;
};
template <>
struct Accumulator<Eigen::bfloat16> {
  using type = float;
};
}  // namespace detail

/// The type of h, gradients, scratch and sums beside parameters P: float for half and bfloat16, else P
/// itself.
template <class P>
using accumulator_t = typename detail::Accumulator<std::remove_const_t<P>>::type;

/// Types too narrow to sum or to train in.
template <class P>
inline constexpr bool is_narrow = !std::is_same_v<accumulator_t<P>, std::remove_const_t<P>>;

}  // namespace v1
}  // namespace tiedlora
