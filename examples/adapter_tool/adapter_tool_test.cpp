// adapter_tool, each command from its arguments to its files and its text.
#include <gtest/gtest.h>

#include <algorithm>
#include <tiedlora/io.hpp>
#include <tiedlora/tiedlora.hpp>

#include <fmt/format.h>

#include "norms.hpp"
#include "support/dice.hpp"
#include "support/io_files.hpp"
#include "tool_run.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

/// Two layers of q 8 → 12 (3 heads) and k 8 → 4 (1 head).
Adapter<float> tied(bool zero = false) {
  ModuleList modules;
  for (int layer = 0; layer < 2; ++layer)
    for (const auto& [name, out] : {std::pair("q_proj", 12), std::pair("k_proj", 4)})
      modules.add({.name = "model.layers." + std::to_string(layer) + ".self_attn." + name,
                   .layer = layer,
                   .input = "x",
                   .in_features = 8,
                   .out_features = out});
  Adapter<float> adapter(Layout(modules, schemes::tied_lora(), 3, {.scaling = 0.5}));
  adapter.initialize(1);
  Dice dice(1);
  if (!zero) dice.fill(adapter.trainable());
  return adapter;
}

/// A base of all modules' weights and an embedding; `transposed` as GPT-2 stores them.
template <class P>
std::vector<P> save_base(const std::filesystem::path& path, const Adapter<float>& adapter,
                         bool transposed = false) {
  Dice dice(2);
  std::vector<P> numbers(2 * (12 + 4) * 8 + 10);
  dice.fill(numbers);
  std::vector<safetensors::Entry> entries = {{.name = "model.embed_tokens.weight",
                                              .dtype = safetensors::dtype_of<P>,
                                              .shape = {5, 2},
                                              .data = numbers.data()}};
  const P* next = numbers.data() + 10;
  for (const Module& module : adapter.layout().modules()) {
    std::vector<Index> shape = {module.out_features, module.in_features};
    if (transposed) std::swap(shape[0], shape[1]);
    entries.push_back(
        {.name = module.name + ".weight", .dtype = safetensors::dtype_of<P>, .shape = shape, .data = next});
    next += module.out_features * module.in_features;
  }
  safetensors::save(path, entries, {{"format", "pt"}});
  return numbers;
}

template <class P>
void expect_merged(const std::filesystem::path& path, const std::vector<P>& base,
                   const Adapter<float>& adapter, bool transposed = false) {
  const auto file = safetensors::open(path);
  std::vector<P> embedding(10);
  ASSERT_TRUE(safetensors::try_read(*file.find("model.embed_tokens.weight"), std::span(embedding)));
  EXPECT_TRUE(std::equal(embedding.begin(), embedding.end(), base.begin()));
  EXPECT_EQ(file.metadata().at("format"), "pt");
  const P* next = base.data() + 10;
  for (Index m = 0; m < adapter.layout().size(); ++m) {
    const Module& module = adapter.layout().modules()[m];
    const Index rows = module.out_features, columns = module.in_features;
    const adapter_tool::Product delta = adapter_tool::product(adapter, m);
    const Eigen::MatrixXd change = delta.outer * delta.inner;
    std::vector<P> merged(static_cast<std::size_t>(rows * columns));
    ASSERT_TRUE(safetensors::try_read(*file.find(module.name + ".weight"), std::span(merged)));
    for (Index i = 0; i < rows; ++i)
      for (Index j = 0; j < columns; ++j) {
        const Index at = transposed ? j * rows + i : i * columns + j;
        const double exact = static_cast<double>(next[at]) + change(i, j);
        // Rounded once: half a unit of the type's last bit.
        const double unit = std::is_same_v<P, float>         ? 0x1p-23
                            : std::is_same_v<P, Eigen::half> ? 0x1p-10
                                                             : 0x1p-7;
        EXPECT_NEAR(static_cast<double>(merged[static_cast<std::size_t>(at)]), exact,
                    unit * std::abs(exact) + 1e-7);
      }
    EXPECT_GT(change.norm(), 0.1);
    next += rows * columns;
  }
}

