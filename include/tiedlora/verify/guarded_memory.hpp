// Operands in a backend's memory, the host's or a device's, with poison around them and in their gaps: what
// is read there by mistake spoils the result, what is written there shows.
#pragma once

#include <algorithm>    // fill_n, max, max_element
#include <cstddef>      // byte, size_t
#include <cstdint>      // uint16_t, uint32_t, uint64_t
#include <cstring>      // memcmp, memcpy, memset
#include <functional>   // function
#include <new>          // align_val_t
#include <type_traits>  // conditional, is_trivially_copyable, remove_reference
#include <utility>      // swap
#include <vector>       // vector

#include "../ops/backend.hpp"
#include "../views/config.hpp"
#include "../views/scalar.hpp"
#include "../views/tokens.hpp"
#include "dice.hpp"
#include "matrix.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace verify {
inline namespace TIEDLORA_ISA {

/// DeviceMemory, whoever's it is.
struct Memory {
  std::function<void*(std::size_t bytes)> allocate;
  std::function<void(void* data)> free;
  std::function<void(const void* from, void* to, std::size_t bytes)> upload, download;
};

/// The backend's, or the host's heap. The backend must outlive it.
template <class B>
Memory memory_of(const B& backend) {
  if constexpr (tiedlora::detail::has_device_memory<B>) {
    static_assert(DeviceMemory<std::remove_reference_t<decltype(backend.memory())>>,
                  "tiedlora: memory() must return something with allocate, free, upload and download");
    return {.allocate =
                [&backend](std::size_t bytes) {
                  auto&& memory = backend.memory();
                  return memory.allocate(bytes);
                },
            .free =
                [&backend](void* data) {
                  auto&& memory = backend.memory();
                  memory.free(data);
                },
            .upload =
                [&backend](const void* from, void* to, std::size_t bytes) {
                  auto&& memory = backend.memory();
                  memory.upload(from, to, bytes);
                },
            .download =
                [&backend](const void* from, void* to, std::size_t bytes) {
                  auto&& memory = backend.memory();
                  memory.download(from, to, bytes);
                }};
  } else {
    constexpr auto alignment = std::align_val_t(64);
    const auto copy = [](const void* from, void* to, std::size_t bytes) { std::memcpy(to, from, bytes); };
    return {.allocate = [](std::size_t bytes) { return ::operator new(bytes, alignment); },
            .free = [](void* data) { ::operator delete(data, alignment); },
            .upload = copy,
            .download = copy};
  }
}

/// Elements in some memory.
template <class T>
class Allocation {
 public:
  Allocation(const Memory& memory, std::size_t size)
      : memory_(&memory), size_(size), data_(memory.allocate(std::max<std::size_t>(1, bytes_of(size)))) {}
  Allocation(const Memory& memory, const std::vector<T>& values) : Allocation(memory, values.size()) {
    upload(values);
  }
  Allocation(const Allocation&) = delete;
  Allocation& operator=(const Allocation&) = delete;
  ~Allocation() { memory_->free(data_); }

  T* data() const { return static_cast<T*>(data_); }
  std::size_t size() const { return size_; }
  void upload(const std::vector<T>& values) {
    if (!values.empty())
      memory_->upload(static_cast<const void*>(values.data()), data_, bytes_of(values.size()));
  }
  void download(std::vector<T>& values) const {
    if (!values.empty()) memory_->download(data_, static_cast<void*>(values.data()), bytes_of(values.size()));
  }

 private:
  static constexpr std::size_t bytes_of(std::size_t size) {
    return size * sizeof(T);  // NOLINT(bugprone-sizeof-expression): T may be a pointer
  }

  const Memory* memory_;
  std::size_t size_;
  void* data_;
};

/// What memory holds where no operand lies: a quiet NaN that no arithmetic makes. Read by mistake it spoils
/// every sum, even times zero.
template <class T>
T poison() {
  static_assert(std::is_trivially_copyable_v<T>);
  const auto from_bits = [](auto bits) {
    T result;
    std::memcpy(static_cast<void*>(&result), &bits, sizeof result);
    return result;
  };
  if constexpr (ScalarTraits<T>::format == Format::binary16)
    return from_bits(std::uint16_t{0x7edd});
  else if constexpr (ScalarTraits<T>::format == Format::bfloat16)
    return from_bits(std::uint16_t{0x7fdd});
  else if constexpr (std::is_same_v<T, float>)
    return from_bits(std::uint32_t{0x7fc0dead});
  else if constexpr (std::is_same_v<T, double>)
    return from_bits(std::uint64_t{0x7ff80000'0000dead});
  else
    return static_cast<T>(0x5a);
}

/// The ways in which tokens can lie in memory.
enum class View { dense, padded, gathered, pointers };

/// Rows of numbers (tokens of x, rows of A, columns of B) with poison in the gaps and around. They are
/// aligned for one element and no more.
template <class T>
class GuardedRows {
 public:
  /// With so much poison on either side, in elements. 0: for memory that guards itself, the rows begin and
  /// end with their allocation.
  GuardedRows(const Memory& memory, Index width, Index count, View view, Index margin, Dice& dice)
      : width_(width),
        count_(count),
        view_(view),
        stride_(view == View::dense ? width : width + dice.integer(1, 9)),
        first_(margin > 0 ? margin + dice.integer(0, 15) : 0),
        slots_(slots_of(count, view, dice)),
        before_(static_cast<std::size_t>(
                    2 * first_ +
                    (count == 0 ? 0 : stride_ * *std::max_element(slots_.begin(), slots_.end()) + width)),
                poison<T>()),
        now_(before_),
        data_(memory, before_),
        rows_(memory, view == View::gathered ? slots_ : std::vector<Index>()),
        pointers_(memory, pointers_of()) {}

  T* data() const { return data_.data() + first_; }
  Index stride() const { return stride_; }
  Tokens<T> tokens() const {
    switch (view_) {
      case View::gathered:
        return {.data = data(), .width = width_, .count = count_, .stride = stride_, .rows = rows_.data()};
      case View::pointers:
        return {
            .width = width_, .count = count_, .pointers = pointers_.data(), .first_feature = first_feature};
      default:
        return {.data = data(), .width = width_, .count = count_, .stride = stride_};
    }
  }

  void set(const Matrix& values) {
    for (Index t = 0; t < count_; ++t)
      for (Index i = 0; i < width_; ++i) before_[place(t) + index(i)] = from_double<T>(values(i, t));
    restore();
  }
  /// As it was set.
  void restore() { data_.upload(before_); }

  /// Fetches what the memory holds now, for the functions below.
  void fetch() { data_.download(now_); }
  Matrix values() const {
    Matrix result(width_, count_);
    for (Index t = 0; t < count_; ++t)
      for (Index i = 0; i < width_; ++i) result(i, t) = to_double(now_[place(t) + index(i)]);
    return result;
  }
  bool unchanged() const { return same(now_, before_); }
  /// Whether all is still poison but for the rows themselves.
  bool nothing_else_written() const {
    std::vector<T> all = now_;
    for (Index t = 0; t < count_; ++t)
      std::copy_n(before_.begin() + static_cast<Index>(place(t)), width_,
                  all.begin() + static_cast<Index>(place(t)));
    return same(all, before_);
  }
  /// The bits of the rows, one behind the other.
  void append_bits(std::vector<std::byte>& bits) const {
    for (Index t = 0; t < count_; ++t) {
      const auto* row = reinterpret_cast<const std::byte*>(now_.data() + place(t));
      bits.insert(bits.end(), row, row + index(width_) * sizeof(T));
    }
  }

 private:
  static constexpr Index first_feature = 3;  // of views by pointers, as after a cut

  static std::size_t index(Index i) { return static_cast<std::size_t>(i); }
  std::size_t place(Index t) const { return index(first_ + slots_[index(t)] * stride_); }

  static bool same(const std::vector<T>& a, const std::vector<T>& b) {
    return a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
  }

  static std::vector<Index> slots_of(Index count, View view, Dice& dice) {
    std::vector<Index> slots(index(count));
    for (Index t = 0; t < count; ++t) slots[index(t)] = t;
    if (view != View::gathered && view != View::pointers) return slots;
    for (Index& slot : slots) slot = 2 * slot + dice.integer(0, 1);  // some are left out
    for (Index t = count - 1; t > 0; --t) std::swap(slots[index(t)], slots[index(dice.integer(0, t))]);
    return slots;
  }

  std::vector<T*> pointers_of() const {
    std::vector<T*> pointers;
    if (view_ == View::pointers)
      for (const Index slot : slots_) pointers.push_back(data() + slot * stride_ - first_feature);
    return pointers;
  }

  Index width_, count_;
  View view_;
  Index stride_, first_;
  std::vector<Index> slots_;
  std::vector<T> before_, now_;  // the whole allocation
  Allocation<T> data_;
  Allocation<Index> rows_;
  Allocation<T*> pointers_;
};

}  // namespace TIEDLORA_ISA
}  // namespace verify
TIEDLORA_END_NAMESPACE
