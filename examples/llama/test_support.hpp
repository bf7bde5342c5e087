// What the transformer's tests share.
#pragma once

#include <algorithm>  // max
#include <cmath>      // abs
#include <cstdint>    // uint64_t
#include <span>       // span
#include <string>     // string
#include <vector>     // vector

#include <tiedlora/views/error.hpp>  // Error

#include "config.hpp"
#include "random.hpp"

namespace llama {

/// Every module that an adapter may be of.
inline const std::vector<std::string> all_kinds = {"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                                   "gate_proj", "up_proj", "down_proj"};

inline std::vector<double> random_values(Index count, std::uint64_t seed, double bound = 1) {
  Random random(seed);
  std::vector<double> values(static_cast<std::size_t>(count));
  for (double& value : values) value = bound * (2 * random.uniform() - 1);
  return values;
}

/// The same values in T.
template <class T>
void fill_random(std::span<T> to, double bound, std::uint64_t seed) {
  const std::vector<double> values = random_values(static_cast<Index>(to.size()), seed, bound);
  std::transform(values.begin(), values.end(), to.begin(),
                 [](double value) { return static_cast<T>(value); });
}

inline std::vector<std::int32_t> random_tokens(Index count, Index vocabulary, std::uint64_t seed) {
  Random random(seed);
  std::vector<std::int32_t> values(static_cast<std::size_t>(count));
  for (std::int32_t& value : values)
    value = static_cast<std::int32_t>(random.uniform() * static_cast<double>(vocabulary));
  return values;
}

/// What a call says is wrong.
inline std::string message_of(const auto& call) {
  try {
    call();
  } catch (const tiedlora::Error& error) {
    return error.what();
  }
  return "no error";
}

inline double dot(std::span<const double> a, std::span<const double> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

/// max_i |gradient_i − q_i| / max_i |q_i| with the difference quotients
///   q_i = (8 (L(x_i + h) − L(x_i − h)) − (L(x_i + 2h) − L(x_i − 2h))) / 12h
template <class Loss>
double gradient_error(std::span<double> x, std::span<const double> gradient, const Loss& loss) {
  const double h = 1e-3;
  double error = 0, largest = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double x_i = x[i];
    const auto at = [&](double step) {
      x[i] = x_i + step * h;
      return loss();
    };
    const double quotient = (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * h);
    x[i] = x_i;
    error = std::max(error, std::abs(gradient[i] - quotient));
    largest = std::max(largest, std::abs(quotient));
  }
  return error / largest;
}

/// What gradient_error may be. With h = 1e-3 the quotient is off by h⁴/30 · L⁽⁵⁾, 3e-14 of the fifth
/// derivative, and by 1.5 n ε |L| / h from rounding, 3e-11 of the loss for n = 100 roundings one after the
/// other. Gradients a hundred times smaller than the loss make that 3e-9.
inline constexpr double gradient_tolerance = 1e-8;

}  // namespace llama