TEST(AdapterTool, HelpAndUsage) {
  for (const char* command : {"info", "convert", "merge", "diff"}) {
    expect_done(run({command, "--help"}));
    EXPECT_EQ(run({command}).code, 2);
  }
  expect_text(run({"--help"}).out, "Exit codes: 0 done");
  EXPECT_EQ(run({}).code, 2);
  EXPECT_EQ(run({"info", "/nonexistent/x"}).code, 1);
  for (const std::string option : {"--heads", "--kv-heads"})
    for (const char* value : {"0", "-1", "nan", "1.5", "", "0x3", "99999999999999999999999", "2000000000"}) {
      const Outcome outcome = run({"info", "a", option, value});
      EXPECT_EQ(outcome.code, 2);
      expect_text(outcome.err, option + ": \"" + value + "\" is not a whole number from 1 to 65536");
    }
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"info", ""},
                                             {"convert", "a", "", "--to", "peft"},
                                             {"merge", "a", "b", "--base", ""},
                                             {"diff", "a", ""}}) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.code, 2);
    expect_text(outcome.err, "the path is empty");
  }
}

TEST(AdapterTool, AResultThatCannotBeWrittenIsAFailure) {
  const Folder folder;
  const std::string path = folder / "a";
  save_adapter(path, tied());
  for (const std::vector<const char*>& argv : std::vector<std::vector<const char*>>{
           {"adapter_tool", "info", path.c_str()}, {"adapter_tool", "--help"}}) {
    std::ostringstream out, err;
    out.setstate(std::ios::badbit);
    EXPECT_EQ(adapter_tool::run(static_cast<int>(argv.size()), argv.data(), out, err), 1);
    expect_text(err.str(), "cannot write to standard output");
  }
}

TEST(AdapterTool, Info) {
  const Folder folder;
  save_adapter(folder / "a", tied(), {.base_model = "some/model"});
  const Outcome outcome = run({"info", folder / "a"});
  expect_done(outcome);
  expect_text(outcome.out, "base model  some/model");
  expect_text(outcome.out, "A: all layers x input, trained");
  expect_text(outcome.out, "model.layers.1.self_attn.k_proj");
  expect_text(outcome.out, "4 of 4 modules adapted");
  expect_text(outcome.out,
              "parameters  " + std::to_string(tied().layout().trainable_count()) + " trainable, 0 frozen");
  expect_text(outcome.out, fmt::format("fingerprint {:016x}", tiedlora::fingerprint(tied())));
  EXPECT_EQ(outcome.err, "");
  // The norm without the detour through factors.
  const adapter_tool::Product p = adapter_tool::product(tied(), 0);
  expect_text(outcome.out, fmt::format("{:.5g}", (p.outer * p.inner).norm()));
}

TEST(AdapterTool, InfoWarns) {
  const Folder folder;
  save_adapter(folder / "zero", tied(true));
  expect_text(run({"info", folder / "zero"}).err, "zero everywhere");
  auto broken = tied();
  broken.A(0)(0, 0) = std::numeric_limits<float>::quiet_NaN();
  save_adapter(folder / "nan", broken);
  expect_text(run({"info", folder / "nan"}).err, "1 parameters are NaN or infinite");
}

TEST(AdapterTool, ConvertKeepsTheFunction) {
  const Folder folder;
  save_adapter(folder / "native", tied(), {.base_model = "some/model"});
  const std::vector<std::string> llama = {"--arch",  "llama", "--order",    "hugging-face",
                                          "--heads", "3",     "--kv-heads", "1"};
  const auto convert = [&](const std::string& from, const std::string& to, const std::string& format) {
    std::vector<std::string> arguments = {"convert", folder / from, folder / to, "--to", format};
    arguments.insert(arguments.end(), llama.begin(), llama.end());
    expect_done(run(arguments));
  };
  convert("native", "peft", "peft");
  convert("peft", "x.gguf", "gguf");
  convert("x.gguf", "again", "native");
  EXPECT_EQ(open_native(folder / "again").metadata.base_model, "some/model");
  const auto first = tied(), last = load_adapter<float>(folder / "again");
  for (Index m = 0; m < 4; ++m) {
    const Index n = last.layout().modules().find(first.layout().modules()[m].name);
    const auto a = adapter_tool::product(first, m), b = adapter_tool::product(last, n);
    EXPECT_LE((a.outer * a.inner - b.outer * b.inner).norm(), 1e-6 * (a.outer * a.inner).norm());
  }
  std::vector<std::string> arguments = {"diff", folder / "native", folder / "x.gguf"};
  arguments.insert(arguments.end(), llama.begin(), llama.end());
  const Outcome outcome = run(arguments);
  expect_done(outcome);
  expect_text(outcome.out, "all");
  EXPECT_EQ(run({"info", folder / "x.gguf"}).code, 0) << "the order does not matter for it";
}

