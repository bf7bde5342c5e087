// The sizes of a Llama-architecture transformer.
#pragma once

#include <cmath>    // isfinite
#include <cstdint>  // int32_t
#include <limits>   // numeric_limits
#include <string>   // string, to_string
#include <vector>   // vector

#include <tiedlora/views/config.hpp>  // Index
#include <tiedlora/views/error.hpp>   // Error

namespace llama {

using tiedlora::Index;

/// Sizes by Hugging Face's meaning; in brackets its config.json name and the letter that shape comments use.
struct Config {
  Index vocabulary = 256;                  ///< V [vocab_size]
  Index width = 128;                       ///< W [hidden_size]
  Index layers = 12;                       ///< L [num_hidden_layers]
  Index heads = 4;                         ///< H [num_attention_heads]
  Index kv_heads = 2;                      ///< K [num_key_value_heads]: each serves H / K query heads
  Index own_head_width = 0;                ///< D [head_dim] where it is not W / H; else 0
  Index feed_forward = 384;                ///< F [intermediate_size]
  double rope_base = 10000;                ///< [rope_theta]
  double norm_epsilon = 1e-5;              ///< [rms_norm_eps]
  bool tied_embedding = true;              ///< [tie_word_embeddings]: logits use the token embedding
  std::vector<double> rope_divisors = {};  ///< D/2, of the angles of each pair; empty: all 1
  bool head_norms = false;                 ///< each head of q and k is normalised before it turns (Qwen 3)
  bool fused_qkv = false;  ///< adapters see one module qkv_proj, rows [q; k; v], instead of three
  bool operator==(const Config&) const = default;

  Index head_width() const { return own_head_width > 0 ? own_head_width : width / heads; }  ///< D
  Index q_width() const { return heads * head_width(); }          ///< H·D, the rows of q
  Index kv_width() const { return kv_heads * head_width(); }      ///< K·D, the rows of k and of v
  Index qkv_width() const { return q_width() + 2 * kv_width(); }  ///< rows of [q; k; v]
};

/// Throws tiedlora::Error that names the sizes at fault.
inline void validate(const Config& config) {
  const auto text = [](Index n) { return std::to_string(n); };
  const auto require = [](bool holds, const std::string& problem) {
    if (!holds) throw tiedlora::Error("llama: " + problem);
  };
  // Bounds within which no count of weights overflows the index type: 2^31 · 2^18 + 2^18 · (2^18 · 2^21) <
  // 2^63.
  const auto within = [&](Index n, const char* name, Index largest) {
    require(n > 0 && n <= largest,
            std::string(name) + " is " + text(n) + "; it must be from 1 to " + text(largest));
  };
  constexpr Index largest = Index{1} << 18;
  within(config.vocabulary, "vocabulary", std::numeric_limits<std::int32_t>::max());
  within(config.width, "width", largest);
  within(config.layers, "layers", largest);
  within(config.heads, "heads", largest);
  within(config.kv_heads, "kv_heads", largest);
  within(config.feed_forward, "feed_forward", largest);
  if (config.own_head_width != 0)
    within(config.own_head_width, "own_head_width", largest / config.heads);
  else
    require(config.width % config.heads == 0,
            "width " + text(config.width) + " is not a multiple of heads " + text(config.heads));
  require(config.head_width() % 2 == 0, "heads are " + text(config.head_width()) +
                                            " wide; rotary position embedding needs an even head width");
  require(config.heads % config.kv_heads == 0,
          "heads " + text(config.heads) + " is not a multiple of kv_heads " + text(config.kv_heads));
  require(std::isfinite(config.rope_base) && config.rope_base > 0, "rope_base must be positive");
  const auto divisors = static_cast<Index>(config.rope_divisors.size());
  require(divisors == 0 || divisors == config.head_width() / 2,
          "there are " + text(divisors) + " rope_divisors for heads of " + text(config.head_width()) +
              "; one for each pair of features is needed");
  for (const double divisor : config.rope_divisors)
    require(std::isfinite(divisor) && divisor > 0, "rope_divisors must be positive");
  require(std::isfinite(config.norm_epsilon) && config.norm_epsilon > 0, "norm_epsilon must be positive");
}

/// Parameters of the model: V·W (twice where the output embedding is separate) + L·(2W + 2(H + K)·D·W + 3F·W)
/// + W.
inline Index weight_count(const Config& c) {
  const Index layer = 2 * c.width + (c.qkv_width() + c.q_width() + 3 * c.feed_forward) * c.width;
  return (c.tied_embedding ? 1 : 2) * c.vocabulary * c.width + c.layers * layer + c.width;
}

}  // namespace llama
