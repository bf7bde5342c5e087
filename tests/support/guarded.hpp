// Memory around which nothing can be accessed and in which nothing may be written but what is meant.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <Eigen/Core>

#include <algorithm>
#include <bit>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <tiedlora/views/tokens.hpp>
#include <vector>

#include "support/dice.hpp"

namespace tiedlora_test {

/// What memory holds where no operand lies: a quiet NaN that no arithmetic makes. Read by mistake it spoils
/// every sum, even times zero.
template <class T>
T poison() {
  if constexpr (std::is_same_v<T, float>)
    return std::bit_cast<float>(std::uint32_t{0x7fc0dead});
  else if constexpr (std::is_same_v<T, Eigen::half>)
    return Eigen::numext::bit_cast<Eigen::half>(std::uint16_t{0x7edd});
  else if constexpr (std::is_same_v<T, Eigen::bfloat16>)
    return Eigen::numext::bit_cast<Eigen::bfloat16>(std::uint16_t{0x7fdd});
  else
    return T(0x5a);
}

/// Whether all of these are poison: the first is, and each of the others has the bytes of the one before.
/// (Unlike a loop, memcmp is fast in a test that is not optimised, too.)
template <class T>
bool all_poison(std::span<const T> values) {
  const T expected = poison<T>();
  return values.empty() ||
         (std::memcmp(values.data(), &expected, sizeof(T)) == 0 &&
          std::memcmp(values.data(), values.data() + 1, (values.size() - 1) * sizeof(T)) == 0);
}

/// Elements that begin right after, or end right before, a page without access: whoever reads or writes
/// beyond them crashes. Aligned for one element and no more.
template <class T>
class Guarded {
 public:
  Guarded(Index size, bool at_end) : size_(size) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t bytes = static_cast<std::size_t>(size) * sizeof(T);
    inside_ = std::max<std::size_t>(1, (bytes + page - 1) / page) * page;
    void* all =
        mmap(nullptr, inside_ + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED) throw std::runtime_error("no memory for a guarded array");
    all_ = static_cast<std::byte*>(all);
    page_ = page;
    protect(PROT_READ | PROT_WRITE);
    data_ = reinterpret_cast<T*>(all_ + page + (at_end ? inside_ - bytes : 0));
    std::fill_n(reinterpret_cast<T*>(all_ + page), inside_ / sizeof(T), poison<T>());
  }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  ~Guarded() { munmap(all_, inside_ + 2 * page_); }

  T* data() { return data_; }
  Index size() const { return size_; }

  /// All that can be accessed, in elements.
  std::vector<T> everything() const {
    const T* first = reinterpret_cast<const T*>(all_ + page_);
    return {first, first + inside_ / sizeof(T)};
  }
  Index place() const { return data_ - reinterpret_cast<const T*>(all_ + page_); }

  /// PROT_NONE: who reads it crashes.
  void protect(int access) {
    if (mprotect(all_ + page_, inside_, access) != 0) throw std::runtime_error("mprotect failed");
  }

 private:
  std::byte* all_ = nullptr;
  std::size_t page_ = 0, inside_ = 0;
  T* data_ = nullptr;
  Index size_;
};

/// The ways in which tokens can lie in memory.
enum class View { dense, strided, rows, pointers };
inline constexpr View all_views[] = {View::dense, View::strided, View::rows, View::pointers};

/// Rows of values (tokens of x, rows of A, columns of B) in guarded memory, with poison in the gaps.
template <class T>
class GuardedRows {
 public:
  GuardedRows(Index width, Index count, View view, Dice& dice)
      : width_(width),
        count_(count),
        view_(view),
        stride_(view == View::dense ? width : width + dice.integer(1, 9)),
        slots_(slots_of(count, view, dice)),
        memory_(count == 0 ? 0 : stride_ * *std::max_element(slots_.begin(), slots_.end()) + width,
                dice.coin()) {
    for (const Index slot : slots_) pointers_.push_back(memory_.data() + slot * stride_ - first_feature);
  }

  T* data() { return memory_.data(); }
  Index stride() const { return stride_; }
  T* row(Index t) { return memory_.data() + slots_[static_cast<std::size_t>(t)] * stride_; }
  void protect(int access) { memory_.protect(access); }

  tiedlora::Tokens<T> tokens() {
    switch (view_) {
      case View::rows:
        return {.data = data(), .width = width_, .count = count_, .stride = stride_, .rows = slots_.data()};
      case View::pointers:
        return {
            .width = width_, .count = count_, .pointers = pointers_.data(), .first_feature = first_feature};
      default:
        return {.data = data(), .width = width_, .count = count_, .stride = stride_};
    }
  }

  void set(const Matrix<double>& values) {
    for (Index t = 0; t < count_; ++t)
      for (Index i = 0; i < width_; ++i) row(t)[i] = static_cast<T>(values(i, t));
  }
  Matrix<double> values() {
    Matrix<double> result(width_, count_);
    for (Index t = 0; t < count_; ++t)
      for (Index i = 0; i < width_; ++i) result(i, t) = static_cast<double>(row(t)[i]);
    return result;
  }

  /// Whether all is still poison except the rows themselves.
  bool nothing_else_written() {
    std::vector<T> rest = memory_.everything();
    for (const Index slot : slots_) {
      const Index first = memory_.place() + slot * stride_;
      std::fill_n(rest.begin() + first, width_, poison<T>());
    }
    return all_poison(std::span<const T>(rest));
  }

 private:
  static constexpr Index first_feature = 3;  // of views by pointers, as after a cut

  static std::vector<Index> slots_of(Index count, View view, Dice& dice) {
    std::vector<Index> slots(static_cast<std::size_t>(count));
    for (Index t = 0; t < count; ++t) slots[static_cast<std::size_t>(t)] = t;
    if (view != View::rows && view != View::pointers) return slots;
    for (Index& slot : slots) slot = 2 * slot + dice.integer(0, 1);  // some are left out
    for (Index t = count - 1; t > 0; --t)
      std::swap(slots[static_cast<std::size_t>(t)], slots[static_cast<std::size_t>(dice.integer(0, t))]);
    return slots;
  }

  Index width_, count_;
  View view_;
  Index stride_;
  std::vector<Index> slots_;
  Guarded<T> memory_;
  std::vector<T*> pointers_;
};

/// While it lives, a crash (of whoever leaves guarded memory) prints this text first.
class CrashNote {
 public:
  explicit CrashNote(const std::string& text) {
    text_ = text;
    struct sigaction action = {};
    action.sa_handler = &print;
    sigaction(SIGSEGV, &action, &previous_);
  }
  CrashNote(const CrashNote&) = delete;
  CrashNote& operator=(const CrashNote&) = delete;
  ~CrashNote() { sigaction(SIGSEGV, &previous_, nullptr); }

 private:
  // The faulting instruction then runs again, into the previous handler.
  static void print(int) {
    static constexpr char intro[] = "\nmemory outside of its operands was accessed in: ";
    (void)!write(STDERR_FILENO, intro, sizeof intro - 1);
    (void)!write(STDERR_FILENO, text_.data(), text_.size());
    (void)!write(STDERR_FILENO, "\n", 1);
    sigaction(SIGSEGV, &previous_, nullptr);
  }
  inline static std::string text_;
  inline static struct sigaction previous_ = {};
};

}  // namespace tiedlora_test
