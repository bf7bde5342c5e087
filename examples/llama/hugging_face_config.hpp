// A model's sizes from its config.json.
#pragma once

#include <cstddef>      // size_t
#include <filesystem>   // path
#include <string>       // string
#include <string_view>  // string_view

#include <fmt/format.h>

#include "config.hpp"
#include "json_file.hpp"

namespace llama {

/// What a config.json says of a model.
struct HuggingFaceConfig {
  Config sizes = {};
  std::string architecture = {};  ///< model_type, "llama"
  std::string name = {};          ///< _name_or_path; may be empty
  Index context = 0;              ///< tokens of the longest text that it was trained for
};

/// Throws std::runtime_error, naming file and key, for a model that is not computed here.
inline HuggingFaceConfig read_config(const std::filesystem::path& path) {
  const JsonFile file(path);
  const JsonNode json = file.root();
  HuggingFaceConfig result;
  result.architecture = json["model_type"].text();
  if (result.architecture != "llama")
    json["model_type"].fail(
        fmt::format("is \"{}\"; models of type \"llama\" are computed here", result.architecture));
  if (const JsonNode name = json["_name_or_path"]) result.name = name.text();
  const auto count = [&json](const char* key, Index most) { return json[key].count(most); };
  Config& c = result.sizes;
  c.vocabulary = count("vocab_size", 1 << 30);
  c.width = count("hidden_size", 1 << 18);
  c.layers = count("num_hidden_layers", 1 << 14);
  c.heads = count("num_attention_heads", 1 << 14);
  c.kv_heads = json["num_key_value_heads"] ? count("num_key_value_heads", 1 << 14) : c.heads;
  c.feed_forward = count("intermediate_size", 1 << 18);
  c.norm_epsilon = json["rms_norm_eps"] ? json["rms_norm_eps"].number(1e-12, 1) : 1e-6;
  c.tied_embedding = json["tie_word_embeddings"].boolean(false);
  result.context = count("max_position_embeddings", 1 << 30);
  // transformers 5 has what belongs to RoPE in one place.
  const JsonNode rope = json["rope_parameters"] ? json["rope_parameters"] : json["rope_scaling"];
  const JsonNode base = rope["rope_theta"] ? rope["rope_theta"] : json["rope_theta"];
  c.rope_base = base ? base.number(1, 1e12) : 10000;
  if (const JsonNode type = rope["rope_type"] ? rope["rope_type"] : rope["type"];
      type && type.text() != "default")
    type.fail(fmt::format("is \"{}\", which is not computed here", type.text()));
  for (const char* key : {"attention_bias", "mlp_bias"})
    if (json[key].boolean(false)) json[key].fail("is true; biases are not computed here");
  if (json["head_dim"] && count("head_dim", 1 << 18) != c.head_width())
    json["head_dim"].fail("is not hidden_size / num_attention_heads, which is not computed here");
  return result;
}

}  // namespace llama
