// The base model's weights: one flat array and a table of what stands where.
#pragma once

#include <algorithm>    // fill
#include <cmath>        // sqrt
#include <cstdint>      // uint64_t
#include <span>         // span
#include <string>       // string
#include <string_view>  // string_view
#include <type_traits>  // is_const
#include <utility>      // move
#include <vector>       // vector

#include <tiedlora/adapter/aligned_array.hpp>

#include "config.hpp"
#include "model.hpp"
#include "random.hpp"

namespace llama {

/// One tensor of the flat array: rows × cols, row-major, as in a Hugging Face checkpoint.
struct WeightEntry {
  std::string name = {};  ///< "model.layers.3.self_attn.q_proj.weight"
  Index offset = 0;       ///< of its first value in the flat array
  Index rows = 0;         ///< out_features; for norms the width
  Index cols = 1;         ///< in_features; for norms 1
  bool decay = true;      ///< weight decay applies: to matrices, not to norms
  Index count() const { return rows * cols; }
};

/// Pointers to one layer's tensors. Neighbours with the same input are one matrix, so that one product does
/// for all.
template <class T>
struct LayerWeights {
  T* attention_norm = nullptr;  // W
  T* qkv = nullptr;             // (HD + 2KD)×W, rows [q; k; v]
  T* o = nullptr;               // W×HD
  T* mlp_norm = nullptr;        // W
  T* gate_up = nullptr;         // 2F×W, rows [gate; up]
  T* down = nullptr;            // W×F
};

/// The table for a config, in the order of the array: without gaps, so its counts add up to
/// weight_count(config).
inline std::vector<WeightEntry> weight_entries(const Config& c) {
  std::vector<WeightEntry> entries;
  Index offset = 0;
  const auto add = [&](std::string name, Index rows, Index cols) {
    entries.push_back({std::move(name), offset, rows, cols, cols > 1});
    offset += rows * cols;
  };
  add("model.embed_tokens.weight", c.vocabulary, c.width);
  for (Index l = 0; l < c.layers; ++l) {
    const std::string layer = "model.layers." + std::to_string(l) + ".";
    add(layer + "input_layernorm.weight", c.width, 1);
    add(layer + "self_attn.q_proj.weight", c.q_width(), c.width);
    add(layer + "self_attn.k_proj.weight", c.kv_width(), c.width);
    add(layer + "self_attn.v_proj.weight", c.kv_width(), c.width);
    add(layer + "self_attn.o_proj.weight", c.width, c.q_width());
    add(layer + "post_attention_layernorm.weight", c.width, 1);
    add(layer + "mlp.gate_proj.weight", c.feed_forward, c.width);
    add(layer + "mlp.up_proj.weight", c.feed_forward, c.width);
    add(layer + "mlp.down_proj.weight", c.width, c.feed_forward);
  }
  add("model.norm.weight", c.width, 1);
  if (!c.tied_embedding) add("lm_head.weight", c.vocabulary, c.width);
  return entries;
}

/// GPT-2's start: the standard deviation of a matrix is 0.02, or for o_proj and down_proj, which add to the
/// residual stream 2L times, 1/√(2L) of that.
inline double initial_deviation(const Config& config, const WeightEntry& entry) {
  const bool residual = entry.name.ends_with("o_proj.weight") || entry.name.ends_with("down_proj.weight");
  return 0.02 * (residual ? 1 / std::sqrt(2.0 * static_cast<double>(config.layers)) : 1);
}

/// Weights, or gradients of weights: both have the same layout, so that an optimiser is one loop. Starts at
/// zero. For plain models only, which all kinds of files can hold: neither head_norms nor rope_divisors.
template <class T>
class Weights {
 public:
  explicit Weights(const Config& config) : config_((validate(config), config)) {
    if (config.head_norms || !config.rope_divisors.empty())
      throw tiedlora::Error(
          "llama: a model with head_norms or rope_divisors is read from its file and trained through an "
          "adapter; there are no weights of its own to train");
    entries_ = weight_entries(config);
    values_ = tiedlora::AlignedArray<T>(weight_count(config));
  }

