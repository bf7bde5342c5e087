// Sampling a product of dimensions so that every value of every dimension occurs.
#pragma once

#include <algorithm>
#include <vector>

#include "support/dice.hpp"

namespace tiedlora_test {

/// Gives its values in random order, each once before any comes again.
template <class T>
class Deck {
 public:
  explicit Deck(std::vector<T> values) : values_(std::move(values)), next_(values_.size()) {}

  T draw(Dice& dice) {
    if (next_ == values_.size()) {
      for (std::size_t i = values_.size() - 1; i > 0; --i)
        std::swap(values_[i], values_[static_cast<std::size_t>(dice.integer(0, static_cast<Index>(i)))]);
      next_ = 0;
    }
    return values_[next_++];
  }
  std::size_t size() const { return values_.size(); }

 private:
  std::vector<T> values_;
  std::size_t next_;
};

/// first, …, last.
inline std::vector<Index> numbers(Index first, Index last) {
  std::vector<Index> result;
  for (Index n = first; n <= last; ++n) result.push_back(n);
  return result;
}

inline std::vector<Index> operator+(std::vector<Index> a, const std::vector<Index>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

/// Widths on, just below and just above what vectors, unrolled vectors and blocks hold.
inline std::vector<Index> widths() {
  return numbers(1, 34) + numbers(47, 49) + numbers(63, 65) + numbers(127, 129) + numbers(255, 257) +
         numbers(511, 513) + std::vector<Index>{577} + numbers(1023, 1025);
}

/// All subsets of the letters ABuv, and those with A and B in them.
inline std::vector<std::string> factor_subsets() {
  std::vector<std::string> result;
  for (int bits = 0; bits < 16; ++bits) {
    result.emplace_back();
    for (int n = 0; n < 4; ++n)
      if (bits >> n & 1) result.back() += "ABuv"[n];
  }
  return result;
}
inline const std::vector<std::string> present_factors = {"AB", "ABu", "ABv", "ABuv"};

}  // namespace tiedlora_test
