// The tensors of a PEFT adapter, by the modules they belong to.
#include <gtest/gtest.h>

#include <string>
#include <tiedlora/io/peft/tensors.hpp>
#include <vector>

#include "support/io_files.hpp"
#include "support/peft_writer.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using tiedlora::detail::try_peft_tensors;

Result<std::vector<std::string>> names_in(const PeftWriter& writer, PeftConfig::Type type) {
  const Folder folder;
  writer.write(folder / "x");
  const safetensors::File file = safetensors::open(folder / "x" / "adapter_model.safetensors");
  PeftConfig config;
  config.type = type;
  const auto tensors = try_peft_tensors(file, config);
  if (!tensors) return tensors.failure();
  std::vector<std::string> names;
  for (const auto& module : tensors->modules) {
    EXPECT_EQ(module.inner->name.find(module.name), 17u);
    EXPECT_NE(module.outer, nullptr);
    names.push_back(module.name);
  }
  return names;
}

TEST(PeftTensors, AreFoundInTheOrderOfTheirLayers) {
  PeftWriter writer;
  for (const char* name : {"m.10.q", "m.9.q", "m.9.k"}) writer.lora(name, 2, 4, 4);
  EXPECT_EQ(*names_in(writer, PeftConfig::Type::lora),
            (std::vector<std::string>{"m.9.k", "m.9.q", "m.10.q"}));
  EXPECT_EQ(*names_in(small_vera(), PeftConfig::Type::vera),
            (std::vector<std::string>{"m.layers.0.down", "m.layers.0.q", "m.layers.1.down", "m.layers.1.q"}));
}

TEST(PeftTensors, SayWhyTheyAreNoAdapters) {
  const auto with = [](const char* name) {
    return names_in(PeftWriter().lora("m.0.q", 2, 4, 4).add(name, {1}), PeftConfig::Type::lora);
  };
  expect_failure(with("base_model.model.m.0.q.lora_magnitude_vector.weight"), {"DoRA's magnitudes"});
  expect_failure(with("base_model.model.m.e.lora_embedding_A"), {"embeddings are not supported"});
  expect_failure(with("base_model.model.m.0.q.lora_B.bias"), {"lora_bias"});
  expect_failure(with("base_model.model.lm_head.weight"), {"whole weight of the base model"});
  expect_failure(with("something"), {"\"something\"", "not a tensor of an adapter"});
  expect_failure(with("base_model.model.m.1.q.lora_A.weight"),
                 {"counterpart \"base_model.model.m.1.q.lora_B.weight\""});
  expect_failure(names_in(PeftWriter(), PeftConfig::Type::lora), {"holds no adapter"});
}

TEST(PeftTensors, MayCarryTheNameDefault) {
  PeftWriter writer;
  for (const char* factor : {"lora_A", "lora_B"})
    writer.add("base_model.model.m.0.q." + std::string(factor) + ".default.weight", {4, 4});
  EXPECT_EQ(*names_in(writer, PeftConfig::Type::lora), (std::vector<std::string>{"m.0.q"}));
  writer.add("base_model.model.m.0.q.lora_A.weight", {4, 4});
  expect_failure(names_in(writer, PeftConfig::Type::lora), {"has both", "lora_A.default.weight"});
}

TEST(PeftTensors, SayWhichNamingTheyHave) {
  const auto with = [](const char* name) {
    return names_in(PeftWriter().add(name, {4, 4}), PeftConfig::Type::lora);
  };
  expect_failure(with("base_model.model.m.0.q.lora_A.mine.weight"),
                 {"an adapter's name, \"mine\"", "save_pretrained"});
  expect_failure(with("m.0.q.lora_A.weight"), {"does not begin with PEFT's \"base_model.model.\""});
}

TEST(PeftTensors, MayBeBesideACopyOfTheBaseWeight) {
  const char* const copy = "base_model.model.lm_head.base_layer.weight";
  EXPECT_EQ(*names_in(PeftWriter().lora("lm_head", 2, 4, 4).add(copy, {4, 4}), PeftConfig::Type::lora),
            (std::vector<std::string>{"lm_head"}));
  expect_failure(names_in(PeftWriter().lora("m.0.q", 2, 4, 4).add(copy, {4, 4}), PeftConfig::Type::lora),
                 {"whole weight of the base model"});
}

TEST(PeftTensors, WithoutNumbersAreExplained) {
  expect_failure(
      names_in(PeftWriter().add("base_model.model.m.0.q.lora_A.weight", {0}), PeftConfig::Type::lora),
      {"has shape [0]", "ZeRO stage 3", "zero_to_fp32.py"});
}

TEST(PeftTensors, TransposeAcrossBlocks) {
  // 19 × 35: neither is a multiple of a block.
  constexpr Index rows = 19, columns = 35;
  std::vector<float> from(rows * columns);
  for (std::size_t i = 0; i < from.size(); ++i) from[i] = static_cast<float>(i);
  std::vector<double> to(from.size());
  tiedlora::detail::copy_transposed<double, float>(reinterpret_cast<const std::byte*>(from.data()), rows,
                                                   columns, to.data());
  for (Index i = 0; i < rows; ++i)
    for (Index k = 0; k < columns; ++k)
      ASSERT_EQ(to[static_cast<std::size_t>(k * rows + i)], static_cast<double>(i * columns + k));
}

}  // namespace
}  // namespace tiedlora_test
