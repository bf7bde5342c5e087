// Rotary position embedding (Su et al. 2021) in Hugging Face's order: feature i of a head turns with feature
// i + D/2.
//   D head width; p position; θ_i = base^(−2i/D), i < D/2
//   x_i' = x_i cos(pθ_i) − x_{i+D/2} sin(pθ_i)      x_{i+D/2}' = x_{i+D/2} cos(pθ_i) + x_i sin(pθ_i)
#pragma once

#include <cmath>   // cos, sin, pow
#include <vector>  // vector

#include "token_matrix.hpp"

namespace llama {

/// cos and sin of every angle up to some position; computed in double, whatever T.
template <class T>
class RotaryTable {
 public:
  RotaryTable(Index head_width, double base) : half_(head_width / 2), base_(base) {}

  Index head_width() const { return 2 * half_; }
  /// Makes the angles of positions below `count` available.
  void extend(Index count) {
    const Index old = static_cast<Index>(cos_.size()) / half_;
    if (count <= old) return;
    cos_.resize(static_cast<std::size_t>(count * half_));
    sin_.resize(cos_.size());
    for (Index p = old; p < count; ++p)
      for (Index i = 0; i < half_; ++i) {
        const double angle =
            static_cast<double>(p) * std::pow(base_, -static_cast<double>(i) / static_cast<double>(half_));
        cos_[static_cast<std::size_t>(p * half_ + i)] = static_cast<T>(std::cos(angle));
        sin_[static_cast<std::size_t>(p * half_ + i)] = static_cast<T>(std::sin(angle));
      }
  }
  const T* cos(Index position) const { return cos_.data() + position * half_; }  // D/2
  const T* sin(Index position) const { return sin_.data() + position * half_; }  // D/2

 private:
  Index half_;
  double base_;
  std::vector<T> cos_, sin_;  // D/2 × positions
};

/// Turns the heads of one token, in place: `heads` times D features from x.
template <class T>
void rope_forward(const RotaryTable<T>& table, Index position, T* x, Index heads) {
  const Index half = table.head_width() / 2;
  const T* cos = table.cos(position);
  const T* sin = table.sin(position);
  for (Index h = 0; h < heads; ++h, x += 2 * half)
    for (Index i = 0; i < half; ++i) {
      const T a = x[i], b = x[i + half];
      x[i] = a * cos[i] - b * sin[i];
      x[i + half] = b * cos[i] + a * sin[i];
    }
}

/// The same for heads whose rows are in GGUF's order: features 2i and 2i + 1 turn together.
template <class T>
void rope_neighbours(const RotaryTable<T>& table, Index position, T* x, Index heads) {
  const Index half = table.head_width() / 2;
  const T* cos = table.cos(position);
  const T* sin = table.sin(position);
  for (Index h = 0; h < heads; ++h, x += 2 * half)
    for (Index i = 0; i < half; ++i) {
      const T a = x[2 * i], b = x[2 * i + 1];
      x[2 * i] = a * cos[i] - b * sin[i];
      x[2 * i + 1] = a * sin[i] + b * cos[i];
    }
}

/// The gradient turns back: a rotation's transpose is its inverse. In place.
template <class T>
void rope_backward(const RotaryTable<T>& table, Index position, T* dx, Index heads) {
  const Index half = table.head_width() / 2;
  const T* cos = table.cos(position);
  const T* sin = table.sin(position);
  for (Index h = 0; h < heads; ++h, dx += 2 * half)
    for (Index i = 0; i < half; ++i) {
      const T a = dx[i], b = dx[i + half];
      dx[i] = a * cos[i] + b * sin[i];
      dx[i + half] = b * cos[i] - a * sin[i];
    }
}

}  // namespace llama
