// adapter_tool on files that are not what people think, hold NaN, or write to the terminal.
#include <gtest/gtest.h>

#include <limits>
#include <sstream>
#include <string>
#include <tiedlora/io.hpp>
#include <tiedlora/tiedlora.hpp>
#include <vector>

#include "program.hpp"
#include "support/dice.hpp"
#include "support/io_files.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

class BadFiles : public testing::Test {
 protected:
  /// Runs the tool, expects the exit code, and gives what it said on both streams.
  static std::string said(const std::vector<std::string>& arguments, int code) {
    std::vector<const char*> argv = {"adapter_tool"};
    for (const std::string& argument : arguments) argv.push_back(argument.c_str());
    std::ostringstream out, err;
    EXPECT_EQ(adapter_tool::run(static_cast<int>(argv.size()), argv.data(), out, err), code) << err.str();
    return out.str() + err.str();
  }
  static void expect_said(const std::vector<std::string>& arguments, int code,
                          std::initializer_list<std::string_view> parts) {
    const std::string text = said(arguments, code);
    for (const std::string_view part : parts)
      EXPECT_NE(text.find(part), text.npos) << "no \"" << part << "\" in: " << text;
    for (const char c : text) EXPECT_TRUE(c == '\n' || static_cast<unsigned char>(c) >= 0x20) << text;
  }
  static Adapter<float> small(const std::string& name = "model.layers.0.self_attn.q_proj") {
    ModuleList modules;
    modules.add({.name = name, .layer = 0, .in_features = 8, .out_features = 6});
    Adapter<float> adapter(Layout(modules, schemes::lora(), 2));
    Dice(5).fill(adapter.trainable());
    return adapter;
  }
  std::string path(std::string_view name) const { return folder / name; }

  Folder folder;
};

TEST_F(BadFiles, ANanIsNamedAndNothingIsWritten) {
  Adapter<float> adapter = small();
  adapter.A(0)(1, 3) = std::numeric_limits<float>::quiet_NaN();
  save_peft(adapter, path("peft"));
  save_adapter(path("native"), adapter);
  export_gguf(adapter, path("gguf"), gguf::llama({.weights = gguf::Order::gguf}));
  const std::vector<float> weight(48, 1.0f);
  safetensors::save(
      path("base"),
      {{.name = "model.layers.0.self_attn.q_proj.weight", .shape = {6, 8}, .data = weight.data()}});
  for (const auto& [from, place] : {std::pair("peft", "[1, 3]"), {"native", "[11]"}, {"gguf", "[3, 1]"}}) {
    SCOPED_TRACE(from);
    expect_said({"convert", path(from), path("out"), "--to", "native", "--order", "gguf"}, 1,
                {from, "has NaN at ", place, "; 1 of its ", "--no-check-finite"});
    if (std::string_view(from) != "gguf")  // for which merge asks for the heads
      expect_said({"merge", path(from), path("out"), "--base", path("base")}, 1, {"has NaN at ", place});
    expect_said({"diff", path(from), path("native"), "--order", "gguf"}, 1, {"has NaN at ", place});
    EXPECT_FALSE(std::filesystem::exists(path("out")));
    expect_said({"info", path(from)}, 0, {"1 parameters are NaN or infinite", "has NaN at ", place});
    said({"convert", path(from), path("out"), "--to", "native", "--order", "gguf", "--no-check-finite"}, 0);
    std::filesystem::remove(path("out"));
  }
}

