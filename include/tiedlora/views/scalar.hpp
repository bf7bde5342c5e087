// How a value is stored, and which type sums are kept in.
#pragma once

#include <type_traits>  // common_type, conditional, is_floating_point, is_same, remove_const, type_identity

#include "config.hpp"

// CUDA's, known here without their headers.
#if defined(__clang__)
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wreserved-identifier"
#endif
struct __half;         // NOLINT(bugprone-reserved-identifier)
struct __nv_bfloat16;  // NOLINT(bugprone-reserved-identifier)
#if defined(__clang__)
#pragma clang diagnostic pop
#endif

TIEDLORA_BEGIN_NAMESPACE

/// How a value is stored: in the type's own format, or in one of the two 16-bit formats.
enum class Format : unsigned char { native, binary16, bfloat16 };

/// What the library knows about a scalar type. Specialise it for a type of your own; most need only
/// `struct ScalarTraits<MyHalf> : Scalar16<Format::binary16> {};`.
template <class T>
struct ScalarTraits {
  static_assert(sizeof(T) != 2,
                "tiedlora: an unknown type of 16 bits; include <tiedlora/eigen.hpp> for Eigen's half and "
                "bfloat16, or specialise tiedlora::ScalarTraits for a type of your own");
  using accumulator = T;                            ///< what sums are kept in
  static constexpr Format format = Format::native;  ///< how the value lies in memory
};

/// 16-bit floating-point values, summed in float.
template <Format number>
struct Scalar16 {
  using accumulator = float;                ///< what sums are kept in
  static constexpr Format format = number;  ///< how the value lies in memory
};

/// CUDA's half.
template <>
struct ScalarTraits<__half> : Scalar16<Format::binary16> {};
/// CUDA's bfloat16.
template <>
struct ScalarTraits<__nv_bfloat16> : Scalar16<Format::bfloat16> {};
// GCC 12 has the limits of _Float16 on 64-bit ARM, but the type in C only.
#if defined(__FLT16_MAX__) && (defined(__clang__) || __GNUC__ >= 13 || defined(__x86_64__))
template <>
struct ScalarTraits<_Float16> : Scalar16<Format::binary16> {};
#endif
#if defined(__BFLT16_MAX__) || (defined(__clang__) && __clang_major__ >= 17 && defined(__SSE2__))
template <>
struct ScalarTraits<__bf16> : Scalar16<Format::bfloat16> {};
#endif

/// The type of h, gradients, scratch and sums beside parameters P: float for the 16-bit types, else P itself.
template <class P>
using accumulator_t = typename ScalarTraits<std::remove_const_t<P>>::accumulator;

/// Types too narrow to sum or to train in.
template <class P>
inline constexpr bool is_narrow = ScalarTraits<std::remove_const_t<P>>::format != Format::native;

/// The type in which a number of type T is added to a sum of type Acc: the wider of the two, so that a double
/// keeps its precision beside a float adapter.
template <class Acc, class T>
using sum_t = typename std::conditional_t<std::is_floating_point_v<Acc> && std::is_floating_point_v<T>,
                                          std::common_type<Acc, T>, std::type_identity<Acc>>::type;

namespace detail {
inline namespace TIEDLORA_ISA {

/// For any type of scalar, which std::isfinite is not: infinity less infinity is NaN, and equals nothing.
template <class Acc>
bool is_finite(const Acc& number) {
  return Acc(number - number) == Acc(0);
}

}  // namespace TIEDLORA_ISA
}  // namespace detail

TIEDLORA_END_NAMESPACE
