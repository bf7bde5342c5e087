#include <gtest/gtest.h>

#include <string>
#include <tiedlora/io/model_modules.hpp>
#include <vector>

#include "support/io_files.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using Entries = std::vector<safetensors::Entry>;

/// Zeros are all that the tests need for data.
safetensors::Entry weight(const char* name, std::vector<Index> shape) {
  static const std::vector<float> zeros(4096);
  return {.name = name, .shape = std::move(shape), .data = zeros.data()};
}

std::vector<std::string> names(const ModuleList& modules) {
  std::vector<std::string> result;
  for (const Module& module : modules) result.push_back(module.name);
  return result;
}

TEST(ModelModules, AreTheMatricesButEmbeddings) {
  const Folder folder;
  safetensors::save(folder / "model.safetensors",
                    {weight("model.embed_tokens.weight", {9, 4}), weight("model.norm.weight", {4}),
                     weight("model.layers.10.q.weight", {6, 4}), weight("model.layers.2.q.weight", {6, 4}),
                     weight("model.layers.2.q.bias", {6}), weight("lm_head.weight", {9, 4}),
                     weight("table", {3, 3}), weight("conv.weight", {2, 2, 2})});
  for (const auto& path : {folder.path(), folder / "model.safetensors"}) {
    const ModuleList modules = model_modules(path);
    EXPECT_EQ(names(modules), (std::vector<std::string>{"lm_head", "model.layers.2.q", "model.layers.10.q"}));
    EXPECT_EQ(modules[2].layer, 10);
    EXPECT_EQ(modules[2].kind, "q");
    EXPECT_EQ(modules[2].out_features, 6);
    EXPECT_EQ(modules[2].in_features, 4);
    EXPECT_EQ(modules[0].layer, -1);
  }
}

TEST(ModelModules, TurnConv1D) {
  const Folder folder;
  safetensors::save(folder / "m.safetensors", {weight("h.0.attn.c_attn.weight", {4, 12})});
  const ModuleList modules = model_modules(folder / "m.safetensors", {.fan_in_fan_out = true});
  EXPECT_EQ(modules[0].in_features, 4);
  EXPECT_EQ(modules[0].out_features, 12);
}

TEST(ModelModules, ComeFromAllShards) {
  const Folder folder;
  safetensors::save(folder / "a.safetensors", {weight("x.1.q.weight", {2, 2})});
  safetensors::save(folder / "b.safetensors", {weight("x.0.q.weight", {2, 2})});
  write_text(
      folder / "model.safetensors.index.json",
      R"({"metadata":{},"weight_map":{"x.1.q.weight":"a.safetensors","x.0.q.weight":"b.safetensors"}})");
  EXPECT_EQ(names(model_modules(folder.path())), (std::vector<std::string>{"x.0.q", "x.1.q"}));
}

TEST(ModelModules, SayWhatIsWrong) {
  const Folder folder;
  expect_failure(try_model_modules(folder.path()),
                 {"neither model.safetensors nor model.safetensors.index.json"});
  const std::pair<const char*, const char*> others[] = {{"adapter_config.json", "the folder of an adapter"},
                                                        {"pytorch_model.bin", "Python pickles"},
                                                        {"snapshots", "Hugging Face cache"}};
  for (const auto& [name, reason] : others) {
    const auto other = folder / (std::string(name) + ".folder");
    std::filesystem::create_directories(other);
    write_text(other / name, "");
    expect_failure(try_model_modules(other), {reason});
  }
  expect_failure(try_model_modules(folder / "model.safetensors.index.json"), {"give its folder"});
  expect_failure(try_model_modules(folder / "none"), {"none\" cannot be opened"});
  for (const char* index : {"[]", "{}", R"({"weight_map":{}})", R"({"weight_map":{"a":"../x.safetensors"}})",
                            R"({"weight_map":{"a":3}})"}) {
    write_text(folder / "model.safetensors.index.json", index);
    expect_failure(try_model_modules(folder.path()),
                   {"has no \"weight_map\" from tensors to files of its folder"});
  }
  safetensors::save(folder / "n.safetensors", {weight("norm.weight", {4})});
  expect_failure(try_model_modules(folder / "n.safetensors"), {"n.safetensors\" has no matrix NAME.weight"});
}

TEST(ModelModules, KeepKindsApartThatReadOtherWidths) {
  const Folder folder;
  safetensors::save(folder / "m.safetensors",
                    {weight("decoder.0.q.weight", {2, 3}), weight("encoder.0.q.weight", {2, 2})});
  EXPECT_EQ(model_modules(folder / "m.safetensors").size(), 2);
}

}  // namespace
}  // namespace tiedlora_test
