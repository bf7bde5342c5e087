// A model of the Llama family in a GGUF file as the transformer reads it: in place, in the types of the file,
// rows of q and k in transformers' order.
#pragma once

#include <cmath>        // isfinite
#include <cstddef>      // byte, size_t
#include <cstdint>      // uint32_t, uintptr_t
#include <filesystem>   // path
#include <set>          // set
#include <string>       // string
#include <string_view>  // string_view
#include <vector>       // vector

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <tiedlora/io/gguf.hpp>

#include "gguf_config.hpp"
#include "model.hpp"

namespace llama {

class GgufModel {
 public:
  /// Throws std::runtime_error, naming file and tensor or key, for what is not a model that is computed here.
  explicit GgufModel(const std::filesystem::path& path)
      : path_(path), file_(tiedlora::gguf::open(path)), config_(GgufConfig(metadata()).result()) {
    read_rope_factors();
    const Config& c = config_.sizes;
    model_.config = c;
    model_.embedding = matrix("token_embd", c.width, c.vocabulary);
    for (Index l = 0; l < c.layers; ++l) model_.layers.push_back(layer(fmt::format("blk.{}.", l)));
    model_.final_norm = vector("output_norm.weight", c.width);
    model_.output = c.tied_embedding ? model_.embedding : matrix("output", c.width, c.vocabulary);
    for (const tiedlora::gguf::Tensor& tensor : file_.tensors())
      if (!used_.contains(tensor.name))
        metadata().fail(
            "has a tensor \"{}\", which is unknown for architecture \"{}\"; results would be wrong without "
            "it",
            tensor.name, config_.architecture);
  }

  const tiedlora::gguf::File& file() const { return file_; }
  const BaseConfig& config() const { return config_; }
  /// Valid as long as this.
  const Model<float>& model() const { return model_; }

 private:
  GgufMetadata metadata() const { return {path_, file_}; }

  ModelLayer<float> layer(const std::string& prefix) {
    const Config& c = config_.sizes;
    const Index W = c.width, Q = c.q_width(), KV = c.kv_width(), F = c.feed_forward, D = c.head_width();
    ModelLayer<float> layer = {
        .attention_norm = vector(prefix + "attn_norm.weight", W),
        .qkv = {turning(prefix + "attn_q", W, Q), turning(prefix + "attn_k", W, KV),
                matrix(prefix + "attn_v", W, KV)},
        .o = matrix(prefix + "attn_output", Q, W),
        .mlp_norm = vector(prefix + "ffn_norm.weight", W),
        .gate_up = {matrix(prefix + "ffn_gate", W, F), matrix(prefix + "ffn_up", W, F)},
        .down = matrix(prefix + "ffn_down", F, W)};
    if (config_.biases)
      layer.qkv_bias = {vector(prefix + "attn_q.bias", Q), vector(prefix + "attn_k.bias", KV),
                        vector(prefix + "attn_v.bias", KV)};
    if (c.head_norms) {
      layer.q_norm = vector(prefix + "attn_q_norm.weight", D);
      layer.k_norm = vector(prefix + "attn_k_norm.weight", D);
    }
    return layer;
  }

  /// Llama 3's scaling of RoPE is a tensor, by which what the metadata has is divided further.
  void read_rope_factors() {
    constexpr const char* tensor = "rope_freqs.weight";
    if (config_.architecture != "llama" || !file_.find_tensor(tensor)) return;
    std::vector<double>& divisors = config_.sizes.rope_divisors;
    const Index half = config_.sizes.head_width() / 2;
    const float* factors = vector(tensor, half);
    if (divisors.empty()) divisors.assign(static_cast<std::size_t>(half), 1);
    for (double& divisor : divisors) divisor *= static_cast<double>(*factors++);
    for (const double divisor : divisors)
      if (!(std::isfinite(divisor) && divisor > 0))
        metadata().fail("has a tensor \"{}\" with a value that is not positive", tensor);
  }

  const tiedlora::gguf::Tensor& tensor(const std::string& name_in_file, const std::vector<Index>& shape) {
    const auto* found = file_.find_tensor(name_in_file);
    if (!found) metadata().fail("has no tensor \"{}\"", name_in_file);
    if (found->shape != shape)
      metadata().fail("has a tensor \"{}\" of {{{}}}; {{{}}} is expected", name_in_file,
                      fmt::join(found->shape, ", "), fmt::join(shape, ", "));
    if (found->type == tiedlora::gguf::Type::F32 &&
        reinterpret_cast<std::uintptr_t>(found->bytes.data()) % alignof(float) != 0)
      metadata().fail("has a tensor \"{}\" that is not aligned to its elements", name_in_file);
    used_.insert(found->name);
    return *found;
  }

  Weight<float> matrix(const std::string& name_in_file, Index in, Index out) {
    const auto& found = tensor(name_in_file + ".weight", {in, out});
    const auto type = number_type_of(static_cast<std::uint32_t>(found.type));
    if (!type)
      metadata().fail(
          "has a tensor \"{}\" of type {} ({}), which is not supported here; use one of F32, F16, BF16, "
          "Q8_0, "
          "Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K",
          found.name, to_string(found.type), static_cast<std::uint32_t>(found.type));
    if (*type == NumberType::F32)
      return Weight<float>::plain(reinterpret_cast<const float*>(found.bytes.data()), out, in);
    return {.out = out, .in = in, .rows = found.bytes.data(), .type = *type};
  }
  /// One of q and k, whose rows llama.cpp's converter permutes in a Llama alone. Not plain, so that products
  /// ask for each row.
  Weight<float> turning(const std::string& name_in_file, Index in, Index out) {
    Weight<float> weight = matrix(name_in_file, in, out);
    if (config_.architecture != "llama") return weight;
    if (weight.numbers) weight.rows = reinterpret_cast<const std::byte*>(weight.numbers);
    weight.numbers = nullptr;
    weight.neighbours = config_.sizes.head_width();
    return weight;
  }

  const float* vector(const std::string& name_in_file, Index size) {
    const auto& found = tensor(name_in_file, {size});
    if (found.type != tiedlora::gguf::Type::F32)
      metadata().fail("has a tensor \"{}\" of type {}; F32 is expected", found.name, to_string(found.type));
    return reinterpret_cast<const float*>(found.bytes.data());
  }

  std::filesystem::path path_;
  tiedlora::gguf::File file_;
  BaseConfig config_;
  std::set<std::string_view> used_;
  Model<float> model_;
};

}  // namespace llama
