// Rotary position embedding (Su et al. 2021). Features a and b of a head turn together, i and i + D/2, as in
// Hugging Face's weights.
//   D head width; p position; θ_i = base^(−2i/D), i < D/2, divided where a model says so
//   a' = a cos(pθ_i) − b sin(pθ_i)      b' = b cos(pθ_i) + a sin(pθ_i)
#pragma once

#include <cmath>   // cos, sin, pow
#include <span>    // span
#include <vector>  // vector

#include "token_matrix.hpp"

namespace llama {

/// cos and sin of every angle up to some position; computed in double, whatever T.
template <class T>
class RotaryTable {
 public:
  /// `divisors`: D/2, or empty.
  RotaryTable(Index head_width, double base, std::span<const double> divisors = {})
      : half_(head_width / 2), base_(base), divisors_(divisors.begin(), divisors.end()) {}

  Index head_width() const { return 2 * half_; }
  /// Makes the angles of positions below `count` available.
  void extend(Index count) {
    const Index old = static_cast<Index>(cos_.size()) / half_;
    if (count <= old) return;
    cos_.resize(static_cast<std::size_t>(count * half_));
    sin_.resize(cos_.size());
    for (Index p = old; p < count; ++p)
      for (Index i = 0; i < half_; ++i) {
        double angle =
            static_cast<double>(p) * std::pow(base_, -static_cast<double>(i) / static_cast<double>(half_));
        if (!divisors_.empty()) angle /= divisors_[static_cast<std::size_t>(i)];
        cos_[static_cast<std::size_t>(p * half_ + i)] = static_cast<T>(std::cos(angle));
        sin_[static_cast<std::size_t>(p * half_ + i)] = static_cast<T>(std::sin(angle));
      }
  }
  const T* cos(Index position) const { return cos_.data() + position * half_; }  // D/2
  const T* sin(Index position) const { return sin_.data() + position * half_; }  // D/2

 private:
  Index half_;
  double base_;
  std::vector<double> divisors_;
  std::vector<T> cos_, sin_;  // D/2 × positions
};

/// body(a, b, i) for every pair of `heads` times D features from x.
template <class T, class Body>
void for_rope_pairs(Index half, T* x, Index heads, const Body& body) {
  for (Index h = 0; h < heads; ++h, x += 2 * half)
    for (Index i = 0; i < half; ++i) body(x[i], x[i + half], i);
}

/// Turns the heads of one token, in place: `heads` times D features from x.
template <class T>
void rope_forward(const RotaryTable<T>& table, Index position, T* x, Index heads) {
  const T* cos = table.cos(position);
  const T* sin = table.sin(position);
  for_rope_pairs(table.head_width() / 2, x, heads, [&](T& first, T& second, Index i) {
    const T a = first, b = second;
    first = a * cos[i] - b * sin[i];
    second = b * cos[i] + a * sin[i];
  });
}

/// The gradient turns back: a rotation's transpose is its inverse. In place.
template <class T>
void rope_backward(const RotaryTable<T>& table, Index position, T* dx, Index heads) {
  const T* cos = table.cos(position);
  const T* sin = table.sin(position);
  for_rope_pairs(table.head_width() / 2, dx, heads, [&](T& first, T& second, Index i) {
    const T a = first, b = second;
    first = a * cos[i] + b * sin[i];
    second = b * cos[i] - a * sin[i];
  });
}

}  // namespace llama
