// Which architecture an adapter is for, and how a GGUF file calls its modules: as stated, never guessed.
#pragma once

#include <stdexcept>  // invalid_argument
#include <string>     // string
#include <vector>     // vector

#include <fmt/format.h>
#include <tiedlora/io.hpp>
#include <tiedlora/tiedlora.hpp>

#include "base_model.hpp"

namespace adapter_tool {

/// What the command line says about models where their files do not.
struct ModelOptions {
  std::string base = {};          ///< safetensors file or folder of the base model; a GGUF file to convert
  std::string architecture = {};  ///< GGUF's name
  Index heads = 0, kv_heads = 0;
  std::string order = {};  ///< "gguf" or "hugging-face"
  bool fan_in_fan_out = false;
  bool partial = false;      ///< apply what can be applied, and list the rest
  bool check_finite = true;  ///< refuse adapters with NaN or infinite parameters
};

inline std::vector<std::string> known_architectures() {
  std::vector<std::string> names;
  for (const auto& architecture : tiedlora::gguf::architectures) names.emplace_back(architecture.name);
  return names;
}

/// From --arch, the base model and the adapter itself, which must agree.
inline const tiedlora::gguf::Architecture& architecture_of(const ModelOptions& options, const BaseModel& base,
                                                           const std::string& own) {
  using tiedlora::detail::in_quotes;
  std::string name, says;
  const auto hear = [&](const std::string& said, const std::string& who) {
    if (said.empty()) return;
    if (!name.empty() && name != said)
      throw std::invalid_argument(fmt::format("{} says architecture {}, but {} says {}", says,
                                              in_quotes(name), who, in_quotes(said)));
    if (name.empty()) name = said, says = who;
  };
  hear(options.architecture, "--arch");
  if (!base.where.empty() && base.architecture.empty() && name.empty() && own.empty())
    throw std::invalid_argument(fmt::format(
        "{} says model_type {}, whose modules' names in GGUF are not known here; known: {}",
        in_quotes(base.where), in_quotes(base.model_type), fmt::join(known_architectures(), ", ")));
  if (options.architecture.empty() && !own.empty() && base.architecture.empty() && !base.model_type.empty())
    throw std::invalid_argument(fmt::format(
        "{} says model_type {}, whose architecture in GGUF is not known here, but the adapter says {}; "
        "if they do belong together, pass --arch {}",
        in_quotes(base.where), in_quotes(base.model_type), in_quotes(own), in_quotes(own)));
  hear(base.architecture, in_quotes(base.where));
  hear(own, "the adapter");
  if (name.empty())
    throw std::invalid_argument(fmt::format(
        "the adapter does not say for which architecture it is: give the base model's folder or file "
        "with --base (its config.json says it), or --arch NAME ({})",
        fmt::join(known_architectures(), ", ")));
  if (const auto* known = tiedlora::gguf::find_architecture(name)) return *known;
  throw std::invalid_argument(fmt::format(
      "{} says architecture {}, whose modules' names in transformers are not known here; known: {}", says,
      in_quotes(name), fmt::join(known_architectures(), ", ")));
}

/// The naming of GGUF files. Where rows may be permuted, the order must be stated.
inline tiedlora::gguf::Naming naming(const ModelOptions& options, const std::string& own) {
  using namespace tiedlora;
  const BaseModel base = read_base(options.base);
  const gguf::Architecture& architecture = architecture_of(options, base, own);
  if (!architecture.permuted) return naming_of(architecture, {.weights = gguf::Order::gguf});
  if (options.order != "gguf" && options.order != "hugging-face")
    throw std::invalid_argument(
        "--order must say in which order the rows of q and k are in the weights that the adapter was trained "
        "on: "
        "hugging-face (trained with transformers or on its safetensors) or gguf (trained on a GGUF file)");
  if (options.order == "gguf") return naming_of(architecture, {.weights = gguf::Order::gguf});
  const auto heads_of = [&](Index given, Index said, const char* name) {
    if (given > 0 && said > 0 && given != said)
      throw std::invalid_argument(fmt::format("{} is {}, but \"{}\" says {}", name, given, base.where, said));
    return given > 0 ? given : said;
  };
  const Index heads = heads_of(options.heads, base.heads, "--heads");
  const Index kv_heads = heads_of(options.kv_heads, base.kv_heads, "--kv-heads");
  if (heads <= 0 || kv_heads <= 0)
    throw std::invalid_argument(
        "--order hugging-face needs --heads and --kv-heads, the model's, or --base with its config.json");
  return naming_of(architecture,
                   {.heads = heads, .kv_heads = kv_heads, .weights = gguf::Order::hugging_face});
}

}  // namespace adapter_tool
