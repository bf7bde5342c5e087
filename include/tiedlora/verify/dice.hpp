// Random choices that are the same on every compiler, and samples in which every value occurs.
#pragma once

#include <cstddef>  // size_t
#include <cstdint>  // uint64_t
#include <utility>  // move, swap
#include <vector>   // vector

#include "../views/config.hpp"
#include "../views/random_bits.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace verify {
inline namespace TIEDLORA_ISA {

class Dice {
 public:
  explicit Dice(std::uint64_t seed) : seed_(seed) {}

  std::uint64_t bits() { return tiedlora::detail::random_bits(seed_, counter_++); }
  double uniform(double low = -1, double high = 1) {
    return low + (high - low) * static_cast<double>(bits() >> 11) * 0x1p-53;
  }
  /// low, …, high: both included.
  Index integer(Index low, Index high) {
    return low + static_cast<Index>(bits() % static_cast<std::uint64_t>(high - low + 1));
  }
  bool coin() { return bits() >> 63 != 0; }

 private:
  std::uint64_t seed_, counter_ = 0;
};

/// Gives its values in random order, each once before any comes again: a product of dimensions is sampled so
/// that every value of every dimension occurs.
template <class T>
class Deck {
 public:
  explicit Deck(std::vector<T> values) : values_(std::move(values)), next_(values_.size()) {}

  template <class SomeDice>
  T draw(SomeDice& dice) {
    if (next_ == values_.size()) {
      for (std::size_t i = values_.size() - 1; i > 0; --i)
        std::swap(values_[i], values_[static_cast<std::size_t>(dice.integer(0, static_cast<Index>(i)))]);
      next_ = 0;
    }
    return values_[next_++];
  }

 private:
  std::vector<T> values_;
  std::size_t next_;
};

}  // namespace TIEDLORA_ISA
}  // namespace verify
TIEDLORA_END_NAMESPACE
