// The model of a GGUF file as the transformer reads it: in place, in the types of the file, rows of q and k
// in transformers' order.
#pragma once

#include "gguf_model.hpp"
#include "model.hpp"

namespace llama {

/// Valid as long as the file is open.
inline Model<float> base_of(const GgufModel& file) {
  const auto weight = [](const GgufWeight& w) {
    if (w.type == NumberType::F32)
      return Weight<float>::plain(reinterpret_cast<const float*>(w.data), w.out, w.in);
    return Weight<float>{.out = w.out, .in = w.in, .rows = w.data, .type = w.type};
  };
  // Not plain, so that products ask for each row.
  const auto in_order = [&](const GgufWeight& w) {
    if (file.sizes.rope_pairs == RopePairs::halves) return weight(w);
    return Weight<float>{
        .out = w.out, .in = w.in, .rows = w.data, .type = w.type, .neighbours = file.sizes.head_width()};
  };
  Model<float> model = {.config = file.sizes,
                        .embedding = weight(file.embedding),
                        .final_norm = file.output_norm,
                        .output = weight(file.output)};
  model.config.rope_pairs = RopePairs::halves;
  for (const GgufLayer& layer : file.layers)
    model.layers.push_back({.attention_norm = layer.attn_norm,
                            .qkv = {in_order(layer.q), in_order(layer.k), weight(layer.v)},
                            .qkv_bias = {layer.q_bias, layer.k_bias, layer.v_bias},
                            .q_norm = layer.q_norm,
                            .k_norm = layer.k_norm,
                            .o = weight(layer.o),
                            .mlp_norm = layer.ffn_norm,
                            .gate_up = {weight(layer.gate), weight(layer.up)},
                            .down = weight(layer.down)});
  return model;
}

}  // namespace llama
