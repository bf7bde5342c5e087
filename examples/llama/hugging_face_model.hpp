// The model of a Hugging Face folder as the transformer reads it: in place, in the types of its files.
#pragma once

#include <cstddef>      // size_t
#include <filesystem>   // path
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
  /// Throws std::runtime_error, naming file, key or tensor, for what is no model that is computed here.
  explicit HuggingFaceModel(const std::filesystem::path& folder)
      : folder_(folder), config_(read_config(folder / "config.json")), shards_(folder) {
    const Config& c = config_.sizes;
    Model<float>& model = model_;
    model.config = c;
    model.embedding = matrix("model.embed_tokens", c.vocabulary, c.width);
    for (Index l = 0; l < c.layers; ++l) {
      const auto name = [l](const char* part) { return fmt::format("model.layers.{}.{}", l, part); };
      model.layers.push_back({.attention_norm = vector(name("input_layernorm.weight"), c.width),
                              .qkv = {matrix(name("self_attn.q_proj"), c.width, c.width),
                                      matrix(name("self_attn.k_proj"), c.kv_width(), c.width),
                                      matrix(name("self_attn.v_proj"), c.kv_width(), c.width)},
                              .o = matrix(name("self_attn.o_proj"), c.width, c.width),
                              .mlp_norm = vector(name("post_attention_layernorm.weight"), c.width),
                              .gate_up = {matrix(name("mlp.gate_proj"), c.feed_forward, c.width),
                                          matrix(name("mlp.up_proj"), c.feed_forward, c.width)},
                              .down = matrix(name("mlp.down_proj"), c.width, c.feed_forward)});
    }
    model.final_norm = vector("model.norm.weight", c.width);
    // Files of tied models may have the matrix a second time.
    if (c.tied_embedding) used_.insert("lm_head.weight");
    model.output = c.tied_embedding ? model.embedding : matrix("lm_head", c.vocabulary, c.width);
    shards_.for_each([this](const tiedlora::safetensors::Tensor& tensor, const std::filesystem::path& path) {
      if (!used_.contains(tensor.name))
        throw std::runtime_error(
            fmt::format("\"{}\" has a tensor \"{}\", which a model of type \"{}\" does not have here; the "
                        "result would be wrong without it",
                        path.string(), tensor.name, config_.architecture));
    });
  }

  const HuggingFaceConfig& config() const { return config_; }
  /// Valid as long as this.
  const Model<float>& model() const { return model_; }

 private:
  template <class... Parts>
  [[noreturn]] void fail(fmt::format_string<Parts...> text, Parts&&... parts) const {
    throw std::runtime_error(
        fmt::format("\"{}\" {}", folder_.string(), fmt::format(text, std::forward<Parts>(parts)...)));
  }

  const tiedlora::safetensors::Tensor& tensor(const std::string& name, const std::vector<Index>& shape) {
    const auto* found = shards_.find(name);
    if (!found) fail("has no tensor \"{}\"", name);
    if (found->shape != shape)
      fail("has a tensor \"{}\" of [{}]; its config.json asks for [{}]", name, fmt::join(found->shape, ", "),
           fmt::join(shape, ", "));
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
      fail("has a tensor \"{}\" of type {}, which is not read here; save it in F32, F16 or BF16", found.name,
           found.dtype_name);
    return weight;
  }

  /// Widened, for vectors are small and read as floats.
  const float* vector(const std::string& name, Index size) {
    const auto& found = tensor(name, {size});
    std::vector<float>& numbers = vectors_.emplace_back(static_cast<std::size_t>(size));
    if (const auto done = tiedlora::safetensors::try_read<float>(found, numbers); !done)
      fail("cannot be used: {}", done.error());
    return numbers.data();
  }

  std::filesystem::path folder_;
  HuggingFaceConfig config_;
  SafetensorsShards shards_;
  std::vector<std::vector<float>> vectors_;
  std::set<std::string, std::less<>> used_;
  Model<float> model_;
};

}  // namespace llama
