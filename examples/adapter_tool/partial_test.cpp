// A part of an adapter is applied only if told to, and what is left out is listed.
#include <gtest/gtest.h>

#include <tiedlora/io.hpp>
#include <tiedlora/tiedlora.hpp>

#include "support/dice.hpp"
#include "support/io_files.hpp"
#include "support/peft_writer.hpp"
#include "tool_run.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

/// The weights of small_modules(), and an lm_head of 9 × 4.
std::vector<float> save_small_base(const std::filesystem::path& path) {
  std::vector<float> numbers(9 * 4 + 2 * (4 * 4 + 4 * 6));
  Dice(4).fill(numbers);
  std::vector<safetensors::Entry> entries = {
      {.name = "lm_head.weight", .shape = {9, 4}, .data = numbers.data()}};
  const float* next = numbers.data() + 36;
  for (const Module& module : small_modules()) {
    entries.push_back(
        {.name = module.name + ".weight", .shape = {module.out_features, module.in_features}, .data = next});
    next += module.out_features * module.in_features;
  }
  safetensors::save(path, entries);
  return numbers;
}

TEST(Partial, ABaseMakesNoErrorGoAway) {
  const Folder folder;
  small_lora().lora("m.layers.0.mlp.experts.base_layer", 8, 4, 16).write(folder / "moe");
  small_lora().lora("m.layers.0.odd", 8, 4, 16).write(folder / "rank");
  save_small_base(folder / "base");
  for (const char* name : {"moe", "rank"}) {
    const Outcome refused = run({"merge", folder / name, folder / "out", "--base", folder / "base"});
    EXPECT_EQ(refused.code, 1) << name;
    EXPECT_FALSE(std::filesystem::exists(folder / "out"));
    expect_text(refused.err, name == std::string("moe") ? "target_parameters" : "do not belong together");
    const Outcome partial =
        run({"merge", folder / name, folder / "out", "--base", folder / "base", "--partial"});
    expect_done(partial);
    expect_text(partial.out, "merged 4 modules");
    expect_text(partial.err, name == std::string("moe")
                                 ? "left out: \"base_model.model.m.layers.0.mlp.experts"
                                 : "left out: \"base_model.model.m.layers.0.odd.lora_A");
    std::filesystem::remove(folder / "out");
  }
}

TEST(Partial, ModulesThatTheBaseLacksAreNamed) {
  const Folder folder;
  small_lora().lora("m.layers.7.q", 2, 4, 4).write(folder / "a");
  save_small_base(folder / "base");
  const Outcome refused = run({"merge", folder / "a", folder / "out", "--base", folder / "base"});
  EXPECT_EQ(refused.code, 1);
  expect_text(refused.err, "no \"m.layers.7.q.weight\"");
  const Outcome partial =
      run({"merge", folder / "a", folder / "out", "--base", folder / "base", "--partial"});
  expect_done(partial);
  expect_text(partial.err, "left out: \"m.layers.7.q\" is not in the base model");
}

TEST(Partial, AVeraOfMoreModulesThanTheBaseIsRefused) {
  const Folder folder;
  small_vera().vera("m.layers.7.q", 3, 4).write(folder / "a");
  save_small_base(folder / "base");
  const Outcome refused = run({"merge", folder / "a", folder / "out", "--base", folder / "base"});
  EXPECT_EQ(refused.code, 1);
  expect_text(refused.err, "2 of its tensors belong to no module of the model");
  expect_text(refused.err, "m.layers.7.q.vera_lambda_b");
  expect_done(run({"merge", folder / "a", folder / "out", "--base", folder / "base", "--partial"}));
  expect_text(run({"info", folder / "a"}).err, "--base");
}

