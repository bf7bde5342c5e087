// What x, y and h are: tokens with their features, in the caller's memory.
#pragma once

#include <type_traits>  // is_const, is_lvalue_reference, remove_cvref
#include <utility>      // declval, forward

#include "config.hpp"
#include "error.hpp"

TIEDLORA_BEGIN_NAMESPACE

namespace detail {
inline namespace TIEDLORA_ISA {

[[noreturn]] inline void fail_cut(const char* what, Index begin, Index n, const char* whole, Index count) {
  fail(n, " ", what, " from ", begin, " on do not exist: ", whole, " has ", count, " ", what);
}

}  // namespace TIEDLORA_ISA
}  // namespace detail

/// A view of `count` tokens of `width` features each; the features of one token are contiguous. As a matrix
/// it is width × count, column-major: Eigen's default and, byte for byte, the row-major [tokens, features] of
/// C engines and PyTorch. Token t lies at
///   data + t · stride               by default
///   data + rows[t] · stride         with rows: gathered from, or scattered to, slots of a larger buffer
///   pointers[t] + first_feature     with pointers: anywhere
/// Rows and pointers of an output must be distinct. Plain and trivially copyable.
template <class T>
struct Tokens {
  T* data = nullptr;             ///< first feature of slot 0
  Index width = 0;               ///< features of one token
  Index count = 0;               ///< tokens
  Index stride = 0;              ///< from slot to slot, in elements
  const Index* rows = nullptr;   ///< slot of each token; null: the t-th
  T* const* pointers = nullptr;  ///< where each token begins; null: in `data`
  Index first_feature = 0;       ///< used with pointers only

  /// The first feature of token t.
  TIEDLORA_VIEW T* operator[](Index t) const {
    return pointers ? pointers[t] + first_feature : data + (rows ? rows[t] : t) * stride;
  }

  /// Whether there is no memory: an x that backward does not need, a dx that nobody wants.
  TIEDLORA_VIEW bool is_none() const { return !data && !pointers; }

  /// The features [begin, begin + n) of every token, e.g. q's share of a fused qkv. Throws Error if they are
  /// not within the width.
  __attribute__((always_inline)) inline Tokens features(Index begin, Index n) const {
    if (begin < 0 || n < 0 || begin > width - n) detail::fail_cut("features", begin, n, "a token", width);
    Tokens cut = *this;
    cut.width = n;
    if (pointers)
      cut.first_feature += begin;
    else if (data)
      cut.data += begin;
    return cut;
  }

  /// The tokens [begin, begin + n). Throws Error if they are not within the count.
  __attribute__((always_inline)) inline Tokens tokens(Index begin, Index n) const {
    if (begin < 0 || n < 0 || begin > count - n) detail::fail_cut("tokens", begin, n, "the view", count);
    Tokens cut = *this;
    cut.count = n;
    if (pointers)
      cut.pointers += begin;
    else if (rows)
      cut.rows += begin;
    else if (data)
      cut.data += begin * stride;
    return cut;
  }

  /// Read-only.
  // A template, or nvcc warns of a conversion to itself.
  template <class Const>
    requires(std::is_same_v<Const, const T> && !std::is_const_v<T>)
  TIEDLORA_VIEW operator Tokens<Const>() const {
    return {data, width, count, stride, rows, pointers, first_feature};
  }
};

/// Stands for an x that backward does not need or a dx that the caller does not want.
struct None {};
/// The value of None to pass as that operand.
inline constexpr None none{};

/// How a matrix type is viewed as tokens, without a copy. eigen.hpp has Eigen's; for a type of your own,
/// specialise it with two functions, input(const Matrix&) → Tokens<const T> and output(Matrix&) → Tokens<T>,
/// and with `is_view = true` where a temporary Matrix refers to memory that outlives it.
template <class Matrix>
struct TokensOf {
  static_assert(!sizeof(Matrix),
                "tiedlora: an operand must be a Tokens view or a matrix of features x tokens that "
                "tiedlora::TokensOf knows (for Eigen's include <tiedlora/eigen.hpp>)");
};

/// Tokens themselves.
template <class T>
struct TokensOf<Tokens<T>> {
  static constexpr bool is_view = true;  ///< a view may be a temporary
  /// The tokens to read, and those to write.
  TIEDLORA_VIEW static Tokens<const T> input(const Tokens<T>& tokens) { return tokens; }
  TIEDLORA_VIEW static Tokens<T> output(const Tokens<T>& tokens) { return tokens; }
};

namespace detail {

template <class X>
inline constexpr bool is_none_t = std::is_same_v<std::remove_cvref_t<X>, None>;

inline namespace TIEDLORA_ISA {

/// Tokens of an input.
template <class X>
auto input_tokens(const X& x) {
  return TokensOf<X>::input(x);
}

/// Tokens of an output: writable, and temporaries only where they are views.
template <class Y>
auto output_tokens(Y&& y) {
  using Type = std::remove_cvref_t<Y>;
  using T = std::remove_pointer_t<decltype(TokensOf<Type>::output(y).data)>;
  static_assert(!std::is_const_v<T>, "tiedlora: an output must be writable");
  static_assert(std::is_lvalue_reference_v<Y> || TokensOf<Type>::is_view,
                "tiedlora: an output must outlive the call; this is a temporary matrix");
  return TokensOf<Type>::output(y);
}

/// The same, or no tokens of type Default where x is `none`.
template <class Default, class X>
auto input_tokens_or_none(const X& x) {
  if constexpr (is_none_t<X>)
    return Tokens<const Default>();
  else
    return input_tokens(x);
}
template <class Default, class Y>
auto output_tokens_or_none(Y&& y) {
  if constexpr (is_none_t<Y>)
    return Tokens<Default>();
  else
    return output_tokens(std::forward<Y>(y));
}

}  // namespace TIEDLORA_ISA
}  // namespace detail
TIEDLORA_END_NAMESPACE
