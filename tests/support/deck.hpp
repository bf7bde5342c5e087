// Sampling a product of dimensions so that every value of every dimension occurs.
#pragma once

#include <string>
#include <tiedlora/verify/dice.hpp>
#include <vector>

#include "support/dice.hpp"

namespace tiedlora_test {

using tiedlora::verify::Deck;

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
