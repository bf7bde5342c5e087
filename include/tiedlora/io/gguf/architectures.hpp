// The architectures whose modules are known under both names: transformers' and GGUF's.
#pragma once

#include <string>       // string
#include <string_view>  // string_view

#include "../../adapter/name_map.hpp"
#include "../../adapter/quote.hpp"
#include "../../adapter/result.hpp"
#include "../../views/config.hpp"
#include "../../views/error.hpp"
#include "naming.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace gguf {

/// What llama.cpp's conversion does with the models of an architecture.
struct Architecture {
  std::string_view name = {};         ///< general.architecture
  std::string_view model_types = {};  ///< model_type in transformers' config.json, one or more between spaces
  NameMap (*names)() = names::llama;  ///< how its modules are called
  bool permuted = false;              ///< the rows of q and k stand in another order than in transformers
  bool fan_in_fan_out = false;        ///< transformers keeps the weights in × out
};

/// Those that this library knows.
inline constexpr Architecture architectures[] = {
    {.name = "llama", .model_types = " llama mistral mixtral ", .permuted = true},
    {.name = "qwen2", .model_types = " qwen2 "},
    {.name = "qwen2moe", .model_types = " qwen2_moe "},
    {.name = "qwen3", .model_types = " qwen3 "},
    {.name = "qwen3moe", .model_types = " qwen3_moe "},
    {.name = "gemma", .model_types = " gemma "},
    {.name = "gemma2", .model_types = " gemma2 "},
    {.name = "gemma3", .model_types = " gemma3 gemma3_text "},
    {.name = "phi3", .model_types = " phi3 ", .names = names::phi3},
    {.name = "gpt2", .model_types = " gpt2 ", .names = names::gpt2, .fan_in_fan_out = true},
};

/// By its name in GGUF files; null if it is not one of those.
inline const Architecture* find_architecture(std::string_view name) {
  for (const Architecture& architecture : architectures)
    if (architecture.name == name) return &architecture;
  return nullptr;
}
/// By the model_type of transformers; null if it is not one of those.
inline const Architecture* architecture_of_model(std::string_view model_type) {
  if (model_type.empty() || model_type.find(' ') != model_type.npos) return nullptr;
  const std::string word = " " + std::string(model_type) + " ";
  for (const Architecture& architecture : architectures)
    if (architecture.model_types.find(word) != std::string_view::npos) return &architecture;
  return nullptr;
}

/// The naming of an architecture's modules. The options are looked at only where its rows are permuted.
inline Naming naming_of(const Architecture& architecture, const LlamaOptions& options) {
  Naming naming;
  if (architecture.permuted) naming = llama(options);
  naming.architecture = architecture.name;
  naming.names = architecture.names();
  return naming;
}

}  // namespace gguf
TIEDLORA_END_NAMESPACE
