// How llama.cpp names the modules of a model, and in which order it keeps the rows of their weights.
#pragma once

#include <cstdint>      // uint8_t
#include <optional>     // optional
#include <string>       // string
#include <string_view>  // string_view
#include <vector>       // vector

#include "../../adapter/name_map.hpp"
#include "../../adapter/quote.hpp"
#include "../../adapter/result.hpp"
#include "../../views/config.hpp"
#include "../../views/error.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace gguf {

/// In which order the rows of q and k stood in the weights that the adapter was trained on. llama.cpp's
/// conversion permutes them within each head (its RoPE turns neighbours where transformers' turns halves).
enum class Order : std::uint8_t {
  gguf,         ///< as in GGUF files: trained in llama.cpp, or in an engine that read a GGUF file
  hugging_face  ///< as in transformers: trained there, or on its safetensors
};

/// An Order that was stated: there is no default, since a wrong one gives an adapter that loads and is wrong.
struct StatedOrder {
  /// An Order states itself.
  StatedOrder(Order stated) : value(stated) {}
  Order value;  ///< the one that was stated
};

/// Modules whose rows GGUF keeps permuted, by a file name with '*' as in NameRule, and their heads.
struct PermutedRows {
  std::string file = {};  ///< e.g. "blk.*.attn_q"
  Index heads = 0;        ///< in which its rows are permuted
};

/// What an adapter's modules are called in a GGUF file.
struct Naming {
  std::string architecture = {};            ///< general.architecture: that of the base model's file
  NameMap names = {};                       ///< module ↔ base tensor without ".weight": "blk.0.attn_q"
  std::vector<PermutedRows> permuted = {};  ///< for adapters in Order::hugging_face; else empty
  bool names_of_file = false;               ///< modules are called as in the file; `names` is not looked at

  /// What the file calls the module, and which module the file means; nothing if no rule matches.
  std::optional<std::string> to_file(std::string_view module) const {
    return names_of_file ? std::string(module) : names.to_file(module);
  }
  /// `bare`: without the prefix of the whole model, where the naming knows both.
  std::optional<std::string> to_module(std::string_view file, bool bare = false) const {
    if (names_of_file) return std::string(file);
    return bare ? names.to_bare_module(file) : names.to_module(file);
  }
};

/// The modules by the names that the file gives them, of any architecture: to look at an adapter, or for
/// engines that use GGUF's names. Rows stay as they are.
inline Naming as_in_file() {
  Naming naming;
  naming.names_of_file = true;
  return naming;
}

/// What must be known about a Llama model: `{.heads = 9, .kv_heads = 3, .weights = Order::gguf}`.
struct LlamaOptions {
  Index heads = 0;      ///< num_attention_heads; looked at only where rows are permuted
  Index kv_heads = 0;   ///< num_key_value_heads
  StatedOrder weights;  ///< which the adapter was trained on
};

/// The modules of transformers' Llama (and Mistral, whose GGUF architecture is "llama" too), with "model."
/// before them or without. Other architectures: naming_of (architectures.hpp).
inline Naming llama(const LlamaOptions& options) {
  Naming naming{.architecture = "llama", .names = names::llama()};
  if (options.weights.value == Order::hugging_face)
    naming.permuted = {{"blk.*.attn_q", options.heads}, {"blk.*.attn_k", options.kv_heads}};
  return naming;
}

/// The modules of transformers' GPT-2, with "transformer." before them or without. No rows are permuted.
inline Naming gpt2() { return {.architecture = "gpt2", .names = names::gpt2()}; }

/// Where transformers keeps what GGUF keeps in this row of a weight with `heads` heads; with none, rows are
/// where they are. Within a head of 2n rows GGUF's 2j + i is transformers' i·n + j (i < 2, j < n):
/// convert_hf_to_gguf.py's reshape(heads, 2, n, in).swapaxes(1, 2).
inline Index hugging_face_row(Index row, Index rows, Index heads) {
  if (heads == 0) return row;
  const Index size = rows / heads, within = row % size;
  return row - within + within % 2 * (size / 2) + within / 2;
}

namespace detail {
using namespace tiedlora::detail;
/// The heads by which a module's rows are permuted; 0: they are not. A Failure where the heads do not divide
/// them.
inline Result<Index> try_heads(const Naming& naming, std::string_view file, Index rows) {
  for (const PermutedRows& permuted : naming.permuted) {
    if (!NameMap::match(permuted.file, file)) continue;
    if (permuted.heads <= 0)
      return Failure{message("module ", in_quotes(file), ": its rows are permuted within each head, but ",
                             permuted.heads, " heads are given; give the model's number of heads")};
    if (rows % permuted.heads != 0 || rows / permuted.heads % 2 != 0)
      return Failure{message("module ", in_quotes(file), ": its ", rows, " rows are not ", permuted.heads,
                             " heads of an even size (wrong number of heads?)")};
    return permuted.heads;
  }
  return Index{0};
}

}  // namespace detail
}  // namespace gguf
TIEDLORA_END_NAMESPACE
