// Keys and values of the tokens so far, and attention to them.
#pragma once

#include <algorithm>  // max
#include <cmath>      // cos, sin, pow, sqrt
#include <vector>     // vector

#include <llama/config.hpp>

#include "half.hpp"
#include "math.hpp"
#include "quant.hpp"

namespace engine {

using llama::Config;

/// Keys and values of one text, in half precision: for every layer a row of kv_width for each position.
class KvCache {
 public:
  KvCache(const Config& sizes, Index capacity)
      : capacity_(capacity),
        width_(sizes.kv_width()),
        keys_(static_cast<std::size_t>(sizes.layers * capacity * width_)),
        values_(keys_.size()) {}

  Index capacity() const { return capacity_; }
  Half* key(Index layer, Index position) { return keys_.data() + (layer * capacity_ + position) * width_; }
  Half* value(Index layer, Index position) {
    return values_.data() + (layer * capacity_ + position) * width_;
  }

 private:
  Index capacity_, width_;
  std::vector<Half> keys_, values_;
};

/// Rotary position embedding: GGUF keeps the rows of q and k so that neighbours turn together.
///   p position; θ_i = base^(-2i/D);   (x_2i, x_2i+1) turns by p θ_i
class Rope {
 public:
  Rope(const Config& sizes, Index positions) : half_(sizes.head_width() / 2) {
    for (Index p = 0; p < positions; ++p)
      for (Index i = 0; i < half_; ++i) {
        const double angle = static_cast<double>(p) *
                             std::pow(sizes.rope_base, -static_cast<double>(i) / static_cast<double>(half_));
        turns_.push_back({static_cast<float>(std::cos(angle)), static_cast<float>(std::sin(angle))});
      }
  }

  /// One head, in place.
  void turn(float* x, Index position) const {
    const Turn* turn = turns_.data() + position * half_;
    for (Index i = 0; i < half_; ++i) {
      const float a = x[2 * i], b = x[2 * i + 1];
      x[2 * i] = a * turn[i].cos - b * turn[i].sin;
      x[2 * i + 1] = a * turn[i].sin + b * turn[i].cos;
    }
  }

 private:
  struct Turn {
    float cos, sin;
  };
  Index half_;
  std::vector<Turn> turns_;
};

/// out = Σ_p softmax_p(q · k_p / √D) v_p over the positions [0, count) of one head. q is rounded to half
/// precision, as llama.cpp does. `scores` has room for count numbers.
inline void attend(KvCache& cache, Index layer, Index count, const Config& sizes, Index head, const float* q,
                   float* scores, float* out) {
  const Index width = sizes.head_width(), first = head / (sizes.heads / sizes.kv_heads) * width;
  const Index stride = sizes.kv_width();
  const float scale = 1 / std::sqrt(static_cast<float>(width));
  for (Index i = 0; i < width; ++i) out[i] = to_float(to_half(q[i]));
  const Half* keys = cache.key(layer, 0) + first;
  float largest = -INFINITY;
  for (Index p = 0; p < count; ++p) {
    scores[p] = scale * dot_product(keys + p * stride, out, width);
    largest = std::max(largest, scores[p]);
  }
  float sum = 0;
  for (Index p = 0; p < count; ++p) scores[p] = fast_exp(scores[p] - largest);
  for (Index p = 0; p < count; ++p) sum += scores[p];
  const Half* values = cache.value(layer, 0) + first;
  std::fill_n(out, width, 0.0f);
  for (Index p = 0; p < count; ++p) add_scaled(scores[p] / sum, values + p * stride, width, out);
}

}  // namespace engine