TEST(AdapterTool, ConvertWantsTheOrder) {
  const Folder folder;
  save_adapter(folder / "a", tied());
  const Outcome unknown = run({"convert", folder / "a", folder / "x", "--to", "gguf", "--order", "gguf"});
  EXPECT_EQ(unknown.code, 2);
  expect_text(unknown.err, "does not say for which architecture");
  const Outcome none = run({"convert", folder / "a", folder / "x", "--to", "gguf", "--arch", "llama"});
  EXPECT_EQ(none.code, 2);
  expect_text(none.err, "--order");
  const Outcome no_heads = run(
      {"convert", folder / "a", folder / "x", "--to", "gguf", "--arch", "llama", "--order", "hugging-face"});
  EXPECT_EQ(no_heads.code, 2);
  expect_text(no_heads.err, "--heads");
  EXPECT_FALSE(std::filesystem::exists(folder / "x"));
  expect_done(run({"convert", folder / "a", folder / "x", "--to", "gguf", "--arch", "llama", "--order",
                   "gguf", "--type", "bf16"}));
}

TEST(AdapterTool, MergeRoundsOnce) {
  const Folder folder;
  const auto adapter = tied();
  save_adapter(folder / "a", adapter);
  const auto merge = [&]<class P>(P, bool transposed) {
    const auto base = save_base<P>(folder / "base", adapter, transposed);
    std::vector<std::string> arguments = {"merge", folder / "a", folder / "merged", "--base",
                                          folder / "base"};
    if (transposed) arguments.emplace_back("--fan-in-fan-out");
    expect_done(run(arguments));
    expect_merged(folder / "merged", base, adapter, transposed);
  };
  merge(float(), false), merge(float(), true);
  merge(Eigen::half(), false), merge(Eigen::bfloat16(), true);
}

TEST(AdapterTool, MergeOfShards) {
  const Folder folder;
  const auto adapter = tied();
  save_adapter(folder / "a", adapter);
  save_base<float>(folder / "whole", adapter);
  const auto whole = safetensors::open(folder / "whole");
  std::filesystem::create_directories(folder / "base");
  std::string index;
  for (int shard = 0; shard < 2; ++shard) {
    const std::string name = "model-" + std::to_string(shard) + ".safetensors";
    std::vector<safetensors::Entry> entries;
    for (std::size_t i = 0; i < whole.tensors().size(); ++i) {
      const auto& tensor = whole.tensors()[i];
      if (i % 2 != static_cast<std::size_t>(shard)) continue;
      entries.push_back(
          {.name = tensor.name, .dtype = tensor.dtype, .shape = tensor.shape, .data = tensor.bytes.data()});
      index += (index.empty() ? "" : ",") + ("\"" + tensor.name) + "\":\"" + name + "\"";
    }
    safetensors::save(folder / "base" / name, entries);
  }
  write_text(folder / "base/model.safetensors.index.json", "{\"weight_map\":{" + index + "}}");
  write_text(folder / "base/config.json", "{}");
  expect_done(run({"merge", folder / "a", folder / "out", "--base", folder / "base"}));
  EXPECT_TRUE(std::filesystem::exists(folder / "out/model.safetensors.index.json"));
  EXPECT_TRUE(std::filesystem::exists(folder / "out/config.json"));
  expect_done(run({"merge", folder / "a", folder / "merged", "--base", folder / "whole"}));
  const auto merged = safetensors::open(folder / "merged");
  for (int shard = 0; shard < 2; ++shard) {
    const auto file = safetensors::open(folder / ("out/model-" + std::to_string(shard) + ".safetensors"));
    for (const auto& tensor : file.tensors())
      EXPECT_TRUE(std::ranges::equal(merged.find(tensor.name)->bytes, tensor.bytes)) << tensor.name;
  }
}

TEST(AdapterTool, MergeRefusals) {
  const Folder folder;
  const auto adapter = tied();
  save_adapter(folder / "a", adapter);
  save_base<float>(folder / "base", adapter, true);
  write_text(folder / "out", "old");
  const Outcome swapped = run({"merge", folder / "a", folder / "out", "--base", folder / "base"});
  EXPECT_EQ(swapped.code, 1);
  expect_text(swapped.err, "is 8x12, but the adapter is for 12x8 (out x in)");
  expect_text(swapped.err, "--fan-in-fan-out");
  safetensors::save(folder / "empty", {});
  const Outcome missing = run({"merge", folder / "a", folder / "out", "--base", folder / "empty"});
  EXPECT_EQ(missing.code, 1);
  expect_text(missing.err, "no \"model.layers.0.self_attn.q_proj.weight\"; wrong base model?");
  EXPECT_EQ(read_text(folder / "out"), "old");
}

