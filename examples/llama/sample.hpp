// Which token comes next.
#pragma once

#include <algorithm>  // max_element
#include <cmath>      // exp
#include <cstddef>    // size_t
#include <cstdint>    // int32_t
#include <span>       // span
#include <vector>     // vector

#include "random.hpp"

namespace llama {

/// A token drawn from softmax(logits / temperature); temperature 0: the most likely one, the first of
/// several.
template <class T>
std::int32_t sample(std::span<const T> logits, double temperature, Random& random) {
  const std::size_t best =
      static_cast<std::size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  if (temperature == 0) return static_cast<std::int32_t>(best);
  std::vector<double> weights(logits.size());
  double sum = 0;
  for (std::size_t i = 0; i < logits.size(); ++i)
    sum += weights[i] = std::exp(static_cast<double>(logits[i] - logits[best]) / temperature);
  double left = random.uniform() * sum;
  for (std::size_t i = 0; i < logits.size(); ++i)
    if ((left -= weights[i]) < 0) return static_cast<std::int32_t>(i);
  return static_cast<std::int32_t>(best);  // rounding left a rest
}

}  // namespace llama
