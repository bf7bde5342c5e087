// Which token comes next.
#pragma once

#include <algorithm>  // max_element
#include <cmath>      // exp
#include <cstdint>    // uint64_t
#include <random>     // mt19937_64
#include <span>       // span
#include <vector>     // vector

#include <llama/tokenizer.hpp>

namespace engine {

using llama::Token;

/// At temperature 0 the most likely token, the first of several; else one drawn from softmax(logits /
/// temperature). The same seed gives the same draws on every machine.
class Sampler {
 public:
  Sampler(double temperature, std::uint64_t seed) : temperature_(temperature), random_(seed) {}

  Token next(std::span<const float> logits) {
    const auto best = std::max_element(logits.begin(), logits.end());
    if (temperature_ <= 0) return static_cast<Token>(best - logits.begin());
    weights_.resize(logits.size());
    double sum = 0;
    for (std::size_t i = 0; i < logits.size(); ++i)
      sum += weights_[i] = std::exp(static_cast<double>(logits[i] - *best) / temperature_);
    double rest = sum * static_cast<double>(random_() >> 11) * 0x1p-53;  // uniform in [0, sum)
    std::size_t token = 0;
    while (token + 1 < logits.size() && rest >= weights_[token]) rest -= weights_[token++];
    return static_cast<Token>(token);
  }

 private:
  double temperature_;
  std::mt19937_64 random_;
  std::vector<double> weights_;
};

}  // namespace engine