  const Config& config() const { return config_; }
  std::span<const WeightEntry> entries() const { return entries_; }
  std::span<T> values() { return values_.span(); }
  std::span<const T> values() const { return values_.span(); }

  /// Throws tiedlora::Error if there is no tensor of that name.
  const WeightEntry& entry(std::string_view name) const {
    for (const WeightEntry& entry : entries_)
      if (entry.name == name) return entry;
    throw tiedlora::Error("llama: no tensor is named \"" + std::string(name) + "\"");
  }
  std::span<T> values(std::string_view name) { return part(values(), entry(name)); }
  std::span<const T> values(std::string_view name) const { return part(values(), entry(name)); }

  T* embedding() { return at(0); }  // V×W
  const T* embedding() const { return at(0); }
  T* final_norm() { return at(norm_entry()); }  // W
  const T* final_norm() const { return at(norm_entry()); }
  /// V×W: a matrix of its own, or the embedding where tied.
  T* output_embedding() { return config_.tied_embedding ? at(0) : at(norm_entry() + 1); }
  const T* output_embedding() const { return config_.tied_embedding ? at(0) : at(norm_entry() + 1); }
  LayerWeights<T> layer(Index l) { return layer_of(*this, l); }
  LayerWeights<const T> layer(Index l) const { return layer_of(*this, l); }

  /// As the transformer reads it; valid as long as these weights.
  Model<T> model() const {
    Model<T> result = {.config = config_,
                       .embedding = Weight<T>::plain(embedding(), config_.vocabulary, config_.width),
                       .final_norm = final_norm(),
                       .output = Weight<T>::plain(output_embedding(), config_.vocabulary, config_.width)};
    const Index W = config_.width, Q = config_.q_width(), KV = config_.kv_width(), F = config_.feed_forward;
    for (Index l = 0; l < config_.layers; ++l) {
      const LayerWeights<const T> w = layer(l);
      const auto part = [W](const T* all, Index first_row, Index rows) {
        return Weight<T>::plain(all + first_row * W, rows, W);
      };
      result.layers.push_back({.attention_norm = w.attention_norm,
                               .qkv = {part(w.qkv, 0, Q), part(w.qkv, Q, KV), part(w.qkv, Q + KV, KV)},
                               .o = Weight<T>::plain(w.o, W, Q),
                               .mlp_norm = w.mlp_norm,
                               .gate_up = {part(w.gate_up, 0, F), part(w.gate_up, F, F)},
                               .down = Weight<T>::plain(w.down, W, F)});
    }
    return result;
  }
  operator Model<T>() const { return model(); }

  void set_zero() { std::fill(values_.begin(), values_.end(), T(0)); }

  /// Normal with initial_deviation, row by row; norms 1. The values are the same on every compiler.
  void initialize(std::uint64_t seed) {
    Random random(seed);
    for (const WeightEntry& entry : entries_) {
      const double deviation = initial_deviation(config_, entry);
      for (T& value : part(values(), entry))
        value = entry.cols == 1 ? T(1) : static_cast<T>(deviation * random.normal());
    }
  }

 private:
  static constexpr Index entries_per_layer = 9;

  template <class U>
  static std::span<U> part(std::span<U> values, const WeightEntry& entry) {
    return values.subspan(static_cast<std::size_t>(entry.offset), static_cast<std::size_t>(entry.count()));
  }
  Index norm_entry() const { return 1 + entries_per_layer * config_.layers; }
  Index offset(Index entry) const { return entries_[static_cast<std::size_t>(entry)].offset; }
  T* at(Index entry) { return values_.data() + offset(entry); }
  const T* at(Index entry) const { return values_.data() + offset(entry); }
  template <class Self>
  static auto layer_of(Self& self, Index l) {
    using U = std::conditional_t<std::is_const_v<Self>, const T, T>;
    const Index e = 1 + entries_per_layer * l;
    return LayerWeights<U>{self.at(e),     self.at(e + 1), self.at(e + 4),
                           self.at(e + 5), self.at(e + 6), self.at(e + 8)};
  }

  Config config_;
  std::vector<WeightEntry> entries_;
  tiedlora::AlignedArray<T> values_;
};

}  // namespace llama
