// A model's sizes from its config.json, as transformers reads it.
#pragma once

#include <algorithm>    // find
#include <array>        // array
#include <string>       // string
#include <string_view>  // string_view

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base_config.hpp"
#include "json_file.hpp"
#include "rope_scaling.hpp"

namespace llama {

/// Reads the root of the config.json of a model_type llama, mistral, qwen2 or qwen3. What is missing there is
/// what transformers takes then. Throws std::runtime_error, naming file and key, for a model that is not
/// computed here.
class HuggingFaceConfig {
 public:
  explicit HuggingFaceConfig(const JsonNode& root) : json_(root) {
    read_type();
    read_sizes();
    read_rope();
    refuse_windows();
    refuse_the_rest();
    try {
      validate(result_.sizes);
    } catch (const tiedlora::Error& error) {
      json_.fail(fmt::format("describes a model that is not supported: {}", error.what()));
    }
  }
  const BaseConfig& result() const { return result_; }

 private:
  bool is(std::string_view type) const { return type_ == type; }
  Index count(const char* key, Index most) const { return json_[key].count(most); }

  void read_type() {
    constexpr std::array<std::string_view, 4> known = {"llama", "mistral", "qwen2", "qwen3"};
    type_ = json_["model_type"].text();
    if (std::find(known.begin(), known.end(), type_) == known.end())
      json_["model_type"].fail(
          fmt::format("is \"{}\"; models of type {} are supported", type_, fmt::join(known, ", ")));
    result_.architecture = is("mistral") ? "llama" : type_;
    if (const JsonNode name = json_["_name_or_path"]) result_.name = name.text();
  }

  void read_sizes() {
    Config& c = result_.sizes;
    c.vocabulary = count("vocab_size", 1 << 30);
    c.width = count("hidden_size", 1 << 18);
    c.layers = count("num_hidden_layers", 1 << 14);
    c.heads = count("num_attention_heads", 1 << 14);
    // The default of the others is a number that fits few models.
    c.kv_heads =
        is("llama") && !json_["num_key_value_heads"] ? c.heads : count("num_key_value_heads", 1 << 14);
    c.feed_forward = count("intermediate_size", 1 << 18);
    if (json_["head_dim"] || is("qwen3")) set_head_width(c, count("head_dim", 1 << 18));
    c.norm_epsilon = json_["rms_norm_eps"] ? json_["rms_norm_eps"].number(1e-12, 1) : 1e-6;
    c.tied_embedding = json_["tie_word_embeddings"].boolean(false);
    c.head_norms = is("qwen3");
    result_.biases = is("qwen2");
    result_.context = count("max_position_embeddings", 1 << 30);
  }

  void read_rope() {
    // transformers 5 has all that belongs to it in one place.
    const JsonNode rope = json_["rope_parameters"] ? json_["rope_parameters"] : json_["rope_scaling"];
    const auto of_rope = [&](const char* key) { return rope[key] ? rope[key] : json_[key]; };
    Config& c = result_.sizes;
    if (of_rope("rope_theta")) c.rope_base = of_rope("rope_theta").number(1, 1e12);
    if (const JsonNode part = of_rope("partial_rotary_factor"); part && part.number(0, 1) != 1)
      part.fail("is not 1; rotating only a part of each head is not supported here");
    if (!rope) return;
    for (const auto& [key, value] : rope.object())
      if (value.is_object()) rope[key.c_str()].fail("differs by layer, which is not supported here");
    const JsonNode type = rope["rope_type"] ? rope["rope_type"] : rope["type"];
    const auto factor = [&](const char* key) { return rope[key].number(1e-3, 1e6); };
    if (!type || type.text() == "default") return;
    if (type.text() == "linear") {
      c.rope_divisors = linear_rope_divisors(c.head_width(), factor("factor"));
    } else if (type.text() == "llama3") {
      const Llama3Scaling scaling = {
          .factor = factor("factor"),
          .low_frequency_factor = factor("low_freq_factor"),
          .high_frequency_factor = factor("high_freq_factor"),
          .first_context = rope["original_max_position_embeddings"].number(1, 1e9)};
      if (scaling.high_frequency_factor <= scaling.low_frequency_factor)
        rope["high_freq_factor"].fail("is not above low_freq_factor");
      c.rope_divisors = llama3_rope_divisors(c.head_width(), c.rope_base, scaling);
    } else {
      type.fail(fmt::format(
          "is \"{}\", which is not supported here; \"default\", \"linear\" and \"llama3\" are", type.text()));
    }
  }

  // A window as long as all texts has no effect.
  void refuse_windows() const {
    const JsonNode window = json_["sliding_window"];
    const bool is_used = is("mistral") || (!is("llama") && json_["use_sliding_window"].boolean(false));
    if (!is_used) return;
    // Mistral's is 4096 where the key is missing, and none where it is null.
    const bool is_null = json_.has("sliding_window") && !window;
    const Index tokens = is_null ? result_.context : window ? window.count(1 << 30) : 4096;
    if (tokens < result_.context)
      window.fail(
          fmt::format("is {}, less than the context of {} (max_position_embeddings), and attention within a "
                      "window is not supported here; for texts of up to {} tokens, set it to null",
                      tokens, result_.context, tokens));
  }

  void refuse_the_rest() const {
    if (const JsonNode activation = json_["hidden_act"]; activation && activation.text() != "silu")
      activation.fail(fmt::format("is \"{}\"; \"silu\" is supported", activation.text()));
    for (const char* key : {"attention_bias", "mlp_bias"})
      if (!is("qwen2") && json_[key].boolean(false))
        json_[key].fail("is true, and such biases are not supported here");
    if (const JsonNode quantization = json_["quantization_config"])
      quantization.fail(
          "is set, and quantised weights are not supported; take the model as F32, F16 or BF16, or a GGUF "
          "file "
          "of it");
  }

  JsonNode json_;
  std::string type_;  // model_type
  BaseConfig result_;
};

}  // namespace llama
