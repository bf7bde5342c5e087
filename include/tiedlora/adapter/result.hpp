// What the try_ functions return: a value, or in words why there is none.
#pragma once

#include <string>   // string
#include <utility>  // move
#include <variant>  // variant

#include "../views/config.hpp"
#include "../views/error.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// Why something could not be done: what was wrong, where, and what to do about it.
struct Failure {
  std::string message = {};  ///< whole sentences, to be shown as they are
};

/// A value or a Failure. Functions that take input from outside (files, a file's claims) have a twin named
/// try_… that returns one: it neither throws nor aborts, whatever it is given.
template <class T>
class [[nodiscard]] Result {
 public:
  /// A value or a Failure converts to a Result implicitly: `return value;`, `return Failure{"…"};`.
  Result(T value) : state_(std::move(value)) {}
  Result(Failure failure) : state_(std::move(failure)) {}

  /// Whether there is a value.
  explicit operator bool() const { return state_.index() == 0; }

  /// The value. Only where there is one.
  T& operator*() & { return *std::get_if<0>(&state_); }
  const T& operator*() const& { return *std::get_if<0>(&state_); }
  T&& operator*() && { return std::move(*std::get_if<0>(&state_)); }
  T* operator->() { return std::get_if<0>(&state_); }
  const T* operator->() const { return std::get_if<0>(&state_); }

  /// The failure. Only where there is no value. `return result.failure();` passes it on.
  const Failure& failure() const { return *std::get_if<1>(&state_); }
  const std::string& error() const { return failure().message; }

 private:
  std::variant<T, Failure> state_;
};

/// Success, or why not: the Result of a function without a value.
using Status = Result<std::monostate>;
/// The Status of success.
inline Status success() { return std::monostate(); }

namespace detail {
/// The value; where there is none, an Error (or abort, without exceptions) with the reason.
template <class T>
T value_or_fail(Result<T> result) {
  if (!result) fail(result.error());
  return *std::move(result);
}

}  // namespace detail
TIEDLORA_END_NAMESPACE
