// Why a tensor of a file is not part of an adapter that can be read: which tool or feature names tensors like
// that.
#pragma once

#include <string>       // string
#include <string_view>  // string_view

#include "../../adapter/quote.hpp"
#include "../../views/config.hpp"
#include "../../views/error.hpp"
#include "config.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace detail {
inline constexpr std::string_view peft_prefix = "base_model.model.";

/// The adapter's name in "….lora_A.NAME.weight"; empty if there is none.
inline std::string_view adapter_name_in(std::string_view tensor) {
  for (const std::string_view factor : {".lora_A.", ".lora_B."}) {
    const std::size_t at = tensor.rfind(factor);
    if (at == tensor.npos || !tensor.ends_with(".weight")) continue;
    const std::string_view rest = tensor.substr(at + factor.size());
    if (rest.size() > 7) return rest.substr(0, rest.size() - 7);
  }
  return {};
}

/// The reason, to be read after the tensor's name.
inline std::string unknown_peft_tensor(std::string_view name, const PeftConfig& config) {
  const auto has = [name](std::string_view part) { return name.find(part) != name.npos; };
  const bool prefixed = name.starts_with(peft_prefix);
  if (has("lora_embedding_")) return "adapters of embeddings are not supported";
  if (has(".lora_B.bias")) return "a bias after B (lora_bias) is not supported";
  if (has("lora_magnitude_vector")) return "DoRA's magnitudes are not supported";
  if (name.starts_with("lora_unet_") || name.starts_with("lora_te") || has(".lora_down.") || has(".lora_up."))
    return "it is named as in kohya's sd-scripts, which is not supported; convert the adapter to PEFT's "
           "format";
  if (has(".lora.down.") || has(".lora.up.") || has("lora_linear_layer"))
    return "it is named as in old versions of diffusers, which is not supported; convert the adapter to "
           "PEFT's "
           "format";
  if (name.ends_with(".lora_a.weight") || name.ends_with(".lora_b.weight"))
    return "it is named as in torchtune; convert the adapter to PEFT's format (torchtune's "
           "save_adapter_weights "
           "with adapter_only and PEFT's config does)";
  if (name.starts_with("module."))
    return "its name begins with \"module.\", which DistributedDataParallel puts there; remove that from "
           "the names of all tensors";
  if (name.starts_with("diffusion_model."))
    return "it is named as in ComfyUI, for an image model; only adapters of language models in PEFT's names "
           "can be "
           "read";
  if (name.ends_with(".lora_a") || name.ends_with(".lora_b"))
    return "it is named as in MLX, which stores A and B transposed; convert the adapter to PEFT's format";
  if (config.type == PeftConfig::Type::lora && (has(".lora_A.") || has(".lora_B."))) {
    if (const std::string_view adapter = adapter_name_in(name); !adapter.empty())
      return message(
          "its name contains an adapter's name, ", in_quotes(adapter),
          ", as in a model's state_dict(); PEFT itself loads only \"default\" of these. Save the adapter "
          "with PEFT's save_pretrained, or remove that part from the names");
    if (!prefixed)
      return message(
          "its name does not begin with PEFT's \"", peft_prefix,
          "\", so PEFT itself would not load it. If the rest is the module's name in transformers, put the "
          "prefix before the names of all tensors");
  }
  if (config.type == PeftConfig::Type::vera && (has(".lora_A.") || has(".lora_B.")))
    return "it is a LoRA's tensor, but the config says VERA";
  if (config.type == PeftConfig::Type::lora && has("vera_"))
    return "it is a VeRA's tensor, but the config says LORA";
  if (name.ends_with(".weight") || name.ends_with(".bias"))
    return std::string(
               "it is a whole weight of the base model (modules_to_save, trained biases or a resized "
               "embedding), which no adapter can express") +
           (name.ends_with("embed_tokens.weight") || name.ends_with("lm_head.weight")
                ? ". If it was not trained, save the adapter again with "
                  "save_pretrained(save_embedding_layers=False), or "
                  "give adapter_tool the base model to compare it with (--base)"
                : "");
  return "it is not a tensor of an adapter";
}

}  // namespace detail
TIEDLORA_END_NAMESPACE
