// By what models divide the angles of rotary position embedding, so that it reaches beyond the texts that
// they were first trained on: rope_divisors of a Config.
//   D head width; i < D/2 a pair of features; λ_i = 2π base^(2i/D) its wavelength in tokens
#pragma once

#include <cmath>    // pow
#include <cstddef>  // size_t
#include <numbers>  // pi
#include <vector>   // vector

#include "config.hpp"

namespace llama {

/// Position interpolation (Chen et al. 2023): one factor for all.
inline std::vector<double> linear_rope_divisors(Index head_width, double factor) {
  if (factor == 1) return {};
  return std::vector<double>(static_cast<std::size_t>(head_width / 2), factor);
}

/// What Llama 3.1 and later do.
struct Llama3Scaling {
  double factor = 8;
  double low_frequency_factor = 1, high_frequency_factor = 4;  ///< the second is the larger one
  double first_context = 8192;                                 ///< C, of the texts of the first training
};

/// As transformers' rope_type "llama3": wavelengths above C / low are divided by the factor, those below
/// C / high by 1, and between
///   1 / divisor = (1 − s) / factor + s      with s = (C / λ − low) / (high − low)
inline std::vector<double> llama3_rope_divisors(Index head_width, double base, const Llama3Scaling& scaling) {
  const auto& [factor, low, high, C] = scaling;
  std::vector<double> divisors;
  for (Index i = 0; i < head_width / 2; ++i) {
    const double wavelength =
        2 * std::numbers::pi * std::pow(base, 2 * static_cast<double>(i) / static_cast<double>(head_width));
    const double s = (C / wavelength - low) / (high - low);
    divisors.push_back(s <= 0 ? factor : s >= 1 ? 1 : 1 / ((1 - s) / factor + s));
  }
  return divisors;
}

}  // namespace llama
