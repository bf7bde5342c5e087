// Many buffers of one lifetime in one allocation.
#pragma once

#include <utility>  // pair
#include <vector>   // vector

#include <tiedlora/adapter/aligned_array.hpp>

#include "config.hpp"

namespace llama {

/// Whether buffers are made, or only counted.
enum class Memory { allocated, counted };

/// Memory of somebody else that is not used meanwhile, from a cache line on; without data, only counted.
template <class T>
struct Room {
  T* data = nullptr;
  Index size = 0;
};

/// Add all buffers, then allocate once. Each is 64-byte aligned.
template <class T>
class Arena {
 public:
  /// `pointer` will point to `count` zeros; it must stay where it is until allocate().
  void add(T*& pointer, Index count) {
    pending_.emplace_back(&pointer, size_);
    size_ += lines(count);
  }
  /// Likewise, but in `room` while there is any, whose contents are left as they are.
  void add(T*& pointer, Index count, Room<T>& room) {
    if (room.size < lines(count)) return add(pointer, count);
    pointer = room.data;
    room.size -= lines(count);
    if (room.data) room.data += lines(count);
  }
  void allocate(Memory memory = Memory::allocated) {
    if (memory == Memory::counted) return pending_.clear();
    memory_ = tiedlora::AlignedArray<T>(size_, tiedlora::PageQuarter::first);
    for (const auto& [pointer, offset] : pending_) *pointer = memory_.data() + offset;
    pending_.clear();
  }
  Index bytes() const { return size_ * static_cast<Index>(sizeof(T)); }

 private:
  // Whole cache lines.
  static Index lines(Index count) {
    constexpr Index line = 64 / sizeof(T);
    return (count + line - 1) / line * line;
  }

  std::vector<std::pair<T**, Index>> pending_;
  Index size_ = 0;
  tiedlora::AlignedArray<T> memory_;
};

}  // namespace llama
