// The checkpoint of the training of a model's weights.
#pragma once

#include <cstdint>     // int64_t
#include <filesystem>  // path
#include <span>        // span
#include <string>      // string

#include <llama/weights.hpp>
#include <nlohmann/json.hpp>
#include <tiedlora/io/native.hpp>  // TrainingPosition
#include <tiedlora/io/safetensors.hpp>

namespace finetune {

using Weights = llama::Weights<float>;

/// Where the training of weights stands.
struct WeightsPosition {
  std::int64_t steps = 0;  ///< of the optimiser
  tiedlora::TrainingPosition position = {};
};

/// A checkpoint of weights and both moments of AdamW.
inline void save_weights(const std::filesystem::path& path, const Weights& weights, const Weights& first,
                         const Weights& second, const WeightsPosition& position) {
  const nlohmann::json json = {
      {"steps", position.steps}, {"step", position.position.step}, {"data", position.position.data}};
  const auto entry = [](const char* name, const Weights& numbers) {
    return tiedlora::safetensors::Entry{.name = name,
                                        .shape = {static_cast<tiedlora::Index>(numbers.values().size())},
                                        .data = numbers.values().data()};
  };
  tiedlora::safetensors::save(path,
                              {entry("weights", weights), entry("first", first), entry("second", second)},
                              {{"finetune", json.dump()}});
}

/// Reads it. Throws tiedlora::Error if the file is damaged or of a model of other sizes.
inline WeightsPosition read_weights(const std::filesystem::path& path, Weights& weights, Weights& first,
                                    Weights& second) {
  const tiedlora::safetensors::File file = tiedlora::safetensors::open(path);
  const auto read = [&](const char* name, Weights& numbers) {
    const tiedlora::safetensors::Tensor* tensor = file.find(name);
    if (!tensor || !tiedlora::safetensors::try_read(*tensor, numbers.values()))
      throw tiedlora::Error(path.string() + " is no checkpoint of this model's weights");
  };
  read("weights", weights), read("first", first), read("second", second);
  const auto text = file.metadata().find("finetune");
  const auto json =
      nlohmann::json::parse(text == file.metadata().end() ? std::string() : text->second, nullptr,
                            /*allow_exceptions=*/false);
  if (!json.is_object()) throw tiedlora::Error(path.string() + " does not say where its training stands");
  return {json.value("steps", std::int64_t{0}),
          {.step = json.value("step", std::int64_t{0}), .data = json.value("data", std::string())}};
}

}  // namespace finetune
