// What people have in place of the file that they meant, and what is said of it.
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <string_view>
#include <tiedlora/io.hpp>
#include <utility>
#include <vector>

#include "support/io_files.hpp"
#include "support/native.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

SniffedFile sniff_text_of(std::string_view text) {
  return sniff_bytes(std::as_bytes(std::span(text.data(), text.size())));
}

std::string safetensors_of(std::string_view name) {
  const std::string header =
      "{\"" + std::string(name) + R"(":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  const std::uint64_t length = header.size();
  std::string text(sizeof length, '\0');
  std::memcpy(text.data(), &length, sizeof length);
  return text + header + std::string(4, '\0');
}

void expect_sniffed(std::string_view text, FileKind kind, std::string_view part) {
  const SniffedFile found = sniff_text_of(text);
  EXPECT_EQ(static_cast<int>(found.kind), static_cast<int>(kind)) << found.what;
  EXPECT_NE(found.what.find(part), std::string::npos) << "no \"" << part << "\" in: " << found.what;
}

TEST(Sniff, NamesWhatIsInPlaceOfAFile) {
  expect_sniffed("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 54560368\n",
                 FileKind::foreign,
                 "Git LFS pointer in place of the file; fetch the file itself (git lfs pull)");
  for (const std::string_view page : {"<!DOCTYPE html><html>", "\n <HTML>", "<?xml version=\"1.0\"?><Error>"})
    expect_sniffed(page, FileKind::web_page, "its download went wrong");
  expect_sniffed("Entry not found", FileKind::text, "(\"Entry not found\")");
  expect_sniffed(R"({"error":"Repository not found"})", FileKind::json, "Repository not found");
  expect_sniffed("", FileKind::empty, "empty");
  expect_sniffed(std::string(100, '\0'), FileKind::foreign, "all zeros");
}

TEST(Sniff, NamesOtherFormats) {
  const std::string zip = std::string("PK\x03\x04") + std::string(26, '\0');
  expect_sniffed(zip + "archive/data.pkl", FileKind::foreign, "a PyTorch file");
  expect_sniffed(zip + "a.npy", FileKind::foreign, "NumPy archive");
  expect_sniffed(zip + "a.txt", FileKind::foreign, "ZIP archive");
  expect_sniffed("\x80\x02}q\x01.", FileKind::foreign, "Python pickle");
  expect_sniffed("algg\x01", FileKind::foreign, "ggla");
  for (const std::string_view old : {"tjgg", "fmgg", "lmgg"})
    expect_sniffed(old, FileKind::foreign, "before GGUF");
  expect_sniffed("\x93NUMPY\x01", FileKind::foreign, "NumPy array");
  expect_sniffed("\x1f\x8b\x08", FileKind::foreign, "gunzip");
  expect_sniffed("\x28\xb5\x2f\xfd", FileKind::foreign, "unzstd");
  expect_sniffed(std::string(257, 'a') + "ustar" + std::string(250, '\0'), FileKind::foreign, "tar -xf");
  expect_sniffed("GGUF\x03", FileKind::gguf, "a GGUF file");
}

TEST(Sniff, NamesWhoseTensorsTheyAre) {
  expect_sniffed(safetensors_of("base_model.model.q.lora_A.weight"), FileKind::safetensors, "PEFT");
  expect_sniffed(safetensors_of("lora_unet_down_blocks_0.lora_down.weight"), FileKind::safetensors, "kohya");
  expect_sniffed(safetensors_of("unet.down.to_q.lora.down.weight"), FileKind::safetensors, "diffusers");
  expect_sniffed(safetensors_of("model.layers.0.q.lora_a\":0,\"model.layers.0.q.lora_b"),
                 FileKind::safetensors, "MLX");
  expect_sniffed(safetensors_of("model.embed_tokens.weight"), FileKind::safetensors, "base model");
  expect_sniffed(safetensors_of("tiedlora"), FileKind::native, "native file");
}

TEST(Sniff, KnowsNothingOfOtherBytes) {
  for (const std::string& text : {std::string("\x01\x02\x03\x04"), std::string(2000, 'x')})
    EXPECT_EQ(static_cast<int>(sniff_text_of(text).kind), static_cast<int>(FileKind::unknown));
}

