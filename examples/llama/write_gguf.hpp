// The model as a file that llama.cpp runs: GGUF in float32, with a tokenizer whose tokens are bytes.
#pragma once

#include <algorithm>   // copy_n
#include <cstddef>     // byte, size_t
#include <cstdint>     // uint32_t
#include <filesystem>  // path, create_directories
#include <span>        // as_bytes, span
#include <stdexcept>   // invalid_argument
#include <string>      // string
#include <vector>      // vector

#include <tiedlora/io/gguf/naming.hpp>
#include <tiedlora/io/gguf/write.hpp>

#include "unicode.hpp"
#include "weights.hpp"

namespace llama {

/// How the model's tensors are called in GGUF; rows of q and k are permuted, as llama.cpp wants them.
inline tiedlora::gguf::Naming gguf_naming(const Config& model) {
  return tiedlora::gguf::llama(
      {.heads = model.heads, .kv_heads = model.kv_heads, .weights = tiedlora::gguf::Order::hugging_face});
}

/// The 256 bytes as GPT-2's tokenizer spells them.
inline std::vector<std::string> byte_tokens() {
  std::vector<std::string> tokens;
  for (const char32_t c : byte_characters()) append_utf8(c, tokens.emplace_back());
  return tokens;
}

/// Writes the model as one file. Throws tiedlora::Error if it cannot be written.
inline void save_gguf(const std::filesystem::path& path, const Weights<float>& weights,
                      const std::string& name) {
  using tiedlora::Index;
  const Config& config = weights.config();
  if (config.vocabulary != 256) throw std::invalid_argument("--export gguf: tokens must be the 256 bytes");
  tiedlora::gguf::Naming naming = gguf_naming(config);
  naming.names.add({"model.embed_tokens", "token_embd"});
  naming.names.add({"model.norm", "output_norm"});
  naming.names.add({"model.layers.*.input_layernorm", "blk.*.attn_norm"});
  naming.names.add({"model.layers.*.post_attention_layernorm", "blk.*.ffn_norm"});

  const auto number = [](Index value) { return static_cast<std::uint32_t>(value); };
  const std::vector<tiedlora::gguf::MetadataEntry> metadata = {
      {"general.architecture", "llama"},
      {"general.name", name},
      {"llama.context_length", std::uint32_t{2048}},
      {"llama.vocab_size", number(config.vocabulary)},
      {"llama.embedding_length", number(config.width)},
      {"llama.block_count", number(config.layers)},
      {"llama.feed_forward_length", number(config.feed_forward)},
      {"llama.attention.head_count", number(config.heads)},
      {"llama.attention.head_count_kv", number(config.kv_heads)},
      {"llama.attention.layer_norm_rms_epsilon", static_cast<float>(config.norm_epsilon)},
      {"llama.attention.key_length", number(config.head_width())},
      {"llama.attention.value_length", number(config.head_width())},
      {"llama.rope.dimension_count", number(config.head_width())},
      {"llama.rope.freq_base", static_cast<float>(config.rope_base)},
      {"tokenizer.ggml.model", "gpt2"},  // with no merges every byte is a token
      {"tokenizer.ggml.pre", "gpt-2"},
      {"tokenizer.ggml.tokens", byte_tokens()},
      {"tokenizer.ggml.merges", std::vector<std::string>()},
      {"tokenizer.ggml.eos_token_id", std::uint32_t{0}}};  // text has no zero bytes

  std::vector<tiedlora::gguf::Entry> entries;
  std::vector<float> rows;  // the permuted rows of the tensor that is being written
  for (const WeightEntry& entry : weights.entries()) {
    const std::string file =
        naming.names.to_file(entry.name.substr(0, entry.name.rfind('.'))).value_or(entry.name);
    const Index heads = file.ends_with("attn_q")   ? config.heads
                        : file.ends_with("attn_k") ? config.kv_heads
                                                   : 0;
    std::vector<Index> shape = {entry.rows};
    if (entry.cols > 1) shape = {entry.cols, entry.rows};
    entries.push_back({.name = file + ".weight", .shape = shape, .data = [&, heads] {
                         std::span<const float> values = weights.values(entry.name);
                         if (heads > 0) {
                           rows.resize(values.size());
                           for (Index row = 0; row < entry.rows; ++row)
                             std::copy_n(
                                 values.data() +
                                     tiedlora::gguf::hugging_face_row(row, entry.rows, heads) * entry.cols,
                                 entry.cols, rows.data() + row * entry.cols);
                           values = rows;
                         }
                         return tiedlora::Result<std::span<const std::byte>>(std::as_bytes(values));
                       }});
  }
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path());
  if (const tiedlora::Status done = tiedlora::gguf::try_save(path, metadata, entries); !done)
    throw tiedlora::Error(done.error());
}

}  // namespace llama