TEST_F(BadFiles, NumbersTooLargeForATypeAreRefused) {
  Adapter<float> adapter = small();
  adapter.B(0)(1, 0) = 1e5f;  // half ends at 65504
  save_adapter(path("big"), adapter);
  for (const char* to : {"native", "peft", "gguf"}) {
    SCOPED_TRACE(to);
    expect_said(
        {"convert", path("big"), path(to), "--to", to, "--type", "f16", "--order", "gguf", "--arch", "llama"},
        1, {"100000 is too large for the type"});
    EXPECT_FALSE(std::filesystem::exists(path(to)) && !std::filesystem::is_empty(path(to)));
  }
  const std::vector<Eigen::half> weight(48, Eigen::half(1));
  safetensors::save(path("base"), {{.name = "model.layers.0.self_attn.q_proj.weight",
                                    .dtype = safetensors::Dtype::F16,
                                    .shape = {6, 8},
                                    .data = weight.data()}});
  expect_said({"merge", path("big"), path("merged"), "--base", path("base")}, 1, {"too large for F16"});
  EXPECT_FALSE(std::filesystem::exists(path("merged")));
}

TEST_F(BadFiles, SaysWhatAFileIs) {
  const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 54560368\n";
  const std::string page = "<!DOCTYPE html><html><body>Access to model is restricted</body></html>";
  save_peft(small(), path("peft"));
  const auto weights = folder / "peft" / "adapter_model.safetensors",
             config = folder / "peft" / "adapter_config.json";
  expect_said({"info", weights.string()}, 1,
              {"is a file inside a PEFT folder; give the folder, ", path("peft")});
  expect_said({"info", config.string()}, 1, {"is a file inside a PEFT folder; give the folder, "});
  write_text(weights, pointer);
  expect_said({"info", path("peft")}, 1, {"adapter_model.safetensors", "Git LFS pointer", "git lfs pull"});
  write_text(weights, page);
  expect_said({"info", path("peft")}, 1, {"adapter_model.safetensors", "a web page (HTML"});
  write_text(config, page);
  expect_said({"info", path("peft")}, 1, {"adapter_config.json", "a web page (HTML"});
  for (const auto& [bytes, what] : {std::pair(pointer, "Git LFS pointer"),
                                    {page, "a web page (HTML"},
                                    {std::string("algg\1"), "ggla"},
                                    {std::string("\x80\x02}q\1."), "Python pickle"},
                                    {std::string(), "empty"}}) {
    write_text(folder / "x.safetensors", bytes);
    expect_said({"info", path("x.safetensors")}, 1, {what, "an adapter is expected"});
  }
}

TEST_F(BadFiles, AReaderIsChosenByBytes) {
  save_adapter(path("native.gguf"), small());
  export_gguf(small(), path("gguf.safetensors"), gguf::llama({.weights = gguf::Order::gguf}));
  expect_said({"info", path("native.gguf")}, 0, {"format      native"});
  expect_said({"info", path("gguf.safetensors")}, 0, {"format      gguf"});
}

TEST_F(BadFiles, AFlippedBitIsNamed) {
  save_adapter(path("x"), small());
  std::string bytes = read_text(path("x"));
  bytes.back() = static_cast<char>(bytes.back() ^ 4);
  write_text(path("x"), bytes);
  expect_said({"info", path("x")}, 1, {path("x"), "is damaged: its checksum is"});
}

TEST_F(BadFiles, NothingOfAFileReachesTheTerminal) {
  const std::string name = "a\x1b[2J\x1b[1;1Hok\nforged \u202e\u2028\u009b";
  save_adapter(path("native"), small("layers.0." + name), {.base_model = name});
  save_peft(small(), path("peft"), {.base_model = name});
  const std::string_view shown = R"(a\x1b[2J\x1b[1;1Hok\nforged \xe2\x80\xae\xe2\x80\xa8\xc2\x9b)";
  expect_said({"info", path("native")}, 0, {shown});
  expect_said({"info", path("peft")}, 0, {shown});
  expect_said({"diff", path("native"), path("peft")}, 0, {shown});
  const std::vector<float> weight(48, 1.0f);
  safetensors::save(path("base"), {{.name = "w", .shape = {6, 8}, .data = weight.data()}});
  expect_said({"merge", path("native"), path("out"), "--base", path("base")}, 1, {"wrong base model", shown});
}

}  // namespace
}  // namespace tiedlora_test
