// The transformer's weights in files: as a model that transformers and llama.cpp's converter open, and as a
// checkpoint of their training.
#pragma once

#include <cstdint>     // int64_t
#include <filesystem>  // path
#include <map>         // map
#include <span>        // span
#include <string>      // string
#include <vector>      // vector

#include <nlohmann/json.hpp>
#include <tiedlora/io/native.hpp>  // TrainingPosition
#include <tiedlora/io/safetensors.hpp>
#include <transformer/weights.hpp>

#include "files.hpp"  // write_atomically

namespace finetune {

using Weights = transformer::Weights<float>;

/// Writes config.json and model.safetensors, which LlamaForCausalLM.from_pretrained opens. Tokens are bytes,
/// so there is no tokenizer.
inline void save_model(const std::filesystem::path& folder, const Weights& weights) {
  const transformer::Config& config = weights.config();
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
  write_atomically(folder / "config.json", json.dump(2) + '\n');
  std::vector<tiedlora::safetensors::Entry> entries;
  for (const transformer::WeightEntry& entry : weights.entries()) {
    std::vector<tiedlora::Index> shape = {entry.rows};
    if (entry.cols > 1) shape.push_back(entry.cols);
    entries.push_back({.name = entry.name, .shape = shape, .data = weights.values().data() + entry.offset});
  }
  tiedlora::safetensors::save(folder / "model.safetensors", entries, {{"format", "pt"}});
}

/// Where the training of weights stands.
struct WeightsPosition {
  std::int64_t steps = 0;  ///< of the optimiser
  tiedlora::TrainingPosition position = {};
};

/// A checkpoint of weights and both moments of AdamW.
inline void save_weights(const std::filesystem::path& path, const Weights& weights, const Weights& first,
                         const Weights& second, const WeightsPosition& position) {
  const nlohmann::json json = {
      {"steps", position.steps}, {"step", position.position.step}, {"data", position.position.data}};
  const auto entry = [](const char* name, const Weights& numbers) {
    return tiedlora::safetensors::Entry{.name = name,
                                        .shape = {static_cast<tiedlora::Index>(numbers.values().size())},
                                        .data = numbers.values().data()};
  };
  tiedlora::safetensors::save(path,
                              {entry("weights", weights), entry("first", first), entry("second", second)},
                              {{"finetune", json.dump()}});
}

/// Reads it. Throws tiedlora::Error if the file is damaged or of a model of other sizes.
inline WeightsPosition read_weights(const std::filesystem::path& path, Weights& weights, Weights& first,
                                    Weights& second) {
  const tiedlora::safetensors::File file = tiedlora::safetensors::open(path);
  const auto read = [&](const char* name, Weights& numbers) {
    const tiedlora::safetensors::Tensor* tensor = file.find(name);
    if (!tensor || !tiedlora::safetensors::try_read(*tensor, numbers.values()))
      throw tiedlora::Error(path.string() + " is no checkpoint of this model's weights");
  };
  read("weights", weights), read("first", first), read("second", second);
  const auto text = file.metadata().find("finetune");
  const auto json =
      nlohmann::json::parse(text == file.metadata().end() ? std::string() : text->second, nullptr,
                            /*allow_exceptions=*/false);
  if (!json.is_object()) throw tiedlora::Error(path.string() + " does not say where its training stands");
  return {json.value("steps", std::int64_t{0}),
          {.step = json.value("step", std::int64_t{0}), .data = json.value("data", std::string())}};
}

}  // namespace finetune
