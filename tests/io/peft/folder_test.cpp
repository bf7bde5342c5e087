// PEFT's folders: both files, and the modules that they tell of.
#include <gtest/gtest.h>

#include <tiedlora/io/peft/folder.hpp>

#include "support/io_files.hpp"
#include "support/peft_writer.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using tiedlora::detail::try_infer_modules;
using tiedlora::detail::try_open_peft;

TEST(PeftFolder, HoldsConfigAndTensors) {
  const Folder folder;
  small_lora().write(folder / "x");
  const auto open = try_open_peft(folder / "x", {});
  ASSERT_TRUE(open) << open.error();
  EXPECT_EQ(open->config.rank, 2);
  EXPECT_EQ(open->tensors.modules.size(), 4u);
  const auto modules = try_infer_modules(*open);
  ASSERT_TRUE(modules) << modules.error();
  ASSERT_EQ(modules->size(), 4);
  EXPECT_EQ((*modules)[0].name, "m.layers.0.down");
  EXPECT_EQ((*modules)[0].in_features, 6);
  EXPECT_EQ((*modules)[0].out_features, 4);
  EXPECT_EQ((*modules)[0].layer, 0);
  EXPECT_EQ((*modules)[0].kind, "down");
}

TEST(PeftFolder, OfAVeraDoesNotTellTheModules) {
  const Folder folder;
  small_vera().write(folder / "x");
  const auto open = try_open_peft(folder / "x", {});
  ASSERT_TRUE(open) << open.error();
  expect_failure(try_infer_modules(*open), {"VeRA", "pass the host's module list"});
}

// PEFT applies no tensors of modules that the config does not target.
TEST(PeftFolder, RefusesTensorsThatTheConfigDoesNotTarget) {
  const Folder folder;
  const auto open = [&](const char* key, const Json& value, bool partial = false) {
    PeftWriter writer = small_lora();
    writer.config[key] = value;
    writer.write(folder / "x");
    return try_open_peft(folder / "x", {.partial = partial});
  };
  expect_failure(open("target_modules", {"q"}),
                 {"\"m.layers.0.down\"", "does not target it", "belong together"});
  expect_failure(open("exclude_modules", {"down"}), {"\"m.layers.0.down\""});
  expect_failure(open("layers_to_transform", {1}), {"\"m.layers.0."});
  expect_failure(open("target_modules", "q"), {"does not target it"});
  EXPECT_TRUE(open("target_modules", ".*\\.(q|down)"));
  EXPECT_TRUE(open("target_modules", "all-linear"));
  const auto partial = open("target_modules", {"q"}, true);
  ASSERT_TRUE(partial) << partial.error();
  EXPECT_EQ(partial->tensors.modules.size(), 2u);
  EXPECT_EQ(partial->tensors.left_out.size(), 4u);
}

// Names that nothing of the file belongs to are told, unless exclude_modules may be the reason: PEFT writes
// what "all-linear" stands for, then excludes.
TEST(PeftFolder, NotesTargetsWithoutTensors) {
  const Folder folder;
  PeftWriter writer = small_lora();
  writer.config["target_modules"] = {"q", "down", "gate_proj"};
  writer.write(folder / "x");
  auto open = try_open_peft(folder / "x", {});
  ASSERT_TRUE(open) << open.error();
  ASSERT_EQ(open->config.notes.size(), 1u);
  EXPECT_NE(open->config.notes[0].find("target_modules names \"gate_proj\""), std::string::npos);
  writer.config["exclude_modules"] = ".*gate_proj";
  writer.write(folder / "x");
  open = try_open_peft(folder / "x", {});
  ASSERT_TRUE(open) << open.error();
  EXPECT_TRUE(open->config.notes.empty());
}

TEST(PeftFolder, NamesTheFileThatIsWrong) {
  const Folder folder;
  expect_failure(try_open_peft(folder / "x", {}), {"there is no folder", "x\""});
  small_lora().write(folder / "x");
  std::filesystem::remove(folder / "x" / "adapter_model.safetensors");
  expect_failure(try_open_peft(folder / "x", {}), {"adapter_model.safetensors\"", "cannot be opened"});
  write_text(folder / "x" / "adapter_model.bin", "pickle");
  expect_failure(try_open_peft(folder / "x", {}), {"adapter_model.bin", "can run code"});
  write_text(folder / "x" / "adapter_config.json", "{");
  expect_failure(try_open_peft(folder / "x", {}), {"adapter_config.json\""});
}

}  // namespace
}  // namespace tiedlora_test
