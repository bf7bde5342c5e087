// Operands in a backend's memory, the host's or a device's, with poison around them and in their gaps:
// reading it by mistake spoils the result, and writing it shows.
#pragma once

#include <algorithm>    // fill_n, max, min, max_element, sort
#include <cstddef>      // byte, size_t
#include <cstdint>      // uint16_t, uint32_t, uint64_t
#include <cstring>      // memcmp, memcpy, memset
#include <functional>   // function
#include <new>          // align_val_t
#include <string>       // string
#include <type_traits>  // conditional, is_trivially_copyable, remove_reference
#include <utility>      // swap
#include <vector>       // vector

#include "../ops/backend.hpp"
#include "../views/config.hpp"
#include "../views/error.hpp"
#include "../views/scalar.hpp"
#include "../views/tokens.hpp"
#include "dice.hpp"
#include "matrix.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace verify {
inline namespace TIEDLORA_ISA {

/// Any DeviceMemory, or the host's.
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
  /// Elements [begin, end).
  void upload(const std::vector<T>& values, std::size_t begin, std::size_t end) {
    if (begin < end)
      memory_->upload(static_cast<const void*>(values.data() + begin), static_cast<void*>(data() + begin),
                      bytes_of(end - begin));
  }
  /// The first `size` elements.
  void download(std::vector<T>& values, std::size_t size) const {
    if (size > 0) memory_->download(data_, static_cast<void*>(values.data()), bytes_of(size));
  }

 private:
  static constexpr std::size_t bytes_of(std::size_t size) {
    return size * sizeof(T);  // NOLINT(bugprone-sizeof-expression): T may be a pointer
  }

  const Memory* memory_;
  std::size_t size_;
  void* data_;
};

/// NaNs that no arithmetic produces, which mark memory for what it is.
template <class T>
struct Poison {
  static constexpr bool is_known =
      ScalarTraits<T>::format != Format::native || std::is_same_v<T, float> || std::is_same_v<T, double>;

