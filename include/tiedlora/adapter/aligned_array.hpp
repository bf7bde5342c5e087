// Memory for parameters: a fixed number of elements at a 64-byte boundary, whatever the compiler flags, and
// of large arrays away from the start of a page.
#pragma once

#include <algorithm>  // copy
#include <cstddef>    // size_t
#include <limits>     // numeric_limits
#include <memory>     // uninitialized_fill_n, uninitialized_default_construct_n, destroy_n
#include <new>        // align_val_t
#include <span>       // span
#include <utility>    // exchange, swap

#include "../views/config.hpp"
#include "../views/error.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// Where in a page of 4096 bytes an array of 32 KB or more begins. Allocators put all large blocks at the
/// start of one. Rows of 1024 floats or a multiple of that then have the same offset in factors, gradients
/// and activations, share one set of L1, and 4K aliasing makes loads wait for unrelated stores: backward of
/// few tokens takes up to 1.3 times as long. So factors take the second quarter and gradients the third;
/// activations, which come from elsewhere, have the first.
enum class PageQuarter : unsigned char { first, second, third, fourth };

/// An array of a fixed size, zero at first. Copies are deep; a move keeps pointers into it valid.
template <class T>
class AlignedArray {
 public:
  static constexpr std::size_t alignment = 64;  ///< of the first element, in bytes: a cache line
  static_assert(alignof(T) <= alignment);

  AlignedArray() = default;
  /// `size` zeros. Throws Error if the size is negative or does not fit in the address space.
  explicit AlignedArray(Index size, PageQuarter quarter = PageQuarter::second) : quarter_(quarter) {
    allocate(size);
    std::uninitialized_fill_n(data_, static_cast<std::size_t>(size_), T(0));
  }
  /// Not set to zero: for callers who write every element before they read it.
  static AlignedArray for_overwrite(Index size, PageQuarter quarter = PageQuarter::second) {
    AlignedArray array;
    array.quarter_ = quarter;
    array.allocate(size);
    std::uninitialized_default_construct_n(array.data_, static_cast<std::size_t>(size));
    return array;
  }
  AlignedArray(const AlignedArray& other) : AlignedArray(for_overwrite(other.size_, other.quarter_)) {
    std::copy(other.begin(), other.end(), data_);
  }
  AlignedArray(AlignedArray&& other) noexcept
      : block_(std::exchange(other.block_, nullptr)),
        data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)),
        quarter_(other.quarter_) {}
  AlignedArray& operator=(AlignedArray other) noexcept {
    std::swap(block_, other.block_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(quarter_, other.quarter_);
    return *this;
  }
  ~AlignedArray() {
    if (!data_) return;
    std::destroy_n(data_, static_cast<std::size_t>(size_));
    ::operator delete(block_, std::align_val_t(alignment));
  }

  /// The elements: a pointer, how many, iterators, spans.
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
  void allocate(Index size) {
    if (size < 0 || size > std::numeric_limits<Index>::max() / static_cast<Index>(sizeof(T)))
      detail::fail(detail::message("an array of ", size, " elements does not fit in the address space"));
    if (size == 0) return;
    size_ = size;
    constexpr std::size_t page = 4096, large = 8 * page;
    const std::size_t bytes = static_cast<std::size_t>(size) * sizeof(T);
    const std::size_t room = bytes < large ? 0 : page;
    block_ = static_cast<std::byte*>(::operator new(bytes + room, std::align_val_t(alignment)));
    const std::size_t begin = static_cast<std::size_t>(quarter_) * (page / 4);
    const std::size_t skipped = room ? (begin - reinterpret_cast<std::uintptr_t>(block_)) % page : 0;
    data_ = reinterpret_cast<T*>(block_ + skipped);
  }

  std::byte* block_ = nullptr;  // as it was allocated
  T* data_ = nullptr;
  Index size_ = 0;
  PageQuarter quarter_ = PageQuarter::second;
};

TIEDLORA_END_NAMESPACE
