// The model of a Hugging Face folder as the transformer reads it: in place, in the types of its files.
#pragma once

#include <cstddef>      // size_t
#include <filesystem>   // path
#include <functional>   // less
#include <set>          // set
#include <stdexcept>    // runtime_error
#include <string>       // string
#include <string_view>  // string_view
#include <utility>      // forward
#include <vector>       // vector

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "hugging_face_config.hpp"
#include "model.hpp"
#include "safetensors_shards.hpp"

namespace llama {

class HuggingFaceModel {
 public:
  /// Throws std::runtime_error, naming file, key or tensor, for what is not a model that is computed here.
  explicit HuggingFaceModel(const std::filesystem::path& folder)
      : folder_(folder),
        config_(HuggingFaceConfig(JsonFile(folder / "config.json").root()).result()),
        shards_(folder) {
    const Config& c = config_.sizes;
    Model<float>& model = model_;
    model.config = c;
    model.embedding = matrix("model.embed_tokens", c.vocabulary, c.width);
    for (Index l = 0; l < c.layers; ++l) model.layers.push_back(layer(fmt::format("model.layers.{}.", l)));
    model.final_norm = vector("model.norm.weight", c.width);
    // Files of tied models may have the matrix a second time.
    if (c.tied_embedding) used_.insert("lm_head.weight");
    model.output = c.tied_embedding ? model.embedding : matrix("lm_head", c.vocabulary, c.width);
    shards_.for_each([this](const tiedlora::safetensors::Tensor& tensor, const std::filesystem::path& path) {
      // The frequencies of RoPE, which old files repeat in each layer.
      if (!used_.contains(tensor.name) && !tensor.name.ends_with(".rotary_emb.inv_freq"))
        fail(path,
             "has a tensor \"{}\", which its config.json does not account for; results would be wrong "
             "without it",
             tensor.name);
    });
  }

  const BaseConfig& config() const { return config_; }
  /// Valid as long as this.
  const Model<float>& model() const { return model_; }

 private:
  template <class... Parts>
  [[noreturn]] static void fail(const std::filesystem::path& file, fmt::format_string<Parts...> text,
                                Parts&&... parts) {
    // Parts are names from the file.
    throw std::runtime_error(
        fmt::format("{} {}", tiedlora::detail::in_quotes(file.string()),
                    tiedlora::detail::escaped(fmt::format(text, std::forward<Parts>(parts)...))));
  }

  ModelLayer<float> layer(const std::string& prefix) {
    const Config& c = config_.sizes;
    const Index W = c.width, Q = c.q_width(), KV = c.kv_width(), F = c.feed_forward, D = c.head_width();
    const std::string attention = prefix + "self_attn.", mlp = prefix + "mlp.";
    ModelLayer<float> layer = {
        .attention_norm = vector(prefix + "input_layernorm.weight", W),
        .qkv = {matrix(attention + "q_proj", Q, W), matrix(attention + "k_proj", KV, W),
                matrix(attention + "v_proj", KV, W)},
        .o = matrix(attention + "o_proj", W, Q),
        .mlp_norm = vector(prefix + "post_attention_layernorm.weight", W),
        .gate_up = {matrix(mlp + "gate_proj", F, W), matrix(mlp + "up_proj", F, W)},
        .down = matrix(mlp + "down_proj", W, F)};
    if (config_.biases)
      layer.qkv_bias = {vector(attention + "q_proj.bias", Q), vector(attention + "k_proj.bias", KV),
                        vector(attention + "v_proj.bias", KV)};
    if (c.head_norms) {
      layer.q_norm = vector(attention + "q_norm.weight", D);
      layer.k_norm = vector(attention + "k_norm.weight", D);
    }
    return layer;
  }

  const tiedlora::safetensors::Tensor& tensor(const std::string& name, const std::vector<Index>& shape) {
    const auto* found = shards_.find(name);
    if (!found)
      fail(folder_, "has no tensor \"{}\"; is the folder complete, and the config.json that of its weights?",
           name);
    if (found->shape != shape)
      fail(shards_.path_of(*found), "has a tensor \"{}\" of [{}]; its config.json asks for [{}]", name,
           fmt::join(found->shape, ", "), fmt::join(shape, ", "));
    used_.insert(found->name);
    return *found;
  }

  Weight<float> matrix(const std::string& name, Index out, Index in) {
    using tiedlora::safetensors::Dtype;
    const auto& found = tensor(name + ".weight", {out, in});
    if (const auto numbers = tiedlora::safetensors::in_place<float>(found); !numbers.empty())
      return Weight<float>::plain(numbers.data(), out, in);
    Weight<float> weight = {.out = out, .in = in, .rows = found.bytes.data()};
    if (found.dtype == Dtype::F16)
      weight.type = NumberType::F16;
    else if (found.dtype == Dtype::BF16)
      weight.type = NumberType::BF16;
    else if (found.dtype != Dtype::F32)
      fail(shards_.path_of(found),
           "has a tensor \"{}\" of type {}, which is not supported here; save it in F32, F16 or BF16",
           found.name, found.dtype_name);
    return weight;
  }

  /// Widened, for vectors are small and read as floats.
  const float* vector(const std::string& name, Index size) {
    const auto& found = tensor(name, {size});
    std::vector<float>& numbers = vectors_.emplace_back(static_cast<std::size_t>(size));
    if (const auto done = tiedlora::safetensors::try_read<float>(found, numbers); !done)
      fail(shards_.path_of(found), "cannot be used: {}", done.error());
    return numbers.data();
  }

  std::filesystem::path folder_;
  BaseConfig config_;
  SafetensorsShards shards_;
  std::vector<std::vector<float>> vectors_;
  std::set<std::string, std::less<>> used_;
  Model<float> model_;
};

}  // namespace llama
