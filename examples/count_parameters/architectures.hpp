// Where the config.json of each type of model keeps its sizes, and what transformers takes where they are
// missing (version 5.23; tests/golden/counts_golden.py asks it).
#pragma once

#include <string>       // string
#include <string_view>  // string_view
#include <vector>       // vector

#include "model.hpp"  // Index

namespace count_parameters::detail {

/// Keys of one size; null where the family has none. `alias` is another name for the same.
struct Key {
  const char* name = nullptr;
  const char* alias = nullptr;
};
struct Keys {
  Key layers = {"num_hidden_layers"}, width = {"hidden_size"}, heads = {"num_attention_heads"};
  Key key_heads = {"num_key_value_heads"}, head_size = {"head_dim"}, feed_forward = {"intermediate_size"};
};

/// Instead of a number: `derived` is as many key-value heads as heads, a head size of width / heads, a
/// feed-forward size of 4 × width; `required` has no default.
inline constexpr Index derived = 0, required = -1;

/// What transformers takes for keys that a file leaves out.
struct Defaults {
  Index layers = required, width = required, heads = required;
  Index key_heads = derived, head_size = derived, feed_forward = derived;
};

struct Architecture {
  const char* model_type = nullptr;
  Keys keys = {};
  Defaults defaults = {};
  bool null_key_heads = false, null_head_size = false;  ///< null is derived, though the default is a number
  bool gated = true;
  bool fused_attention = false, fused_feed_forward = false;
  bool has_multi_query = false;   ///< one key-value head unless "multi_query" is false
  bool is_falcon = false;         ///< likewise, and with "new_decoder_architecture" as many as key_heads says
  const char* experts = nullptr;  ///< the key that counts them, where the feed-forward part holds experts
};

inline const std::vector<Architecture>& architectures() {
  constexpr Key none = {};
  constexpr Keys usual = {}, no_head_size = {.head_size = none};
  constexpr Keys old = {.key_heads = none, .head_size = none};  // as many key-value heads as heads
  constexpr Keys gpt2 = {.layers = {"n_layer", "num_hidden_layers"},
                         .width = {"n_embd", "hidden_size"},
                         .heads = {"n_head", "num_attention_heads"},
                         .key_heads = none,
                         .head_size = none,
                         .feed_forward = {"n_inner"}};
  constexpr Keys opt = {.key_heads = none, .head_size = none, .feed_forward = {"ffn_dim"}};
  constexpr Keys bloom = {.layers = {"n_layer", "num_hidden_layers"},
                          .width = {"hidden_size", "n_embed"},
                          .heads = {"n_head", "num_attention_heads"},
                          .key_heads = none,
                          .head_size = none,
                          .feed_forward = none};
  constexpr Keys falcon = {
      .key_heads = {"num_kv_heads"}, .head_size = none, .feed_forward = {"ffn_hidden_size"}};
  constexpr Defaults bert = {12, 768, 12, derived, derived, 3072}, gemma2 = {26, 2304, 8, 4, 256, 9216};
  constexpr Defaults llama = {32, 4096, 32, derived, derived, 11008};
  constexpr Defaults qwen2_vl = {80, 8192, 64, 8, derived, 29568};
  constexpr const char *local = "num_local_experts", *experts = "num_experts";
  // layers, width, heads, key-value heads, head size, feed-forward size
  static const std::vector<Architecture> all = {
      {.model_type = "llama", .keys = usual, .defaults = llama},
      {.model_type = "mistral", .keys = usual, .defaults = {32, 4096, 32, 8, derived, 14336}},
      {.model_type = "ministral", .keys = usual, .defaults = {32, 4096, 32, 8, required, 14336}},
      {.model_type = "ministral3", .keys = usual, .defaults = {34, 4096, 32, 8, 128, 14336}},
      {.model_type = "qwen2",
       .keys = usual,
       .defaults = {32, 4096, 32, 32, derived, 22016},
       .null_key_heads = true},
      {.model_type = "qwen3",
       .keys = usual,
       .defaults = {32, 4096, 32, 32, 128, 22016},
       .null_key_heads = true},
      {.model_type = "gemma", .keys = usual, .defaults = {28, 3072, 16, 16, 256, 24576}},
      {.model_type = "gemma2", .keys = usual, .defaults = gemma2},
      {.model_type = "gemma3_text", .keys = usual, .defaults = gemma2},
      {.model_type = "granite", .keys = usual, .defaults = llama},
      {.model_type = "olmo", .keys = usual, .defaults = llama},
      {.model_type = "olmo2", .keys = usual, .defaults = llama},
      {.model_type = "olmo3", .keys = usual, .defaults = llama},
      {.model_type = "smollm3",
       .keys = usual,
       .defaults = {36, 2048, 16, 4, derived, 11008},
       .null_key_heads = true},
      {.model_type = "stablelm", .keys = no_head_size, .defaults = {32, 2560, 32, 32, derived, 6912}},
      {.model_type = "cohere", .keys = usual, .defaults = {40, 8192, 64, derived, derived, 22528}},
      {.model_type = "cohere2", .keys = usual, .defaults = {40, 8192, 64, derived, derived, 22528}},
      {.model_type = "exaone4", .keys = usual, .defaults = {32, 4096, 32, 32, derived, 16384}},
      {.model_type = "seed_oss",
       .keys = usual,
       .defaults = {64, 4096, 80, 8, 128, 27648},
       .null_key_heads = true,
       .null_head_size = true},
      {.model_type = "hunyuan_v1_dense", .keys = usual, .defaults = {32, 4096, 32, derived, required, 11008}},
      {.model_type = "ernie4_5",
       .keys = usual,
       .defaults = {18, 1024, 16, 2, 128, 3072},
       .null_key_heads = true,
       .null_head_size = true},
      {.model_type = "glm",
       .keys = usual,
       .defaults = {40, 4096, 32, 2, 128, 13696},
       .fused_feed_forward = true},
      {.model_type = "glm4",
       .keys = usual,
       .defaults = {40, 4096, 32, 2, 128, 13696},
       .fused_feed_forward = true},
      {.model_type = "phi3",
       .keys = usual,
       .defaults = {32, 3072, 32, derived, derived, 8192},
       .fused_attention = true,
       .fused_feed_forward = true},
      {.model_type = "qwen2_vl", .keys = no_head_size, .defaults = qwen2_vl},
      {.model_type = "qwen2_vl_text", .keys = no_head_size, .defaults = qwen2_vl},
      {.model_type = "qwen2_5_vl", .keys = no_head_size, .defaults = qwen2_vl},
      {.model_type = "qwen2_5_vl_text", .keys = no_head_size, .defaults = qwen2_vl},
      {.model_type = "qwen3_vl_text", .keys = usual, .defaults = {32, 4096, 32, 32, 128, 22016}},
      // Without a gate.
      {.model_type = "phi",
       .keys = usual,
       .defaults = {24, 2048, 32, derived, derived, 8192},
       .gated = false},
      {.model_type = "starcoder2",
       .keys = usual,
       .defaults = {30, 3072, 24, 2, derived, 12288},
       .gated = false},
      {.model_type = "nemotron",
       .keys = usual,
       .defaults = {32, 6144, 48, required, derived, 24576},
       .gated = false},
      {.model_type = "arcee",
       .keys = usual,
       .defaults = {32, 2560, 32, derived, derived, 18432},
       .gated = false},
      {.model_type = "gpt2",
       .keys = gpt2,
       .defaults = {12, 768, 12},
       .gated = false,
       .fused_attention = true},
      {.model_type = "gptj", .keys = gpt2, .defaults = {28, 4096, 16}, .gated = false},
      {.model_type = "codegen",
       .keys = gpt2,
       .defaults = {28, 4096, 16},
       .gated = false,
       .fused_attention = true},
      {.model_type = "gpt_bigcode",
       .keys = gpt2,
       .defaults = {12, 768, 12},
       .gated = false,
       .fused_attention = true,
       .has_multi_query = true},
      {.model_type = "gpt_neox",
       .keys = old,
       .defaults = {44, 6144, 64, derived, derived, 24576},
       .gated = false,
       .fused_attention = true},
      {.model_type = "bloom", .keys = bloom, .defaults = {2, 64, 8}, .gated = false, .fused_attention = true},
      {.model_type = "falcon",
       .keys = falcon,
       .defaults = {32, 4544, 71},
       .gated = false,
       .fused_attention = true,
       .is_falcon = true},
      {.model_type = "opt", .keys = opt, .defaults = bert, .gated = false},
      {.model_type = "bert", .keys = old, .defaults = bert, .gated = false},
      {.model_type = "roberta", .keys = old, .defaults = bert, .gated = false},
      {.model_type = "xlm-roberta", .keys = old, .defaults = bert, .gated = false},
      // Attention alone is counted.
      {.model_type = "mixtral",
       .keys = usual,
       .defaults = {32, 4096, 32, 8, derived, required},
       .experts = local},
      {.model_type = "qwen2_moe",
       .keys = usual,
       .defaults = {24, 2048, 16, 16, derived, required},
       .experts = experts},
      {.model_type = "qwen3_moe",
       .keys = usual,
       .defaults = {24, 2048, 32, 4, derived, required},
       .experts = experts},
      {.model_type = "olmoe",
       .keys = usual,
       .defaults = {16, 2048, 16, derived, derived, required},
       .experts = experts},
      {.model_type = "granitemoe",
       .keys = usual,
       .defaults = {32, 4096, 32, derived, derived, required},
       .experts = local},
      {.model_type = "phimoe",
       .keys = usual,
       .defaults = {32, 4096, 32, 8, derived, required},
       .experts = local},
      {.model_type = "gpt_oss", .keys = usual, .defaults = {36, 2880, 64, 8, 64, required}, .experts = local},
      {.model_type = "llama4_text",
       .keys = usual,
       .defaults = {48, 5120, 40, 8, 128, required},
       .experts = local},
  };
  return all;
}

/// Null for a type that is not known.
inline const Architecture* find_architecture(std::string_view model_type) {
  for (const Architecture& one : architectures())
    if (model_type == one.model_type) return &one;
  return nullptr;
}

/// Why models of a type are not counted, though it is known; null for all others.
inline const char* why_not_counted(std::string_view model_type) {
  struct Reason {
    std::string_view types;
    const char* reason;
  };
  static constexpr Reason reasons[] = {
      {" deepseek_v2 deepseek_v3 kimi_k2 minicpm3 glm4_moe_lite ",
       "its q, k and v are latent attention (q_a_proj, q_b_proj, kv_a_proj_with_mqa, kv_b_proj), which are "
       "none of "
       "--targets"},
      {" mamba mamba2 falcon_mamba rwkv ", "it has no attention, so none of --targets"},
      {" jamba bamba zamba zamba2 recurrent_gemma qwen3_next qwen3_5_text falcon_h1 nemotron_h lfm2 "
       "granitemoehybrid ",
       "its layers are not alike: not all of them have attention"},
      {" gemma3n_text gemma4_text mllama_text_model deci openelm nemotron-nas ",
       "its layers are not alike: their sizes or parts differ"},
      {" t5 mt5 umt5 bart mbart pegasus whisper m2m_100 marian ",
       "it has an encoder and a decoder, whose layers differ"}};
  const std::string word = " " + std::string(model_type) + " ";
  for (const Reason& one : reasons)
    if (one.types.find(word) != one.types.npos) return one.reason;
  return nullptr;
}

/// The type of the language model inside where the file does not say it; null if the family has no such
/// default.
inline const char* inner_type(std::string_view model_type) {
  struct Inner {
    const char *outer, *inner;
  };
  static constexpr Inner all[] = {{"gemma3", "gemma3_text"},
                                  {"paligemma", "gemma"},
                                  {"llava", "llama"},
                                  {"llava_next", "llama"},
                                  {"vipllava", "llama"},
                                  {"llava_onevision", "qwen2"},
                                  {"llama4", "llama4_text"},
                                  {"mistral3", "mistral"},
                                  {"qwen2_vl", "qwen2_vl_text"},
                                  {"qwen3_vl", "qwen3_vl_text"},
                                  {"qwen2_5_vl", "qwen2_5_vl_text"},
                                  {"idefics3", "llama"},
                                  {"smolvlm", "llama"},
                                  {"internvl", "qwen2"},
                                  {"aya_vision", "cohere2"},
                                  {"got_ocr2", "qwen2"},
                                  {"deepseek_vl", "llama"},
                                  {"janus", "llama"},
                                  {"cohere2_vision", "cohere2"},
                                  {"blip-2", "opt"},
                                  {"gemma3n", "gemma3n_text"},
                                  {"gemma4", "gemma4_text"},
                                  {"mllama", "mllama_text_model"},
                                  {"qwen3_5", "qwen3_5_text"}};
  for (const Inner& one : all)
    if (model_type == one.outer) return one.inner;
  return nullptr;
}

}  // namespace count_parameters::detail
