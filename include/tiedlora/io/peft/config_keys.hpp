// What is known of the keys of an adapter_config.json: which change the function, and which do not.
#pragma once

#include <cstdint>      // uint8_t
#include <span>         // span
#include <string>       // string
#include <string_view>  // string_view

#include "../../views/config.hpp"
#include "../json/json.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace detail {

/// What is done with a key of the file.
enum class PeftKey : std::uint8_t {
  read,    ///< a field of PeftConfig
  skip,    ///< changes nothing in the function that a trained adapter computes
  tensor,  ///< must be off: else the file has tensors that are not an adapter's, which `partial` leaves out
  off      ///< must be off (null, false, empty or "none"): else A and B mean something else
};
struct PeftRule {
  std::string_view name = {};
  PeftKey key = PeftKey::read;
  std::string_view reason = {};
};

// Every key that PEFT 0.21.2 writes, and those of earlier versions.
inline constexpr PeftRule peft_common_rules[] = {
    {"peft_type"},
    {"base_model_name_or_path"},
    {"revision"},
    {"task_type"},
    {"auto_mapping"},
    {"r"},
    {"fan_in_fan_out"},
    {"target_modules"},
    {"layers_to_transform"},
    {"layers_pattern"},
    {"peft_version", PeftKey::skip},
    {"inference_mode", PeftKey::skip},
    {"runtime_config", PeftKey::skip},
    {"bias", PeftKey::tensor, "it trains the base model's biases; set bias = \"none\" and train again"},
    {"modules_to_save", PeftKey::tensor,
     "it holds whole modules of the base model, which no adapter can express"},
};
inline constexpr PeftRule peft_lora_rules[] = {
    {"lora_alpha"},
    {"use_rslora"},
    {"rank_pattern"},
    {"alpha_pattern"},
    {"init_lora_weights"},
    {"exclude_modules"},
    {"ensure_weight_tying"},
    {"lora_dropout", PeftKey::skip},
    {"loftq_config", PeftKey::skip},
    {"eva_config", PeftKey::skip},
    {"corda_config", PeftKey::skip},
    {"lora_ga_config", PeftKey::skip},
    {"velora_config", PeftKey::skip},  // how gradients are kept in training
    {"megatron_core", PeftKey::skip},
    {"qalora_group_size", PeftKey::skip},
    {"merge_weights", PeftKey::skip},
    {"enable_lora", PeftKey::off, "it adapts parts of fused modules (PEFT before 0.3)"},
    {"use_dora", PeftKey::off, "DoRA scales the columns of the merged weight, which depends on the base"},
    {"lora_bias", PeftKey::off, "it adds a trained bias after B"},
    {"layer_replication", PeftKey::off, "it adapts a base model whose layers are repeated"},
    {"trainable_token_indices", PeftKey::tensor, "it trains rows of the embedding"},
    {"target_parameters", PeftKey::tensor, "it adapts parameters other than a linear module's weight"},
    {"alora_invocation_tokens", PeftKey::off, "aLoRA acts only on tokens after its invocation"},
    {"use_qalora", PeftKey::off, "QALoRA pools the input of A"},
    {"use_bdlora", PeftKey::off, "BD-LoRA's matrices are block-diagonal"},
    {"arrow_config", PeftKey::off, "it routes between several adapters"},
    {"kasa_config", PeftKey::off, "KaSA changes the base model's weights"},
    {"monteclora_config", PeftKey::off, "it adds random samples to the adapter"},
    {"megatron_config", PeftKey::off, "its modules are split over several machines"},
};
inline constexpr PeftRule peft_vera_rules[] = {
    {"projection_prng_key"},         {"save_projection"},
    {"vera_dropout", PeftKey::skip}, {"d_initial", PeftKey::skip},
    {"init_weights", PeftKey::skip},
};

inline const PeftRule* find_peft_rule(bool lora, std::string_view name) {
  for (const PeftRule& rule : peft_common_rules)
    if (rule.name == name) return &rule;
  const auto rules = lora ? std::span<const PeftRule>(peft_lora_rules) : peft_vera_rules;
  for (const PeftRule& rule : rules)
    if (rule.name == name) return &rule;
  return nullptr;
}

/// Whether a value turns a feature off: null, false, 0, {}, [], "" or "none".
inline bool is_off(const Json& value) {
  if (const auto* text = value.get_ptr<const std::string*>()) return text->empty() || *text == "none";
  if (value.is_number()) return value.get<double>() == 0;
  return value.is_null() || value == false || (value.is_structured() && value.empty());
}

/// Whether an unknown key can change nothing: it is off, or another tool's note of its own version
/// ("unsloth_version": "2026.3.3"), or begins as remarks do ("_comment").
inline bool is_harmless(std::string_view name, const Json& value) {
  return is_off(value) || name.starts_with('_') || (name.ends_with("_version") && value.is_string());
}

}  // namespace detail
TIEDLORA_END_NAMESPACE
