// Throws the errors with which the program ends.
#pragma once

#include <stdexcept>  // runtime_error
#include <string>     // string
#include <utility>    // move

#include <tiedlora/io.hpp>

namespace adapter_tool {

[[noreturn]] inline void refuse(const std::string& text) {
  throw std::runtime_error(tiedlora::detail::escaped(text));  // which names tensors
}
template <class T>
T value_of(tiedlora::Result<T> result) {
  if (!result) refuse(result.error());
  return *std::move(result);
}

}  // namespace adapter_tool
