// Frozen weights in the types of a GGUF file, random and in memory: what a mapped file is to a step.
#pragma once

#include <algorithm>  // clamp, max, minmax_element
#include <array>      // array
#include <cmath>      // abs, lround
#include <cstddef>    // byte, size_t
#include <cstdint>    // uint16_t
#include <cstring>    // memcpy
#include <span>       // span
#include <vector>     // vector

#include <Eigen/Core>  // half

#include <llama/quant/number_type.hpp>
#include <llama/random.hpp>
#include <llama/weights.hpp>

namespace train_step {

using llama::NumberType;
using tiedlora::Index;

inline constexpr std::size_t block_numbers = 32;

/// `value` as a half at `to`; returns what that half is.
inline float put_half(float value, std::byte* to) {
  const Eigen::half half(value);
  const auto bits = Eigen::numext::bit_cast<std::uint16_t>(half);
  std::memcpy(to, &bits, sizeof bits);
  return static_cast<float>(half);
}

/// w = d q, q a signed byte.
inline void to_q8_0(std::span<const float, block_numbers> w, std::byte* to) {
  float largest = 0;
  for (const float value : w) largest = std::max(largest, std::abs(value));
  const float d = put_half(largest / 127, to);
  for (std::size_t i = 0; i < block_numbers; ++i)
    to[2 + i] = static_cast<std::byte>(d > 0 ? std::clamp(std::lround(w[i] / d), -127l, 127l) : 0);
}

/// w = d q + m with q of four bits; the q of weights i and i + 16 share a byte.
inline void to_q4_1(std::span<const float, block_numbers> w, std::byte* to) {
  const auto [least, most] = std::minmax_element(w.begin(), w.end());
  const float d = put_half((*most - *least) / 15, to), m = put_half(*least, to + 2);
  const auto q = [&](std::size_t i) { return d > 0 ? std::clamp(std::lround((w[i] - m) / d), 0l, 15l) : 0l; };
  for (std::size_t i = 0; i < block_numbers / 2; ++i)
    to[4 + i] = static_cast<std::byte>(q(i) | q(i + block_numbers / 2) << 4);
}

/// The weights of llama::Weights::initialize(1), of which never more than one block is held as floats.
class RandomBase {
 public:
  /// Q8_0 or Q4_1; with Q4_1 the embedding is Q8_0, as llama.cpp makes such files.
  RandomBase(const llama::Config& config, NumberType type) {
    llama::Random random(1);
    for (const llama::WeightEntry& entry : llama::weight_entries(config)) {
      if (entry.cols == 1) {
        norms_.emplace_back(static_cast<std::size_t>(entry.rows), 1.0f);
        continue;
      }
      const NumberType own = matrices_.empty() ? NumberType::Q8_0 : type;
      const double deviation = llama::initial_deviation(config, entry);
      const auto step = static_cast<std::size_t>(llama::info(own).bytes);
      std::vector<std::byte>& bytes =
          matrices_.emplace_back(static_cast<std::size_t>(llama::bytes_of(own, entry.count())));
      for (std::size_t at = 0; at < bytes.size(); at += step) {
        std::array<float, block_numbers> block;
        for (float& value : block) value = static_cast<float>(deviation * random.normal());
        (own == NumberType::Q8_0 ? to_q8_0 : to_q4_1)(block, bytes.data() + at);
      }
    }
    make_model(config, type);
  }
  RandomBase(const RandomBase&) = delete;
  RandomBase& operator=(const RandomBase&) = delete;

  const llama::Model<float>& model() const { return model_; }

 private:
  // In the order of weight_entries.
  void make_model(const llama::Config& c, NumberType type) {
    std::size_t matrices = 0, norms = 0;
    const auto norm = [&] { return norms_[norms++].data(); };
    const auto matrix = [&](Index out, Index in) {
      const NumberType own = matrices == 0 ? NumberType::Q8_0 : type;
      return llama::Weight<float>{.out = out, .in = in, .rows = matrices_[matrices++].data(), .type = own};
    };
    const Index W = c.width, Q = c.q_width(), KV = c.kv_width(), F = c.feed_forward;
    model_.config = c;
    model_.embedding = matrix(c.vocabulary, W);
    for (Index l = 0; l < c.layers; ++l) {
      llama::ModelLayer<float>& layer = model_.layers.emplace_back();
      layer.attention_norm = norm();
      layer.qkv = {matrix(Q, W), matrix(KV, W), matrix(KV, W)};
      layer.o = matrix(W, Q);
      layer.mlp_norm = norm();
      layer.gate_up = {matrix(F, W), matrix(F, W)};
      layer.down = matrix(W, F);
    }
    model_.final_norm = norm();
    model_.output = c.tied_embedding ? model_.embedding : matrix(c.vocabulary, W);
  }

  std::vector<std::vector<std::byte>> matrices_;
  std::vector<std::vector<float>> norms_;
  llama::Model<float> model_;
};

}  // namespace train_step