TEST(Partial, CopiesOfTheBasesWeightsAreCompared) {
  const Folder folder;
  std::vector<float> numbers = save_small_base(folder / "base");
  const std::string copy = "base_model.model.lm_head.base_layer.weight";
  PeftWriter writer = small_lora();
  writer.config["target_modules"] = {"q", "down", "lm_head"};
  writer.lora("lm_head", 2, 4, 9);
  writer.tensors.push_back({.name = copy, .shape = {9, 4}, .data = numbers.data()});
  writer.write(folder / "a");
  const Outcome alone = run({"info", folder / "a"});
  expect_done(alone);
  expect_text(alone.err, "not used: \"" + copy + "\"");
  const Outcome same = run({"merge", folder / "a", folder / "out", "--base", folder / "base"});
  expect_done(same);
  EXPECT_EQ(same.err.find(copy), std::string::npos) << same.err;
  // Without ".base_layer", as what is saved beside the adapted one is called.
  writer.tensors.back().name = "base_model.model.lm_head.weight";
  writer.write(folder / "whole");
  expect_done(run({"merge", folder / "whole", folder / "whole.out", "--base", folder / "base"}));
  writer.tensors.back().name = copy;
  // In a narrower type, as training in bfloat16 leaves it.
  std::vector<Eigen::bfloat16> narrow;
  for (std::size_t i = 0; i < 36; ++i) narrow.push_back(static_cast<Eigen::bfloat16>(numbers[i]));
  writer.tensors.back().dtype = safetensors::Dtype::BF16;
  writer.tensors.back().data = narrow.data();
  writer.write(folder / "narrow");
  expect_done(run({"merge", folder / "narrow", folder / "out", "--base", folder / "base"}));
  narrow[35] = static_cast<Eigen::bfloat16>(7.f);
  writer.write(folder / "changed");
  const Outcome changed =
      run({"merge", folder / "changed", folder / "changed.out", "--base", folder / "base"});
  EXPECT_EQ(changed.code, 1);
  expect_text(changed.err, "\"" + copy + "\": it is another than the base model's \"lm_head.weight\"");
  EXPECT_FALSE(std::filesystem::exists(folder / "changed.out"));
}

// As save_pretrained(save_embedding_layers=True) has it.
TEST(Partial, AWholeWeightThatIsTheBasesIsNoPartOfTheAdapter) {
  const Folder folder;
  std::vector<float> numbers = save_small_base(folder / "base");
  PeftWriter writer = small_lora();
  writer.tensors.push_back(
      {.name = "base_model.model.lm_head.weight", .shape = {9, 4}, .data = numbers.data()});
  writer.write(folder / "a");
  const Outcome alone = run({"info", folder / "a"});
  EXPECT_EQ(alone.code, 1);
  expect_text(alone.err, "resized embedding");
  expect_done(run({"merge", folder / "a", folder / "out", "--base", folder / "base"}));
  numbers[3] += 1;
  writer.write(folder / "a");
  const Outcome changed = run({"merge", folder / "a", folder / "out", "--base", folder / "base"});
  EXPECT_EQ(changed.code, 1);
  expect_text(changed.err, "it is another than the base model's \"lm_head.weight\"");
}

TEST(Partial, WhatTheFileLacksIsTold) {
  const Folder folder;
  PeftWriter writer = small_lora();
  for (const char* factor : {".lora_A.weight", ".lora_B.weight"})
    writer.remove("base_model.model.m.layers.1.down" + std::string(factor));
  writer.config["target_modules"] = {"q", "down", "gate"};
  writer.write(folder / "a");
  save_small_base(folder / "base");
  const Outcome merged = run({"merge", folder / "a", folder / "out", "--base", folder / "base"});
  expect_done(merged);
  expect_text(merged.err, "target_modules names \"gate\"");
  expect_text(merged.err, "targets 1 more modules of the base model");
  expect_text(merged.err, "m.layers.1.down.lora_A.weight");
}

