// Random numbers that are the same bits on every compiler: integers first, then one exact or correctly
// rounded step.
#pragma once

#include <cmath>    // sqrt
#include <cstdint>  // uint32_t, uint64_t
#include <random>   // mt19937 (fully specified by the standard, unlike the distributions)

#include "../views/config.hpp"
#include "../views/random_bits.hpp"
#include "scheme.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace detail {
/// A key of its own for each copy of each factor.
constexpr std::uint64_t random_key(std::uint64_t seed, FactorId id, Index group) {
  return random_bits(random_bits(seed, static_cast<std::uint64_t>(id)), static_cast<std::uint64_t>(group));
}

/// Uniform in [-1, 1) on a grid of 2^-52: exact in double.
inline double uniform(std::uint64_t key, std::uint64_t element) {
  return static_cast<double>(static_cast<std::int64_t>(random_bits(key, element)) >> 11) * 0x1p-52;
}

/// Approximately normal with mean 0 and variance 1: the sum of twelve uniform 32-bit integers has variance
/// 2^64 - 1. Bounded by 6 in magnitude; one rounding, in the conversion to double.
inline double normal(std::uint64_t key, std::uint64_t element) {
  std::int64_t sum = -6 * std::int64_t{0xffffffff};
  for (std::uint64_t i = 0; i < 6; ++i) {
    const std::uint64_t bits = random_bits(key, 6 * element + i);
    sum += static_cast<std::int64_t>(bits >> 32) + static_cast<std::int64_t>(bits & 0xffffffffu);
  }
  return static_cast<double>(sum) * 0x1p-32;
}

/// The bits of torch.nn.init.kaiming_uniform_(a=0) with a CPU generator, as PEFT's VeRA draws them
/// (torch 2.13, checked against peft 0.21.2). The product and the difference are exact in double, so that the
/// one rounding is the cast to float and no compiler flag can change it.
class TorchUniform {
 public:
  explicit TorchUniform(std::uint64_t key) : engine_(static_cast<std::uint32_t>(key)) {}

  /// The next number, uniform in ±√(6 / fan_in).
  float operator()(Index fan_in) {
    const double exact = std::sqrt(3.0) * (std::sqrt(2.0) / std::sqrt(static_cast<double>(fan_in)));
    const double bound = static_cast<double>(static_cast<float>(exact));
    const float unit = static_cast<float>(engine_() & 0xffffffu) * 0x1p-24f;
    return static_cast<float>(static_cast<double>(unit) * (2 * bound) - bound);
  }

  void discard(Index count) { engine_.discard(static_cast<unsigned long long>(count)); }

 private:
  std::mt19937 engine_;
};

}  // namespace detail
TIEDLORA_END_NAMESPACE
