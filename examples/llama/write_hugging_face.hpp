// The model as a folder that transformers and llama.cpp's converter open.
#pragma once

#include <filesystem>  // path, create_directories
#include <vector>      // vector

#include <nlohmann/json.hpp>
#include <tiedlora/io/file.hpp>  // write_file
#include <tiedlora/io/safetensors.hpp>

#include "weights.hpp"

namespace llama {

/// Writes config.json and model.safetensors, which LlamaForCausalLM.from_pretrained opens. Tokens are bytes,
/// so there is no tokenizer.
inline void save_hugging_face(const std::filesystem::path& folder, const Weights<float>& weights) {
  const Config& config = weights.config();
  const nlohmann::ordered_json json = {{"architectures", {"LlamaForCausalLM"}},
                                       {"model_type", "llama"},
                                       {"vocab_size", config.vocabulary},
                                       {"hidden_size", config.width},
                                       {"num_hidden_layers", config.layers},
                                       {"num_attention_heads", config.heads},
                                       {"num_key_value_heads", config.kv_heads},
                                       {"head_dim", config.head_width()},
                                       {"intermediate_size", config.feed_forward},
                                       {"hidden_act", "silu"},
                                       {"attention_bias", false},
                                       {"mlp_bias", false},
                                       {"rope_theta", config.rope_base},
                                       {"rms_norm_eps", config.norm_epsilon},
                                       {"max_position_embeddings", 2048},
                                       {"tie_word_embeddings", config.tied_embedding},
                                       {"torch_dtype", "float32"}};
  std::filesystem::create_directories(folder);
  tiedlora::write_file(folder / "config.json", json.dump(2) + '\n');
  std::vector<tiedlora::safetensors::Entry> entries;
  for (const WeightEntry& entry : weights.entries()) {
    std::vector<Index> shape = {entry.rows};
    if (entry.cols > 1) shape.push_back(entry.cols);
    entries.push_back({.name = entry.name, .shape = shape, .data = weights.values().data() + entry.offset});
  }
  tiedlora::safetensors::save(folder / "model.safetensors", entries, {{"format", "pt"}});
}

}  // namespace llama
