// Keys and values of the tokens so far, and attention to them.
#pragma once

#include <algorithm>  // max
#include <cmath>      // sqrt
#include <vector>     // vector

#include <llama/config.hpp>

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

/// out = Σ_p softmax_p(q · k_p / √D) v_p over the positions [0, count) of one head. q is rounded to half
/// precision, as llama.cpp does. `scores` has room for count values.
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
