// Memory for parameters: a fixed number of elements at a 64-byte boundary, whatever the compiler flags.
#pragma once

#include <algorithm>  // copy
#include <cstddef>    // size_t
#include <limits>     // numeric_limits
#include <memory>     // uninitialized_fill_n, uninitialized_default_construct_n, destroy_n
#include <new>        // align_val_t
#include <span>       // span
#include <utility>    // exchange, swap

#include "config.hpp"
#include "error.hpp"

namespace tiedlora {
inline namespace v1 {

/// An array of a fixed size, zero at first. Copies are deep; a move keeps pointers into it valid.
template <class T>
class AlignedArray {
 public:
  static constexpr std::size_t alignment = 64;
  static_assert(alignof(T) <= alignment);

  AlignedArray() = default;
  TIEDLORA_ISA_TAG explicit AlignedArray(Index size) {
    allocate(size);
    std::uninitialized_fill_n(data_, static_cast<std::size_t>(size_), T(0));
  }
  /// Not zero but whatever the memory holds, to be written before it is read: for those who fill it at once.
  TIEDLORA_ISA_TAG static AlignedArray for_overwrite(Index size) {
    AlignedArray array;
    array.allocate(size);
    std::uninitialized_default_construct_n(array.data_, static_cast<std::size_t>(size));
    return array;
  }
  TIEDLORA_ISA_TAG AlignedArray(const AlignedArray& other) : AlignedArray(for_overwrite(other.size_)) {
    std::copy(other.begin(), other.end(), data_);
  }
  TIEDLORA_ISA_TAG AlignedArray(AlignedArray&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  TIEDLORA_ISA_TAG AlignedArray& operator=(AlignedArray other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  TIEDLORA_ISA_TAG ~AlignedArray() {
    if (!data_) return;
    std::destroy_n(data_, static_cast<std::size_t>(size_));
    ::operator delete(data_, std::align_val_t(alignment));
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  Index size() const { return size_; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }
  std::span<T> span() { return {data_, static_cast<std::size_t>(size_)}; }
  std::span<const T> span() const { return {data_, static_cast<std::size_t>(size_)}; }

 private:
  TIEDLORA_ISA_TAG void allocate(Index size) {
    if (size < 0 || size > std::numeric_limits<Index>::max() / static_cast<Index>(sizeof(T)))
      detail::fail(detail::message("an array of ", size, " numbers does not fit the address space"));
    if (size == 0) return;
    size_ = size;
    data_ = static_cast<T*>(::operator new(bytes(), std::align_val_t(alignment)));
  }

  std::size_t bytes() const { return static_cast<std::size_t>(size_) * sizeof(T); }

  T* data_ = nullptr;
  Index size_ = 0;
};

}  // namespace v1
}  // namespace tiedlora
