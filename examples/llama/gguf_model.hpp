// A Llama model in a GGUF file, read: its sizes, and where its weights lie in the mapped file.
#pragma once

#include <cmath>        // isfinite
#include <cstdint>      // uint32_t, uintptr_t
#include <filesystem>   // path
#include <set>          // set
#include <stdexcept>    // runtime_error
#include <string>       // string
#include <string_view>  // string_view
#include <utility>      // move
#include <vector>       // vector

#include <fmt/format.h>
#include <tiedlora/io/gguf.hpp>

#include "config.hpp"
#include "gguf_weight.hpp"

namespace llama {

/// One decoder layer's weights.
struct GgufLayer {
  const float *attn_norm, *ffn_norm;
  GgufWeight q, k, v, o, gate, up, down;
};

/// Throws std::runtime_error, naming file and tensor or key, for what is no Llama model that this engine
/// computes.
class GgufModel {
 public:
  explicit GgufModel(const std::filesystem::path& path) : path_(path), file_(tiedlora::gguf::open(path)) {
    read_sizes();
    embedding = matrix("token_embd", sizes.width, sizes.vocabulary);
    for (Index i = 0; i < sizes.layers; ++i) {
      const auto name = [i](const char* part) { return fmt::format("blk.{}.{}", i, part); };
      const Index q_width = sizes.heads * sizes.head_width();
      layers.push_back({.attn_norm = vector(name("attn_norm")),
                        .ffn_norm = vector(name("ffn_norm")),
                        .q = matrix(name("attn_q"), sizes.width, q_width),
                        .k = matrix(name("attn_k"), sizes.width, sizes.kv_width()),
                        .v = matrix(name("attn_v"), sizes.width, sizes.kv_width()),
                        .o = matrix(name("attn_output"), q_width, sizes.width),
                        .gate = matrix(name("ffn_gate"), sizes.width, sizes.feed_forward),
                        .up = matrix(name("ffn_up"), sizes.width, sizes.feed_forward),
                        .down = matrix(name("ffn_down"), sizes.feed_forward, sizes.width)});
    }
    Index number = 0;
    for (GgufLayer& layer : layers)
      for (GgufWeight* weight : {&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down})
        weight->number = number++;
    output_norm = vector("output_norm");
    // Without an output matrix the embedding is it.
    sizes.tied_embedding = !file_.find_tensor("output.weight");
    output = sizes.tied_embedding ? embedding : matrix("output", sizes.width, sizes.vocabulary);
    for (const tiedlora::gguf::Tensor& tensor : file_.tensors())
      if (!used_.contains(tensor.name))
        fail("has a tensor \"{}\", which this engine does not know; its result would be wrong without it",
             tensor.name);
  }

  const tiedlora::gguf::File& file() const { return file_; }
  const std::filesystem::path& path() const { return path_; }

  Config sizes = {};
  Index context = 0;  ///< tokens of the longest text that it was trained for
  GgufWeight embedding = {};
  std::vector<GgufLayer> layers = {};
  const float* output_norm = nullptr;
  GgufWeight output = {};

 private:
  template <class... Parts>
  [[noreturn]] void fail(fmt::format_string<Parts...> text, Parts&&... parts) const {
    throw std::runtime_error(
        fmt::format("\"{}\" {}", path_.string(), fmt::format(text, std::forward<Parts>(parts)...)));
  }

  std::string_view text(std::string_view key) const {
    const auto* value = file_.find_value(key);
    return value ? value->text().value_or("?") : std::string_view();
  }
  double number(const std::string& key, double least, double most) const {
    const auto* value = file_.find_value(key);
    if (!value) fail("has no \"{}\"", key);
    const double result = value->number().value_or(0);
    if (!(result >= least && result <= most))
      fail("has {} = {}; a number from {} to {} is expected", key, result, least, most);
    return result;
  }

