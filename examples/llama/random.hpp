// Random numbers that are the same on every compiler and machine.
#pragma once

#include <cstdint>  // uint64_t, int64_t

namespace llama {

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint64_t bits() {
    std::uint64_t x = state_ += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
  }

  /// Uniform in [0, 1), a multiple of 2^-53.
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }

  /// Nearly normal with mean 0 and variance 1: the sum of twelve uniform 32-bit integers, at most 6 in
  /// magnitude.
  double normal() {
    std::int64_t sum = -6 * std::int64_t{0xffffffff};
    for (int i = 0; i < 6; ++i) {
      const std::uint64_t two = bits();
      sum += static_cast<std::int64_t>(two >> 32) + static_cast<std::int64_t>(two & 0xffffffffu);
    }
    return static_cast<double>(sum) * 0x1p-32;
  }

 private:
  std::uint64_t state_;
};

}  // namespace llama
