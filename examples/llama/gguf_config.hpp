// A model's sizes from the metadata of its GGUF file, as llama.cpp reads them.
#pragma once

#include <algorithm>    // find
#include <array>        // array
#include <string>       // string
#include <string_view>  // string_view

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base_config.hpp"
#include "gguf_metadata.hpp"
#include "rope_scaling.hpp"

namespace llama {

/// Reads the metadata of a model of architecture llama, qwen2 or qwen3. Throws std::runtime_error, naming
/// file and key, for a model that is not computed here.
class GgufConfig {
 public:
  explicit GgufConfig(const GgufMetadata& metadata) : metadata_(metadata) {
    read_type();
    read_sizes();
    read_rope();
    refuse_the_rest();
    try {
      validate(result_.sizes);
    } catch (const tiedlora::Error& error) {
      metadata_.fail("describes a model that is not supported: {}", error.what());
    }
  }
  const BaseConfig& result() const { return result_; }

 private:
  std::string key(const char* name) const { return result_.architecture + "." + name; }
  bool has(const char* name) const { return metadata_.has(key(name)); }
  Index count(const char* name, double most) const { return metadata_.count(key(name), most); }
  double number(const char* name, double least, double most) const {
    return metadata_.number(key(name), least, most);
  }

  void read_type() {
    constexpr std::array<std::string_view, 3> known = {"llama", "qwen2", "qwen3"};
    if (const auto type = metadata_.text("general.type"); !type.empty() && type != "model")
      metadata_.fail("is not a model: its general.type is \"{}\"", type);
    if (const auto whole = tiedlora::gguf::check_whole(metadata_.file()); !whole)
      metadata_.fail("{}", whole.error());
    result_.architecture = metadata_.text("general.architecture");
    if (std::find(known.begin(), known.end(), result_.architecture) == known.end())
      metadata_.fail("is a model of architecture \"{}\"; {} are supported", result_.architecture,
                     fmt::join(known, ", "));
    result_.name = metadata_.text("general.name");
  }

  void read_sizes() {
    Config& c = result_.sizes;
    c.layers = count("block_count", 1e4);
    c.width = count("embedding_length", 1 << 18);
    c.feed_forward = count("feed_forward_length", 1 << 18);
    c.heads = count("attention.head_count", 1e4);
    c.kv_heads = has("attention.head_count_kv") ? count("attention.head_count_kv", 1e4) : c.heads;
    if (has("attention.key_length")) set_head_width(c, count("attention.key_length", 1 << 18));
    c.norm_epsilon = number("attention.layer_norm_rms_epsilon", 0, 1);
    c.head_norms = result_.architecture == "qwen3";
    result_.biases = result_.architecture == "qwen2";
    result_.context = count("context_length", 1e9);
    const auto* embedding = metadata_.file().find_tensor("token_embd.weight");
    if (!embedding || embedding->shape.size() != 2) metadata_.fail("has no matrix \"token_embd.weight\"");
    c.vocabulary = embedding->shape[1];
    // Without an output matrix the embedding is it.
    c.tied_embedding = !metadata_.file().find_tensor("output.weight");
  }

  void read_rope() {
    Config& c = result_.sizes;
    if (has("rope.freq_base")) c.rope_base = number("rope.freq_base", 1, 1e12);
    if (has("rope.dimension_count") && count("rope.dimension_count", 1 << 18) != c.head_width())
      metadata_.fail("applies RoPE to only a part of each head ({}), which is not supported here",
                     key("rope.dimension_count"));
    const std::string type = has("rope.scaling.type") ? metadata_.text(key("rope.scaling.type")) : "linear";
    if (type != "none" && type != "linear")
      metadata_.fail("has {} = \"{}\", which is not supported here; \"none\" and \"linear\" are",
                     key("rope.scaling.type"), type);
    // The second is what old files call it.
    for (const char* name : {"rope.scaling.factor", "rope.scale_linear"})
      if (has(name)) {
        const double factor = number(name, 0, 1e6);  // 0: none
        if (type == "linear" && factor > 0) c.rope_divisors = linear_rope_divisors(c.head_width(), factor);
        break;
      }
  }

  void refuse_the_rest() const {
    const Index D = result_.sizes.head_width();
    if (has("attention.value_length") && count("attention.value_length", 1 << 18) != D)
      metadata_.fail("has {} = {}, not the {} of its keys, which is not supported here",
                     key("attention.value_length"), count("attention.value_length", 1 << 18), D);
    if (has("expert_count") && number("expert_count", 0, 1e6) > 0)
      metadata_.fail("has a \"{}\": a mixture of experts, which is not supported here", key("expert_count"));
    // A window as long as all texts has no effect.
    if (has("attention.sliding_window"))
      if (const double window = number("attention.sliding_window", 0, 1e9);
          window > 0 && window < static_cast<double>(result_.context))
        metadata_.fail(
            "has {} = {}, less than the context of {}; attention within a window is not supported here",
            key("attention.sliding_window"), window, result_.context);
    for (const char* name : {"attention.scale", "attention.clamp_kqv", "attn_logit_softcapping",
                             "final_logit_softcapping", "logit_scale", "residual_scale", "embedding_scale"})
      if (has(name)) metadata_.fail("has a \"{}\", which is not supported here", key(name));
  }

  const GgufMetadata& metadata_;
  BaseConfig result_;
};

}  // namespace llama
