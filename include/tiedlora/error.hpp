// How errors are raised: an exception, or the same message and abort() in a build without exceptions.
#pragma once

#include <stdexcept>    // runtime_error
#include <string>       // string
#include <string_view>  // string_view
#include <type_traits>  // decay

#include "config.hpp"

#if !TIEDLORA_EXCEPTIONS
#include <cstdio>   // fputs
#include <cstdlib>  // abort
#endif

namespace tiedlora {
inline namespace v1 {

/// The one exception type. what() says what was wrong, where (the module's name, both shapes) and what to do
/// about it.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

namespace detail {

inline namespace TIEDLORA_ISA {

[[noreturn]] inline void fail(const std::string& message) {
#if TIEDLORA_EXCEPTIONS
  throw Error("tiedlora: " + message);
#else
  std::fputs(("tiedlora: " + message + "\n").c_str(), stderr);
  std::abort();
#endif
}

/// Joins texts and numbers into one message, without streams (they cost every includer compile time).
template <class... Parts>
std::string message(const Parts&... parts) {
  std::string text;
  const auto append = [&text](const auto& part) {
    if constexpr (std::is_arithmetic_v<std::decay_t<decltype(part)>>)
      text += std::to_string(part);
    else
      text += std::string_view(part);
  };
  (append(parts), ...);
  return text;
}

}  // namespace TIEDLORA_ISA
}  // namespace detail
}  // namespace v1
}  // namespace tiedlora
