// PEFT folders with something wrong or odd in them.
#pragma once

#include <filesystem>
#include <initializer_list>
#include <list>
#include <string>
#include <tiedlora/adapter/modules.hpp>
#include <tiedlora/io/json/json.hpp>
#include <tiedlora/io/safetensors.hpp>
#include <utility>
#include <vector>

#include "support/io_files.hpp"

namespace tiedlora_test {

/// A folder of PEFT's to be: config and tensors, to be changed before it is written.
struct PeftWriter {
  tiedlora::Json config = tiedlora::Json::object();
  std::vector<tiedlora::safetensors::Entry> tensors = {};
  std::list<std::vector<float>> numbers = {};

  /// A tensor of the numbers 1, 2, … divided by 8.
  PeftWriter& add(const std::string& name, std::vector<tiedlora::Index> shape) {
    std::size_t count = 1;
    for (const auto size : shape) count *= static_cast<std::size_t>(size);
    auto& values = numbers.emplace_back();
    for (std::size_t i = 0; i < count; ++i) values.push_back(static_cast<float>(i + 1) / 8);
    tensors.push_back({.name = name, .shape = std::move(shape), .data = values.data()});
    return *this;
  }
  PeftWriter& remove(const std::string& name) {
    std::erase_if(tensors, [&](const auto& tensor) { return tensor.name == name; });
    return *this;
  }
  PeftWriter& lora(const std::string& module, tiedlora::Index rank, tiedlora::Index in, tiedlora::Index out) {
    add("base_model.model." + module + ".lora_A.weight", {rank, in});
    return add("base_model.model." + module + ".lora_B.weight", {out, rank});
  }
  PeftWriter& vera(const std::string& module, tiedlora::Index rank, tiedlora::Index out) {
    add("base_model.model." + module + ".vera_lambda_d", {rank});
    return add("base_model.model." + module + ".vera_lambda_b", {out});
  }
  void write(const std::filesystem::path& folder) const {
    std::filesystem::create_directories(folder);
    write_text(folder / "adapter_config.json", config.dump());
    tiedlora::safetensors::save(folder / "adapter_model.safetensors", tensors);
  }
};

/// Two layers of q 4 → 4 and down 6 → 4.
inline tiedlora::ModuleList small_modules() {
  tiedlora::ModuleList modules;
  for (int layer = 0; layer < 2; ++layer)
    for (const auto& [kind, in] : {std::pair("q", 4), std::pair("down", 6)})
      modules.add({.name = "m.layers." + std::to_string(layer) + "." + kind,
                   .layer = layer,
                   .in_features = in,
                   .out_features = 4});
  return modules;
}

/// A LoRA of rank 2 on all of small_modules().
inline PeftWriter small_lora() {
  PeftWriter writer{
      .config = {{"peft_type", "LORA"}, {"r", 2}, {"lora_alpha", 4}, {"target_modules", {"q", "down"}}}};
  for (const tiedlora::Module& module : small_modules()) writer.lora(module.name, 2, module.in_features, 4);
  return writer;
}

/// A VeRA of rank 3 on all of small_modules(), with its projections.
inline PeftWriter small_vera() {
  PeftWriter writer{.config = {{"peft_type", "VERA"}, {"r", 3}, {"target_modules", {"q", "down"}}}};
  for (const tiedlora::Module& module : small_modules()) writer.vera(module.name, 3, 4);
  writer.add("base_model.vera_A", {3, 6}).add("base_model.vera_B", {4, 3});
  return writer;
}

}  // namespace tiedlora_test
