// A model of the Llama family in a GGUF file, read: its sizes, and where its weights lie in the mapped file.
#pragma once

#include <cmath>        // isfinite
#include <cstddef>      // size_t
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
#include "gguf_weight.hpp"

namespace llama {

/// One decoder layer's weights.
struct GgufLayer {
  const float *attn_norm, *ffn_norm;
  GgufWeight q, k, v, o, gate, up, down;
  const float *q_bias = nullptr, *k_bias = nullptr, *v_bias = nullptr;  ///< of qwen2
  const float *q_norm = nullptr, *k_norm = nullptr;                     ///< of qwen3
};

/// Throws std::runtime_error, naming file and tensor or key, for what is no model that is computed here.
class GgufModel {
 public:
  explicit GgufModel(const std::filesystem::path& path) : path_(path), file_(tiedlora::gguf::open(path)) {
    const BaseConfig config = GgufConfig(metadata()).result();
    sizes = config.sizes;
    context = config.context;
    architecture = config.architecture;
    name = config.name;
    embedding = matrix("token_embd", sizes.width, sizes.vocabulary);
    for (Index i = 0; i < sizes.layers; ++i) read_layer(fmt::format("blk.{}.", i), config.biases);
    Index number = 0;
    for (GgufLayer& layer : layers)
      for (GgufWeight* weight : {&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down})
        weight->number = number++;
    output_norm = vector("output_norm.weight", sizes.width);
    output = sizes.tied_embedding ? embedding : matrix("output", sizes.width, sizes.vocabulary);
    read_rope_factors();
    for (const tiedlora::gguf::Tensor& tensor : file_.tensors())
      if (!used_.contains(tensor.name))
        metadata().fail(
            "has a tensor \"{}\", which is not known here of a model of architecture \"{}\"; results would "
            "be "
            "wrong without it",
            tensor.name, architecture);
  }

  const tiedlora::gguf::File& file() const { return file_; }
  const std::filesystem::path& path() const { return path_; }

  Config sizes = {};
  Index context = 0;               ///< tokens of the longest text that it was trained for
  std::string architecture, name;  ///< of "general."; the name may be empty
  GgufWeight embedding = {};
  std::vector<GgufLayer> layers = {};
  const float* output_norm = nullptr;
  GgufWeight output = {};

 private:
  GgufMetadata metadata() const { return {path_, file_}; }

  void read_layer(const std::string& prefix, bool has_biases) {
    const Index W = sizes.width, Q = sizes.q_width(), KV = sizes.kv_width(), F = sizes.feed_forward;
    GgufLayer& layer = layers.emplace_back(GgufLayer{.attn_norm = vector(prefix + "attn_norm.weight", W),
                                                     .ffn_norm = vector(prefix + "ffn_norm.weight", W),
                                                     .q = matrix(prefix + "attn_q", W, Q),
                                                     .k = matrix(prefix + "attn_k", W, KV),
                                                     .v = matrix(prefix + "attn_v", W, KV),
                                                     .o = matrix(prefix + "attn_output", Q, W),
                                                     .gate = matrix(prefix + "ffn_gate", W, F),
                                                     .up = matrix(prefix + "ffn_up", W, F),
                                                     .down = matrix(prefix + "ffn_down", F, W)});
    if (has_biases) {
      layer.q_bias = vector(prefix + "attn_q.bias", Q);
      layer.k_bias = vector(prefix + "attn_k.bias", KV);
      layer.v_bias = vector(prefix + "attn_v.bias", KV);
    }
    if (sizes.head_norms) {
      layer.q_norm = vector(prefix + "attn_q_norm.weight", sizes.head_width());
      layer.k_norm = vector(prefix + "attn_k_norm.weight", sizes.head_width());
    }
  }

  /// Llama 3's scaling of RoPE is a tensor, by which what the metadata has is divided further.
  void read_rope_factors() {
    constexpr const char* tensor = "rope_freqs.weight";
    if (architecture != "llama" || !file_.find_tensor(tensor)) return;
    const Index half = sizes.head_width() / 2;
    const float* factors = vector(tensor, half);
    if (sizes.rope_divisors.empty()) sizes.rope_divisors.assign(static_cast<std::size_t>(half), 1);
    for (double& divisor : sizes.rope_divisors) divisor *= static_cast<double>(*factors++);
    for (const double divisor : sizes.rope_divisors)
      if (!(std::isfinite(divisor) && divisor > 0))
        metadata().fail("has a tensor \"{}\" with a number that is not positive", tensor);
  }

  const tiedlora::gguf::Tensor& tensor(const std::string& name_in_file, const std::vector<Index>& shape) {
    const auto* found = file_.find_tensor(name_in_file);
    if (!found) metadata().fail("has no tensor \"{}\"", name_in_file);
    if (found->shape != shape)
      metadata().fail("has a tensor \"{}\" of {{{}}}; its other sizes ask for {{{}}}", name_in_file,
                      fmt::join(found->shape, ", "), fmt::join(shape, ", "));
    if (found->type == tiedlora::gguf::Type::F32 &&
        reinterpret_cast<std::uintptr_t>(found->bytes.data()) % alignof(float) != 0)
      metadata().fail("has a tensor \"{}\" that is not aligned to its numbers", name_in_file);
    used_.insert(found->name);
    return *found;
  }

  GgufWeight matrix(const std::string& name_in_file, Index in, Index out) {
    const auto& found = tensor(name_in_file + ".weight", {in, out});
    GgufWeight weight = {.name = name_in_file, .in = in, .out = out, .data = found.bytes.data()};
    const auto type = number_type_of(static_cast<std::uint32_t>(found.type));
    if (!type)
      metadata().fail(
          "has a tensor \"{}\" of type {} ({}), which is not read here; use one of F32, F16, BF16, Q8_0, "
          "Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K",
          found.name, to_string(found.type), static_cast<std::uint32_t>(found.type));
    weight.type = *type;
    weight.row_bytes = static_cast<Index>(found.bytes.size()) / out;
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
  std::set<std::string_view> used_;
};

}  // namespace llama