TEST(Partial, AModelWhoseHeadIsItsEmbeddingIsToldOf) {
  const Folder folder;
  PeftWriter writer = small_lora();
  writer.config["target_modules"] = {"q", "down", "lm_head"};
  writer.lora("lm_head", 2, 4, 9).write(folder / "a");
  const std::vector<float> numbers = save_small_base(folder / "whole");
  const auto whole = safetensors::open(folder / "whole");
  std::vector<safetensors::Entry> entries;
  for (const auto& tensor : whole.tensors())
    entries.push_back({.name = tensor.name == "lm_head.weight" ? "model.embed_tokens.weight" : tensor.name,
                       .shape = tensor.shape,
                       .data = tensor.bytes.data()});
  safetensors::save(folder / "tied", entries);
  const Outcome refused = run({"merge", folder / "a", folder / "out", "--base", folder / "tied"});
  EXPECT_EQ(refused.code, 1);
  expect_text(refused.err, "is it tied to the embedding?");
  // Both weights are in the file, but transformers looks at one.
  const std::vector<std::string> merge = {"merge", folder / "a", folder / "out", "--base", folder / "whole"};
  EXPECT_EQ(run(merge).err.find("tie_word_embeddings"), std::string::npos);
  write_text(folder / "config.json", R"({"tie_word_embeddings": true})");
  expect_text(run(merge).err, "set it to false in the merged model's config.json");
}

// The second file's values are too large once merged: the first must not be left there merged.
TEST(Partial, AFolderIsMergedWhollyOrNotAtAll) {
  const Folder folder;
  small_lora().write(folder / "a");
  const std::vector<float> numbers = save_small_base(folder / "whole");
  const auto whole = safetensors::open(folder / "whole");
  const std::vector<Eigen::half> large(64, Eigen::half(65504.f)), small(64, Eigen::half(0.f));
  std::filesystem::create_directories(folder / "base");
  std::vector<safetensors::Entry> first, second;
  Json map = Json::object();
  for (const auto& tensor : whole.tensors()) {
    const bool is_late = tensor.name.find("layers.1.") != tensor.name.npos;
    ASSERT_LE(tensor.count(), 64);
    (is_late ? second : first)
        .push_back({.name = tensor.name,
                    .dtype = safetensors::Dtype::F16,
                    .shape = tensor.shape,
                    .data = is_late ? large.data() : small.data()});
    map[tensor.name] = is_late ? "b.safetensors" : "a.safetensors";
  }
  safetensors::save(folder / "base" / "a.safetensors", first);
  safetensors::save(folder / "base" / "b.safetensors", second);
  write_text(folder / "base" / "model.safetensors.index.json", Json({{"weight_map", map}}).dump());
  PeftWriter strong = small_lora();
  strong.config["lora_alpha"] = 1e6;
  strong.write(folder / "a");
  const Outcome refused = run({"merge", folder / "a", folder / "out", "--base", folder / "base"});
  EXPECT_EQ(refused.code, 1);
  expect_text(refused.err, "too large for F16");
  EXPECT_FALSE(std::filesystem::exists(folder / "out"));
  std::filesystem::create_directories(folder / "out");  // one's own folder stays
  EXPECT_EQ(run({"merge", folder / "a", folder / "out", "--base", folder / "base"}).code, 1);
  EXPECT_TRUE(std::filesystem::is_empty(folder / "out"));
  small_lora().write(folder / "a");
  expect_text(run({"merge", folder / "a", folder / "base", "--base", folder / "base"}).err,
              "the base model itself");
}

TEST(Partial, NamesThatDifferAreTold) {
  const Folder folder;
  small_lora().write(folder / "a");
  const std::vector<float> numbers = save_small_base(folder / "base");
  const auto base = safetensors::open(folder / "base");
  std::vector<safetensors::Entry> entries;
  for (const auto& tensor : base.tensors())
    entries.push_back({.name = "text." + tensor.name, .shape = tensor.shape, .data = tensor.bytes.data()});
  safetensors::save(folder / "longer", entries);
  const auto merged = [&](const char* name) {
    return run({"merge", folder / "a", folder / "out", "--base", folder / name});
  };
  EXPECT_EQ(merged("base").err.find("is taken for"), std::string::npos);
  expect_text(merged("longer").err, "is taken for the base model's \"text.m.layers.0.");
}

}  // namespace
}  // namespace tiedlora_test