TEST(AdapterTool, MergeCopiesWhatBelongsToTheMergedModel) {
  const Folder folder;
  const auto adapter = tied();
  save_adapter(folder / "a", adapter);
  std::filesystem::create_directories(folder / "base");
  const auto base = save_base<float>(folder / "base/model.safetensors", adapter);
  for (const char* name : {"config.json", "tokenizer.json", "tokenizer.model", "adapter_config.json",
                           "pytorch_model.bin", "pytorch_model.bin.index.json", "model.gguf", "tf_model.h5",
                           "model.safetensors.index.json", "consolidated.safetensors"})
    write_text(folder / "base" / name, "{}");
  std::filesystem::create_directories(folder / "base" / "1_Pooling");
  for (const bool again : {false, true}) {  // the second replaces the first
    const Outcome outcome = run({"merge", folder / "a", folder / "out", "--base", folder / "base"});
    expect_done(outcome);
    expect_text(outcome.err,
                "not copied, since it looks like weights without the adapter: \"pytorch_model.bin\"");
    expect_text(outcome.err,
                "not copied, since it is a folder; copy it if the model needs it: \"1_Pooling\"");
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder / "out"))
      names.push_back(entry.path().filename().string());
    std::ranges::sort(names);
    EXPECT_EQ(names, (std::vector<std::string>{"config.json", "model.safetensors", "tokenizer.json",
                                               "tokenizer.model"}))
        << again;
    expect_merged(folder / "out/model.safetensors", base, adapter);
  }
}

TEST(AdapterTool, MergeLeavesOtherModelsAlone) {
  const Folder folder;
  const auto adapter = tied();
  save_adapter(folder / "a", adapter);
  std::filesystem::create_directories(folder / "base");
  std::filesystem::create_directories(folder / "out");
  save_base<float>(folder / "base/model.safetensors", adapter);
  write_text(folder / "base/config.json", "{}");
  const auto refused = [&](const std::filesystem::path& base, const std::filesystem::path& target,
                           const std::string& why) {
    const Outcome outcome = run({"merge", folder / "a", target.string(), "--base", base.string()});
    EXPECT_EQ(outcome.code, 1);
    expect_text(outcome.err, why);
  };
  for (const std::string name : {"model-00001-of-00002.safetensors", "model.safetensors.index.json"}) {
    write_text(folder / "out" / name, "old");
    refused(folder / "base", folder / "out", "holds another model, with \"" + name + "\"");
    std::filesystem::remove(folder / "out" / name);
  }
  const std::string before = read_text(folder / "base/model.safetensors");
  refused(folder / "base", folder / "base", "is the base model itself; give another folder");
  refused(folder / "base/model.safetensors", folder / "base/model.safetensors",
          "is the base model itself; give another file");
#ifndef _WIN32
  std::filesystem::create_symlink(folder / "base/model.safetensors", folder / "link");
  refused(folder / "base/model.safetensors", folder / "link", "is the base model itself; give another file");
  std::filesystem::create_symlink(folder / "base/config.json", folder / "out/config.json");
  refused(folder / "base", folder / "out", "out/config.json\" is a file of the base model itself");
  std::filesystem::remove(folder / "out/config.json");
#endif
  EXPECT_EQ(read_text(folder / "base/model.safetensors"), before);
  EXPECT_TRUE(std::filesystem::is_empty(folder / "out"));
}

TEST(AdapterTool, Diff) {
  const Folder folder;
  save_adapter(folder / "a", tied());
  auto other = tied();
  for (Index m = 0; m < 4; ++m) other.v(m) *= 1.25f;
  save_adapter(folder / "b", other);
  const std::string same = run({"diff", folder / "a", folder / "a"}).out;
  EXPECT_LT(std::stod(same.substr(same.rfind("all ") + 4)), 1e-15);
  expect_text(run({"diff", folder / "a", folder / "b"}).out, fmt::format("{:<44} {:>12}", "all", 0.25));
}

}  // namespace
}  // namespace tiedlora_test
