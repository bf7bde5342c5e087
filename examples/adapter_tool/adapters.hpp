// Adapters in any of the formats, told apart by what they are.
#pragma once

#include <filesystem>   // path
#include <stdexcept>    // invalid_argument
#include <string>       // string
#include <string_view>  // string_view
#include <utility>      // move
#include <vector>       // vector

#include <tiedlora/io.hpp>
#include <tiedlora/tiedlora.hpp>

#include "../adapter_format.hpp"

namespace adapter_tool {

using tiedlora::Adapter;
using tiedlora::Index;

/// What the command line says of models that files do not say themselves.
struct ModelOptions {
  std::string base = {};          ///< safetensors file or folder of the base model
  std::string architecture = {};  ///< llama or gpt2; empty: the GGUF file's
  Index heads = 0, kv_heads = 0;
  std::string order = {};  ///< "gguf" or "hugging-face"
  bool fan_in_fan_out = false;
};

struct OpenAdapter {
  Adapter<float> adapter;
  std::string format = {};  ///< "peft", "gguf" or "native"
  std::string base_model = {};
  std::vector<std::string> notes = {};  ///< tensors that were not used
};

/// The naming of GGUF files. Where rows may be permuted, the order must be stated.
inline tiedlora::gguf::Naming naming(const ModelOptions& options, const std::string& architecture) {
  using namespace tiedlora;
  if (architecture == "gpt2") return gguf::gpt2();
  if (architecture != "llama")
    throw std::invalid_argument("--arch must be llama or gpt2, not \"" + architecture + "\"");
  if (options.order != "gguf" && options.order != "hugging-face")
    throw std::invalid_argument(
        "say with --order in which order the rows of q and k are in the weights that the adapter was trained "
        "on: "
        "hugging-face (trained with transformers or on its safetensors) or gguf (trained on a GGUF file)");
  const bool permuted = options.order == "hugging-face";
  if (permuted && (options.heads <= 0 || options.kv_heads <= 0))
    throw std::invalid_argument("--order hugging-face needs --heads and --kv-heads, the model's");
  return gguf::llama({.heads = options.heads,
                      .kv_heads = options.kv_heads,
                      .weights = permuted ? gguf::Order::hugging_face : gguf::Order::gguf});
}

inline OpenAdapter open(const std::filesystem::path& path, ModelOptions options, bool look_only = false) {
  using namespace tiedlora;
  const examples::AdapterFormat format = examples::format_of(path);
  const auto notes = [](const std::vector<std::string>& unused) {
    std::vector<std::string> texts;
    for (const std::string& name : unused) texts.push_back("not in the base model: " + name);
    return texts;
  };
  if (format == examples::AdapterFormat::peft) {
    // A LoRA's tensors tell its modules; a VeRA's do not.
    Result<LoadedPeft<float>> alone = try_load_peft<float>(path);
    auto loaded =
        alone || options.base.empty()
            ? tiedlora::detail::value_or_fail(std::move(alone))
            : load_peft<float>(path, model_modules(options.base, {.fan_in_fan_out = options.fan_in_fan_out}));
    return {std::move(loaded.adapter), "peft", loaded.config.base_model, notes(loaded.report.unused)};
  }
  if (format == examples::AdapterFormat::gguf) {
    const gguf::File file = gguf::open(path);
    const auto text = [&file](std::string_view key) {
      const gguf::Value* value = file.find_value(key);
      return std::string(value ? value->text().value_or("") : "");
    };
    const std::string own = text("general.architecture");
    // Norms and counts do not depend on the order.
    if (look_only && options.order.empty()) options.order = "gguf";
    const auto names = naming(options, options.architecture.empty() ? own : options.architecture);
    return {load_gguf<float>(path, names).adapter, "gguf", text("general.base_model.0.name"), {}};
  }
  const NativeFile file = open_native(path);
  return {read_adapter<float>(file), "native", file.metadata.base_model, {}};
}

}  // namespace adapter_tool