  void read_sizes() {
    if (const auto type = text("general.type"); !type.empty() && type != "model")
      fail("is no model: its general.type is \"{}\"", type);
    if (const auto architecture = text("general.architecture"); architecture != "llama")
      fail("is a model of architecture \"{}\"; this engine runs \"llama\"", architecture);
    const auto natural = [this](const char* key, double most) {
      return static_cast<Index>(number(std::string("llama.") + key, 1, most));
    };
    sizes.rope_pairs = RopePairs::neighbours;
    sizes.layers = natural("block_count", 1e4);
    sizes.width = natural("embedding_length", 1e6);
    sizes.feed_forward = natural("feed_forward_length", 1e7);
    context = natural("context_length", 1e9);
    sizes.heads = natural("attention.head_count", 1e4);
    sizes.kv_heads = file_.find_value("llama.attention.head_count_kv")
                         ? natural("attention.head_count_kv", 1e4)
                         : sizes.heads;
    sizes.norm_epsilon = number("llama.attention.layer_norm_rms_epsilon", 0, 1);
    if (file_.find_value("llama.rope.freq_base")) sizes.rope_base = number("llama.rope.freq_base", 1, 1e12);
    if (sizes.width % sizes.heads != 0 || sizes.heads % sizes.kv_heads != 0)
      fail("has {} heads with {} for keys and values and width {}, which do not divide each other",
           sizes.heads, sizes.kv_heads, sizes.width);
    if (sizes.width % block_size != 0 || sizes.feed_forward % block_size != 0 || sizes.head_width() % 8 != 0)
      fail("has widths {} and {} and heads of {}; multiples of {} and, for heads, of 8 are expected",
           sizes.width, sizes.feed_forward, sizes.head_width(), block_size);
    if (file_.find_value("llama.rope.dimension_count") &&
        natural("rope.dimension_count", 1e6) != sizes.head_width())
      fail("turns only a part of each head by RoPE, which this engine does not");
    for (const char* key : {"llama.rope.scaling.type", "llama.expert_count", "llama.attention.key_length"})
      if (file_.find_value(key)) fail("has a \"{}\", which this engine does not compute", key);
    const auto* embedding_tensor = file_.find_tensor("token_embd.weight");
    if (!embedding_tensor || embedding_tensor->shape.size() != 2) fail("has no matrix \"token_embd.weight\"");
    sizes.vocabulary = embedding_tensor->shape[1];
    if (sizes.vocabulary < 1 || sizes.vocabulary > 1 << 30) fail("has {} tokens", sizes.vocabulary);
  }

  const tiedlora::gguf::Tensor& tensor(const std::string& name, const std::vector<Index>& shape) {
    const auto* found = file_.find_tensor(name);
    if (!found) fail("has no tensor \"{}\"", name);
    if (found->shape != shape)
      fail("has a tensor \"{}\" of {{{}}}; its other sizes ask for {{{}}}", name,
           fmt::join(found->shape, ", "), fmt::join(shape, ", "));
    if (found->type == tiedlora::gguf::Type::F32 &&
        reinterpret_cast<std::uintptr_t>(found->bytes.data()) % alignof(float) != 0)
      fail("has a tensor \"{}\" that is not aligned to its numbers", name);
    used_.insert(found->name);
    return *found;
  }

  GgufWeight matrix(const std::string& name, Index in, Index out) {
    const auto& found = tensor(name + ".weight", {in, out});
    GgufWeight weight = {.name = name, .in = in, .out = out, .data = found.bytes.data()};
    const auto type = number_type_of(static_cast<std::uint32_t>(found.type));
    if (!type)
      fail(
          "has a tensor \"{}\" of type {} ({}), which is not read here; use one of F32, F16, BF16, Q8_0, "
          "Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K",
          found.name, to_string(found.type), static_cast<std::uint32_t>(found.type));
    weight.type = *type;
    weight.row_bytes = static_cast<Index>(found.bytes.size()) / out;
    return weight;
  }

  const float* vector(const std::string& name) {
    const auto& found = tensor(name + ".weight", {sizes.width});
    if (found.type != tiedlora::gguf::Type::F32)
      fail("has a tensor \"{}\" of type {}; F32 is expected", found.name, to_string(found.type));
    return reinterpret_cast<const float*>(found.bytes.data());
  }

  std::filesystem::path path_;
  tiedlora::gguf::File file_;
  std::set<std::string_view> used_;
};

}  // namespace llama