TEST(Sniff, NamesFolders) {
  const Folder folder;
  const auto what = [&](const std::filesystem::path& path) { return sniff(path).what; };
  const auto make = [&](std::string_view name, std::string_view file, std::string_view text) {
    std::filesystem::create_directories(folder / name);
    write_text(folder / name / file, text);
    return folder / name;
  };
  const auto peft = make("peft", "adapter_config.json", R"({"peft_type": "LORA"})");
  write_text(peft / "adapter_model.safetensors", safetensors_of("base_model.model.q.lora_A.weight"));
  EXPECT_EQ(static_cast<int>(sniff(peft).kind), static_cast<int>(FileKind::peft_folder));
  for (const char* inside : {"adapter_model.safetensors", "adapter_config.json"})
    EXPECT_EQ(what(peft / inside), "a file inside a PEFT folder; give the folder, \"" + peft.string() + "\"");
  const auto mlx =
      make("mlx", "adapter_config.json", R"({"fine_tune_type": "lora", "lora_parameters": {"rank": 8}})");
  EXPECT_EQ(static_cast<int>(sniff(mlx).kind), static_cast<int>(FileKind::folder));
  EXPECT_NE(what(mlx).find("MLX"), std::string::npos);
  EXPECT_NE(what(make("old_mlx", "adapters.npz", "PK")).find("MLX"), std::string::npos);
  EXPECT_NE(what(make("model", "config.json", "{}")).find("the folder of a model"), std::string::npos);
  EXPECT_NE(what(make("half", "adapter_model.safetensors", "x")).find("without adapter_config.json"),
            std::string::npos);
  make("trainer/checkpoint-500", "adapter_config.json", "{}");
  EXPECT_NE(what(folder / "trainer").find("checkpoint-500\"; give that"), std::string::npos)
      << what(folder / "trainer");
  make("cache/models--x--y/snapshots/0a1b", "adapter_config.json", "{}");
  EXPECT_NE(what(folder / "cache").find("0a1b\"; give that"), std::string::npos) << what(folder / "cache");
  EXPECT_NE(what(make("files", "a.bin", "GGUF")).find("a.bin\"; give that"), std::string::npos);
  std::filesystem::create_directories(folder / "empty");
  EXPECT_EQ(what(folder / "empty"), "an empty folder");
  EXPECT_EQ(static_cast<int>(sniff(folder / "nowhere").kind), static_cast<int>(FileKind::missing));
}

// Every reader says it, whatever the file is called.
TEST(Sniff, EveryReaderSaysWhatItFound) {
  const Folder folder;
  write_text(folder / "x", "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 5\n");
  const auto path = folder / "x";
  const auto naming = gguf::llama({.weights = gguf::Order::gguf});
  expect_failure(safetensors::try_open(path), {"Git LFS pointer", "a safetensors file is expected"});
  expect_failure(gguf::try_open(path), {"Git LFS pointer", "a GGUF file is expected"});
  expect_failure(try_open_native(path), {"Git LFS pointer"});
  expect_failure(try_load_adapter<float>(path), {"Git LFS pointer"});
  expect_failure(try_load_checkpoint<float>(path), {"Git LFS pointer"});
  expect_failure(try_map_adapter<float>(path), {"Git LFS pointer"});
  expect_failure(try_load_gguf<float>(path, naming), {"Git LFS pointer"});
  expect_failure(try_load_peft<float>(path), {"Git LFS pointer", "a PEFT folder is expected"});
  expect_failure(try_model_modules(path), {"Git LFS pointer"});
  std::filesystem::create_directories(folder / "peft");
  const auto peft = folder / "peft";
  write_text(peft / "adapter_config.json", read_text(path));
  expect_failure(try_load_peft<float>(peft),
                 {"adapter_config.json\" is a Git LFS pointer", "JSON is expected"});
  write_text(peft / "adapter_config.json",
             R"({"peft_type": "LORA", "r": 8, "lora_alpha": 8, "target_modules": ["q"]})");
  write_text(peft / "adapter_model.safetensors", read_text(path));
  expect_failure(try_load_peft<float>(peft), {"adapter_model.safetensors\" is a Git LFS pointer"});
  write_text(folder / "g", "GGUF\x03");
  expect_failure(try_open_native(folder / "g"), {"is a GGUF file (a safetensors file is expected)"});
  expect_failure(try_open_native(folder / "peft"),
                 {"is a PEFT folder (a native file of tiedlora is expected; load_peft reads PEFT folders, "
                  "load_gguf GGUF files)"});
  safetensors::save(peft / "adapter_model.safetensors",
                    {{.name = "x.lora_A.weight", .shape = {1}, .data = "0123"}});
  expect_failure(try_load_adapter<float>(peft / "adapter_model.safetensors"),
                 {"is a file inside a PEFT folder; give the folder, ",
                  "load_peft reads PEFT folders, load_gguf GGUF files)"});
  expect_failure(gguf::try_open(folder / "peft"), {"is a PEFT folder (a GGUF file is expected)"});
  safetensors::save(folder / "model", {{.name = "w", .shape = {1}, .data = "0123"}});
  expect_failure(try_open_native(folder / "model"),
                 {"without an adapter", "a native file of tiedlora is expected"});
  expect_failure(try_load_peft<float>(folder / "nowhere"), {"there is no folder", "nowhere"});
}

}  // namespace
}  // namespace tiedlora_test
