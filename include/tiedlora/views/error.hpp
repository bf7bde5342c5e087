// How errors are raised: an exception, or the same message and abort() in a build without exceptions.
#pragma once

#include <cstddef>      // size_t
#include <cstdio>       // snprintf, fputs
#include <cstdlib>      // abort
#include <cstring>      // memcpy, strlen
#include <stdexcept>    // runtime_error
#include <string>       // string
#include <string_view>  // string_view
#include <type_traits>  // is_arithmetic, is_floating_point

#include "config.hpp"
#include "escape.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// The one exception type. what() says what was wrong, where (the module's name, both shapes) and what to do
/// about it.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

namespace detail {
inline namespace TIEDLORA_ISA {

/// A string or a number in a message.
class MessagePart {
 public:
  MessagePart(const char* text) : text_(text), size_(std::strlen(text)) {}
  MessagePart(const std::string& text) : text_(text.data()), size_(text.size()) {}
  MessagePart(std::string_view text) : text_(text.data()), size_(text.size()) {}
  template <class Number>
    requires std::is_arithmetic_v<Number>
  MessagePart(Number number) : text_(number_) {
    if constexpr (std::is_floating_point_v<Number>)
      size_ = written(std::snprintf(number_, sizeof number_, "%.9g", static_cast<double>(number)));
    else if constexpr (std::is_signed_v<Number>)
      size_ = written(std::snprintf(number_, sizeof number_, "%lld", static_cast<long long>(number)));
    else
      size_ =
          written(std::snprintf(number_, sizeof number_, "%llu", static_cast<unsigned long long>(number)));
  }
  MessagePart(const MessagePart&) = delete;
  MessagePart& operator=(const MessagePart&) = delete;

  const char* data() const { return text_; }
  std::size_t size() const { return size_; }

 private:
  static std::size_t written(int count) { return static_cast<std::size_t>(count); }

  const char* text_;
  std::size_t size_ = 0;
  char number_[32];
};

// Without std::string: its functions would be bodies that units of different instruction sets share. What is
// not safe to show is escaped: names come from files.
[[noreturn]] inline void raise(const MessagePart* parts, std::size_t count) {
  static constexpr char prefix[] = "tiedlora: ";
  std::size_t size = sizeof prefix;  // with the final zero
  for (std::size_t i = 0; i < count; ++i)
    escape(parts[i].data(), parts[i].size(), [&size](const char*, std::size_t n) { size += n; });
  struct Text {
    explicit Text(std::size_t bytes) : data(new char[bytes]) {}
    Text(const Text&) = delete;
    Text& operator=(const Text&) = delete;
    ~Text() { delete[] data; }
    char* data;
  } text(size);
  char* end = text.data;
  const auto append = [&end](const char* from, std::size_t n) {
    std::memcpy(end, from, n);
    end += n;
  };
  append(prefix, sizeof prefix - 1);
  for (std::size_t i = 0; i < count; ++i) escape(parts[i].data(), parts[i].size(), append);
  *end = 0;
#if TIEDLORA_EXCEPTIONS
  throw Error(text.data);
#else
  std::fputs(text.data, stderr);
  std::fputs("\n", stderr);
  std::abort();
#endif
}

/// Raises an error whose message is these strings and numbers, concatenated.
template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  const MessagePart all[] = {MessagePart(parts)...};
  raise(all, sizeof...(parts));
}

/// The same message as a string.
template <class... Parts>
std::string message(const Parts&... parts) {
  std::string text;
  const MessagePart all[] = {MessagePart(parts)...};
  for (const MessagePart& part : all) text.append(part.data(), part.size());
  return text;
}

}  // namespace TIEDLORA_ISA
}  // namespace detail
TIEDLORA_END_NAMESPACE
