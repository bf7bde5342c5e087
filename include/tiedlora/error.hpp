// How errors are raised: an exception, or the same message and abort() in a build without exceptions.
#pragma once

#include <initializer_list>  // initializer_list
#include <stdexcept>         // runtime_error
#include <string>            // string
#include <string_view>       // string_view
#include <type_traits>       // decay

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

/// A text or a number in a message.
struct MessagePart {
  MessagePart(std::string_view part) : text(part) {}
  MessagePart(const char* part) : text(part) {}
  MessagePart(const std::string& part) : text(part) {}
  template <class Number>
    requires std::is_arithmetic_v<Number>
  MessagePart(Number number) : text(std::to_string(number)) {}

  std::string text;
};

inline std::string join(std::initializer_list<MessagePart> parts) {
  std::string text;
  for (const MessagePart& part : parts) text += part.text;
  return text;
}

/// Joins texts and numbers into one message: without streams, and with little to instantiate for each
/// message, since both cost every includer compile time.
template <class... Parts>
std::string message(const Parts&... parts) {
  return join({MessagePart(parts)...});
}

}  // namespace TIEDLORA_ISA
}  // namespace detail
}  // namespace v1
}  // namespace tiedlora