  /// Fills memory outside the operands: quiet, so that reading it by mistake spoils every sum, even times
  /// zero.
  static T outside() { return of(0x7edd, 0x7fdd, 0x7fc0dead, 0x7ff80000'0000dead); }
  /// Fills an output that a call has to set. It is signalling: arithmetic that reads it makes it a quiet NaN,
  /// so these bits survive only where nothing was written.
  static T unwritten() { return of(0x7d5b, 0x7fab, 0x7fa0beef, 0x7ff40000'0000beef); }
  /// The same, made quiet by arithmetic.
  static T read_unwritten() { return of(0x7f5b, 0x7feb, 0x7fe0beef, 0x7ffc0000'0000beef); }

 private:
  static_assert(std::is_trivially_copyable_v<T>);
  static T of(std::uint16_t binary16, std::uint16_t bfloat16, std::uint32_t binary32,
              std::uint64_t binary64) {
    const auto from_bits = [](auto bits) {
      T result;
      std::memcpy(static_cast<void*>(&result), &bits, sizeof result);
      return result;
    };
    if constexpr (ScalarTraits<T>::format == Format::binary16)
      return from_bits(binary16);
    else if constexpr (ScalarTraits<T>::format == Format::bfloat16)
      return from_bits(bfloat16);
    else if constexpr (std::is_same_v<T, float>)
      return from_bits(binary32);
    else if constexpr (std::is_same_v<T, double>)
      return from_bits(binary64);
    else
      return static_cast<T>(0x5a);
  }
};

/// Which poison a NaN comes from, where the arithmetic between kept its bits.
enum class Origin { unknown, outside, overwritten };

/// The ways in which tokens can lie in memory. Cut: pointers with a first_feature, as after features(…).
enum class View { dense, padded, gathered, pointers, cut_pointers };

/// How much poison lies around an operand, in elements.
struct Surroundings {
  Index margin = 128;  ///< at least, on either side. 0: none, the memory guards itself
  /// The allocation has room for at least that many rows of that stride: as far as a wrong stride leads.
  Index rows = 0, stride = 0;

  /// Around a vector, which has no strides.
  Surroundings of_vector() const { return {margin, 1, stride}; }
  Index reach() const { return margin > 0 ? rows * stride + margin : 0; }
};

/// Rows of values (tokens of x, rows of A, columns of B) with poison around them and in their gaps, aligned
/// to one element only.
template <class T>
class GuardedRows {
 public:
  GuardedRows(const Memory& memory, Index width, Index count, View view, Surroundings around, Dice& dice)
      : width_(width),
        count_(count),
        view_(view),
        stride_(view == View::dense ? width : width + dice.integer(1, 9)),
        first_(around.margin > 0 ? around.margin + dice.integer(0, 15) : 0),
        slots_(slots_of(count, view, dice)),
        end_(count == 0 ? 0 : stride_ * *std::max_element(slots_.begin(), slots_.end()) + width),
        before_(index(first_ + (around.margin > 0 ? std::max(end_ + first_, around.reach()) : end_)),
                Poison<T>::outside()),
        data_(memory, before_.size()),
        rows_(memory, rows_of(around)),
        pointers_(memory, pointers_of(around)) {
    for (Index t = 0; t < count_; ++t)
      std::fill_n(before_.begin() + static_cast<Index>(place(t)), width_, Poison<T>::unwritten());
    restore();
  }

  T* data() const { return data_.data() + first_; }
  Index stride() const { return stride_; }
  Tokens<T> tokens() const {
    switch (view_) {
      case View::gathered:
        return {.data = data(), .width = width_, .count = count_, .stride = stride_, .rows = rows_.data()};
      case View::pointers:
      case View::cut_pointers:
        // With data, too: a backend that ignores the pointers should get a wrong result rather than crash.
        return {.data = data(),
                .width = width_,
                .count = count_,
                .stride = stride_,
                .pointers = pointers_.data(),
                .first_feature = first_feature()};
      default:
        return {.data = data(), .width = width_, .count = count_, .stride = stride_};
    }
  }

  void set(const Matrix& values) {
    for (Index t = 0; t < count_; ++t)
      for (Index i = 0; i < width_; ++i) before_[place(t) + index(i)] = from_double<T>(values(i, t));
    data_.upload(before_, index(first_), index(first_ + end_));
  }
  /// Restores what was set.
  void restore() { data_.upload(before_); }

  /// Fetches what the memory holds now, for the functions below.
  void fetch() { fetch(before_.size()); }
  /// The rows and the margin around them, which is enough to see whether an input was changed.
  void fetch_nearby() { fetch(nearby()); }
  Matrix values() const {
    Matrix result(width_, count_);
    for (Index t = 0; t < count_; ++t)
      for (Index i = 0; i < width_; ++i) result(i, t) = to_double(now_[place(t) + index(i)]);
    return result;
  }
  bool unchanged() const { return same(now_, before_, 0, static_cast<Index>(nearby())); }
  /// Whether a value that the call has to set was never written.
  bool is_unwritten(Index i, Index t) const {
    return Poison<T>::is_known && has_bits(i, t, Poison<T>::unwritten());
  }
  Origin origin(Index i, Index t) const {
    const auto is = [&](const T& bits) { return Poison<T>::is_known && has_bits(i, t, bits); };
    return is(Poison<T>::outside())          ? Origin::outside
           : is(Poison<T>::read_unwritten()) ? Origin::overwritten
                                             : Origin::unknown;
  }
  bool nothing_else_written() const { return first_stray().empty(); }
  /// Where something outside the rows was written: "2 after the end of slot 3". Empty: nowhere.
  std::string first_stray() const {
    std::vector<Index> order(slots_);
    std::sort(order.begin(), order.end());
    Index begin = 0;
    const auto is_poison = [&](Index end) { return same(now_, before_, begin, end); };
    for (const Index slot : order) {
      const Index row = first_ + slot * stride_;
      if (!is_poison(row)) return stray(begin, row);
      begin = row + width_;
    }
    const auto end = static_cast<Index>(before_.size());
    return is_poison(end) ? "" : stray(begin, end);
  }
  /// The bits of the rows, one after the other.
  void append_bits(std::vector<std::byte>& bits) const {
    for (Index t = 0; t < count_; ++t) {
      const auto* row = reinterpret_cast<const std::byte*>(now_.data() + place(t));
      bits.insert(bits.end(), row, row + index(width_) * sizeof(T));
    }
  }

 private:
  Index first_feature() const { return view_ == View::cut_pointers ? 3 : 0; }

  void fetch(std::size_t size) {
    if (now_.size() < size) now_.resize(size);
    data_.download(now_, size);
  }
  std::size_t nearby() const { return std::min(before_.size(), index(first_ + end_ + first_)); }
  static std::size_t index(Index i) { return static_cast<std::size_t>(i); }
  std::size_t place(Index t) const { return index(first_ + slots_[index(t)] * stride_); }

  /// As bytes: it matters which NaN it is.
  bool has_bits(Index i, Index t, const T& bits) const {
    const auto* const here = reinterpret_cast<const std::byte*>(&now_[place(t) + index(i)]);
    return std::memcmp(here, reinterpret_cast<const std::byte*>(&bits), sizeof(T)) == 0;
  }
  static bool same(const std::vector<T>& a, const std::vector<T>& b, Index begin, Index end) {
    return begin == end ||
           std::memcmp(a.data() + begin, b.data() + begin, index(end - begin) * sizeof(T)) == 0;
  }
  std::string stray(Index begin, Index end) const {
    while (same(now_, before_, begin, begin + 1) && begin + 1 < end) ++begin;
    if (begin < first_) return detail::message(first_ - begin, " before its first element");
    if (begin >= first_ + end_) return detail::message(begin - first_ - end_ + 1, " after its last element");
    const Index slot = (begin - first_) / stride_, behind = (begin - first_) % stride_ - width_ + 1;
    return behind > 0
               ? detail::message(behind, " after the end of slot ", slot, ", in the gap before the next")
               : detail::message("in slot ", slot, ", which no row uses");
  }

  static std::vector<Index> slots_of(Index count, View view, Dice& dice) {
    std::vector<Index> slots(index(count));
    for (Index t = 0; t < count; ++t) slots[index(t)] = t;
    if (view == View::dense || view == View::padded) return slots;
    for (Index& slot : slots) slot = 2 * slot + dice.integer(0, 1);  // some are left out
    for (Index t = count - 1; t > 0; --t) std::swap(slots[index(t)], slots[index(dice.integer(0, t))]);
    return slots;
  }

  // After the last token come some more that lead to poison: kernels that go too far should not crash.
  static constexpr int too_far = 64;
  std::vector<Index> rows_of(const Surroundings& around) const {
    if (view_ != View::gathered) return {};
    std::vector<Index> rows(slots_);
    if (around.margin > 0) rows.insert(rows.end(), too_far, slot_behind());
    return rows;
  }
  std::vector<T*> pointers_of(const Surroundings& around) const {
    std::vector<T*> pointers;
    if (view_ != View::pointers && view_ != View::cut_pointers) return pointers;
    for (const Index slot : slots_) pointers.push_back(data() + slot * stride_ - first_feature());
    if (around.margin > 0) pointers.insert(pointers.end(), too_far, data() + slot_behind() * stride_);
    return pointers;
  }
  Index slot_behind() const { return stride_ > 0 ? (end_ + stride_ - 1) / stride_ : 0; }

  Index width_, count_;
  View view_;
  Index stride_, first_;
  std::vector<Index> slots_;
  Index end_;                    // of the last row
  std::vector<T> before_, now_;  // the whole allocation, and what was fetched of it
  Allocation<T> data_;
  Allocation<Index> rows_;
  Allocation<T*> pointers_;
};

}  // namespace TIEDLORA_ISA
}  // namespace verify
TIEDLORA_END_NAMESPACE
