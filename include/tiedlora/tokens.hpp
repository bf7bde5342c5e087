// What x, y and h are: some tokens of some features each, in the caller's memory.
#pragma once

#include <Eigen/Core>  // DenseBase and its traits

#include <type_traits>  // is_const, remove_reference
#include <utility>      // declval, forward

#include "config.hpp"
#include "error.hpp"

namespace tiedlora {
inline namespace v1 {

/// A view of `count` tokens of `width` features each; the features of one token are contiguous. As a matrix
/// it is width × count, column-major: Eigen's default and, byte for byte, the row-major [tokens, features] of
/// C engines and PyTorch. Token t lies at
///   data + t · stride               by default
///   data + rows[t] · stride         with rows: gathered from, or scattered to, slots of a larger buffer
///   pointers[t] + first_feature     with pointers: anywhere
/// Rows and pointers of an output must be distinct. Plain and trivially copyable.
template <class T>
struct Tokens {
  T* data = nullptr;
  Index width = 0;   ///< features of one token
  Index count = 0;   ///< tokens
  Index stride = 0;  ///< from slot to slot, in elements
  const Index* rows = nullptr;
  T* const* pointers = nullptr;
  Index first_feature = 0;  ///< used with pointers only

  T* operator[](Index t) const {
    return pointers ? pointers[t] + first_feature : data + (rows ? rows[t] : t) * stride;
  }

  /// The features [begin, begin + n) of every token, e.g. q's share of a fused qkv. Throws Error outside the
  /// width.
  TIEDLORA_ISA_TAG Tokens features(Index begin, Index n) const {
    if (begin < 0 || n < 0 || begin > width - n)
      detail::fail(
          detail::message("features [", begin, ", ", begin + n, ") of tokens with ", width, " features"));
    Tokens cut = *this;
    cut.width = n;
    if (pointers)
      cut.first_feature += begin;
    else if (data)
      cut.data += begin;
    return cut;
  }

  /// The tokens [begin, begin + n). Throws Error outside the count.
  TIEDLORA_ISA_TAG Tokens tokens(Index begin, Index n) const {
    if (begin < 0 || n < 0 || begin > count - n)
      detail::fail(detail::message("tokens [", begin, ", ", begin + n, ") of ", count));
    Tokens cut = *this;
    cut.count = n;
    if (pointers)
      cut.pointers += begin;
    else if (rows)
      cut.rows += begin;
    else
      cut.data += begin * stride;
    return cut;
  }

  operator Tokens<const T>() const
    requires(!std::is_const_v<T>)
  {
    return {data, width, count, stride, rows, pointers, first_feature};
  }
};

/// Stands for an x that backward does not need or a dx that the caller does not want.
struct None {
  None tokens(Index /*begin*/, Index /*n*/) const { return {}; }
};
inline constexpr None none{};

namespace detail {

template <class X>
struct IsTokens : std::false_type {};
template <class T>
struct IsTokens<Tokens<T>> : std::true_type {};

template <class X>
using element_t = std::remove_pointer_t<decltype(std::remove_cvref_t<X>::data)>;

template <class X>
inline constexpr bool is_eigen = std::is_base_of_v<Eigen::DenseBase<X>, X>;

// What cannot be seen as tokens without a copy does not compile.
template <class X>
constexpr void require_token_memory() {
  static_assert((int{X::Flags} & int{Eigen::DirectAccessBit}) != 0,
                "tiedlora: tokens must lie in memory; evaluate this expression into a matrix first");
  static_assert(!X::IsRowMajor,
                "tiedlora: tokens are columns: this is row-major, so pass the transpose of a row-major "
                "[tokens, features] matrix (no copy), or a column-major matrix");
  static_assert(int{X::InnerStrideAtCompileTime} == 1,
                "tiedlora: the features of a token must be contiguous (inner stride 1)");
}

inline namespace TIEDLORA_ISA {

/// Tokens of an input: a Tokens view, or any column-major Eigen matrix, map or block (features × tokens).
template <class X>
auto input_tokens(const X& x) {
  if constexpr (IsTokens<X>::value) {
    using T = std::remove_reference_t<decltype(*x.data)>;
    return static_cast<Tokens<const T>>(x);
  } else {
    static_assert(is_eigen<X>,
                  "tiedlora: an input must be a Tokens view or an Eigen matrix of features x tokens");
    require_token_memory<X>();
    return Tokens<const typename X::Scalar>{x.derived().data(), x.rows(), x.cols(),
                                            x.derived().outerStride()};
  }
}

/// Tokens of an output: as for an input, but writable; temporaries only where they are views.
template <class Y>
auto output_tokens(Y&& y) {
  using Type = std::remove_cvref_t<Y>;
  if constexpr (IsTokens<Type>::value) {
    static_assert(!std::is_const_v<std::remove_reference_t<decltype(*y.data)>>,
                  "tiedlora: an output must be writable");
    return Type(y);
  } else {
    static_assert(is_eigen<Type>,
                  "tiedlora: an output must be a Tokens view or an Eigen matrix of features x tokens");
    require_token_memory<Type>();
    using T = std::remove_pointer_t<decltype(y.derived().data())>;
    static_assert(!std::is_const_v<T>, "tiedlora: an output must be writable");
    static_assert(std::is_lvalue_reference_v<Y> || (int{Type::Flags} & int{Eigen::NestByRefBit}) == 0,
                  "tiedlora: an output must outlive the call; this is a temporary matrix");
    return Tokens<T>{y.derived().data(), y.rows(), y.cols(), y.derived().outerStride()};
  }
}

}  // namespace TIEDLORA_ISA

template <class X>
inline constexpr bool is_none = std::is_same_v<std::remove_cvref_t<X>, None>;

/// What lies in the memory of X; Default where X is none.
template <class Default, class X>
struct ElementOr {
  using type =
      std::remove_const_t<std::remove_pointer_t<decltype(input_tokens(std::declval<const X&>()).data)>>;
};
template <class Default>
struct ElementOr<Default, None> {
  using type = Default;
};
template <class Default, class X>
using element_or = typename ElementOr<Default, std::remove_cvref_t<X>>::type;

inline namespace TIEDLORA_ISA {

template <class X>
auto input_tokens_or_none(const X& x) {
  if constexpr (is_none<X>)
    return none;
  else
    return input_tokens(x);
}

template <class Y>
auto output_tokens_or_none(Y&& y) {
  if constexpr (is_none<Y>)
    return none;
  else
    return output_tokens(std::forward<Y>(y));
}

}  // namespace TIEDLORA_ISA
}  // namespace detail
}  // namespace v1
}  // namespace tiedlora
