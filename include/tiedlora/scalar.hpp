// Which type sums are kept in.
#pragma once

#include <Eigen/Core>  // half, bfloat16

#include <type_traits>  // common_type, conditional, is_floating_point, remove_const, type_identity

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

/// In what a number in memory of type T and a sum of type Acc are added: the wider of the two, so that a
/// double keeps its digits beside a float adapter.
template <class Acc, class T>
using sum_t = typename std::conditional_t<std::is_floating_point_v<Acc> && std::is_floating_point_v<T>,
                                          std::common_type<Acc, T>, std::type_identity<Acc>>::type;

}  // namespace v1
}  // namespace tiedlora
