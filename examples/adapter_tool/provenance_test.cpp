// What an adapter's source said is in every format that it becomes, and decides what is done with it.
#include <gtest/gtest.h>

#include <tiedlora/io.hpp>
#include <tiedlora/tiedlora.hpp>

#include <fmt/format.h>

#include "norms.hpp"
#include "support/dice.hpp"
#include "support/io_files.hpp"
#include "support/peft_writer.hpp"
#include "tool_run.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

Json config_in(const std::filesystem::path& folder) {
  return *try_parse_json(read_text(folder / "adapter_config.json"));
}

/// GPT-2's attention output, whose weight is square: no shape tells how it is stored.
PeftWriter gpt2_adapter() {
  PeftWriter writer{.config = {{"peft_type", "LORA"},
                               {"r", 2},
                               {"lora_alpha", 4},
                               {"fan_in_fan_out", true},
                               {"base_model_name_or_path", "openai/gpt2"},
                               {"revision", "main"},
                               {"auto_mapping",
                                {{"base_model_class", "GPT2LMHeadModel"},
                                 {"parent_library", "transformers.models.gpt2.modeling_gpt2"}}},
                               {"target_modules", {"c_proj"}}}};
  writer.lora("transformer.h.0.attn.c_proj", 2, 4, 4);
  return writer;
}

PeftWriter qwen_adapter() {
  PeftWriter writer{.config = {{"peft_type", "LORA"},
                               {"r", 2},
                               {"base_model_name_or_path", "Qwen/Qwen2.5-0.5B"},
                               {"task_type", "CAUSAL_LM"},
                               {"target_modules", {"q_proj"}}}};
  writer.lora("model.layers.0.self_attn.q_proj", 2, 8, 8);
  return writer;
}

void save_one(const std::filesystem::path& path, const std::string& name, std::vector<Index> shape) {
  Index count = 1;
  for (const Index size : shape) count *= size;
  std::vector<float> numbers(static_cast<std::size_t>(count));
  Dice(3).fill(numbers);
  safetensors::save(path, {{{.name = name, .shape = std::move(shape), .data = numbers.data()}}});
}

TEST(Provenance, OfPeftPassesThroughEveryFormat) {
  const Folder folder;
  gpt2_adapter().write(folder / "in");
  expect_done(run({"convert", folder / "in", folder / "a.native", "--to", "native"}));
  expect_done(run({"convert", folder / "a.native", folder / "a.gguf", "--to", "gguf", "--arch", "gpt2"}));
  const Outcome back = run({"convert", folder / "a.gguf", folder / "out", "--to", "peft"});
  expect_done(back);
  EXPECT_EQ(back.err, "");
  const Json in = config_in(folder / "in"), out = config_in(folder / "out");
  for (const char* key : {"fan_in_fan_out", "base_model_name_or_path", "revision", "auto_mapping"})
    EXPECT_EQ(out[key], in[key]) << key;
  EXPECT_TRUE(out["task_type"].is_null());
  const std::string info = run({"info", folder / "a.gguf"}).out;
  expect_text(info, "architecture gpt2");
  expect_text(info, "base model  openai/gpt2");
  expect_text(info, "base class  GPT2LMHeadModel");
  expect_text(info, "in x out (fan_in_fan_out)");
}

TEST(Provenance, ATaskIsNeverInvented) {
  const Folder folder;
  PeftWriter writer = qwen_adapter();
  writer.config["task_type"] = "FEATURE_EXTRACTION";
  writer.write(folder / "in");
  expect_done(run({"convert", folder / "in", folder / "out", "--to", "peft"}));
  EXPECT_EQ(config_in(folder / "out")["task_type"], "FEATURE_EXTRACTION");
  save_adapter(folder / "bare", load_peft<float>(folder / "in").adapter);
  const Outcome outcome = run({"convert", folder / "bare", folder / "bare.out", "--to", "peft"});
  expect_done(outcome);
  expect_text(outcome.err, "does not say for which task");
  EXPECT_TRUE(config_in(folder / "bare.out")["task_type"].is_null());
}

// AutoModel has no "model." before its layers; a round trip must not put one there.
TEST(Provenance, NamesComeBackFromGgufAsTheyWere) {
  const Folder folder;
  PeftWriter writer{.config = qwen_adapter().config};
  writer.config["task_type"] = "FEATURE_EXTRACTION";
  writer.lora("layers.0.self_attn.q_proj", 2, 8, 8).write(folder / "in");
  for (const bool is_bare : {true, false}) {
    if (!is_bare) qwen_adapter().write(folder / "in");
    expect_done(run({"convert", folder / "in", folder / "a.gguf", "--to", "gguf", "--arch", "qwen2"}));
    expect_done(run({"convert", folder / "a.gguf", folder / "out", "--to", "peft"}));
    EXPECT_EQ(load_peft<float>(folder / "out").adapter.layout().modules()[0].name,
              std::string(is_bare ? "" : "model.") + "layers.0.self_attn.q_proj");
    std::filesystem::remove_all(folder / "out");
    std::filesystem::remove_all(folder / "in");
  }
}

TEST(Provenance, MergeDoesAsTheConfigSays) {
  const Folder folder;
  gpt2_adapter().write(folder / "in");
  save_one(folder / "base", "transformer.h.0.attn.c_proj.weight", {4, 4});
  expect_done(run({"convert", folder / "in", folder / "native", "--to", "native"}));
  expect_done(run({"merge", folder / "in", folder / "merged", "--base", folder / "base"}));
  expect_done(run({"merge", folder / "native", folder / "from_native", "--base", folder / "base"}));
  EXPECT_EQ(read_text(folder / "merged"), read_text(folder / "from_native"));
  const auto loaded = load_peft<float>(folder / "in");
  const adapter_tool::Product delta = adapter_tool::product(loaded.adapter, 0);
  const Eigen::MatrixXd change = delta.outer * delta.inner;
  std::vector<float> before(16), after(16);
  const auto base = safetensors::open(folder / "base"), merged = safetensors::open(folder / "merged");
  ASSERT_TRUE(safetensors::try_read(base.tensors()[0], std::span(before)));
  ASSERT_TRUE(safetensors::try_read(merged.tensors()[0], std::span(after)));
  for (Index i = 0; i < 4; ++i)
    for (Index j = 0; j < 4; ++j) {
      const auto at = static_cast<std::size_t>(4 * j + i);  // weight[in][out]
      EXPECT_NEAR(after[at], before[at] + change(i, j), 1e-5 * std::abs(change(i, j)) + 1e-6);
    }
  EXPECT_GT((change - change.transpose()).norm(), 0.1) << "else the test sees nothing";
}

TEST(Provenance, MergeDoesAsTheBaseSaysWhereTheAdapterIsWrong) {
  const Folder folder;
  PeftWriter writer = gpt2_adapter();
  writer.write(folder / "right");
  writer.config["fan_in_fan_out"] = false;
  writer.write(folder / "silent");
  std::filesystem::create_directories(folder / "base");
  save_one(folder / "base/model.safetensors", "transformer.h.0.attn.c_proj.weight", {4, 4});
  const auto merge = [&](const std::string& adapter, const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments = {"merge", folder / adapter, folder / (adapter + ".out"), "--base",
                                          folder / "base"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(arguments);
  };
  write_text(folder / "base/config.json", R"({"model_type":"gpt2"})");
  expect_done(merge("right"));
  const Outcome noted = merge("silent");
  expect_done(noted);
  expect_text(noted.err, "in x out (GPT-2's Conv1D), whatever the adapter says");
  EXPECT_EQ(read_text(folder / "right.out/model.safetensors"),
            read_text(folder / "silent.out/model.safetensors"));
  // A linear layer's weight is out x in, whatever the config says: so does PEFT take it.
  write_text(folder / "base/config.json", R"({"model_type":"llama"})");
  const Outcome linear = merge("right");
  expect_done(linear);
  expect_text(linear.err, "is stored out x in");
  EXPECT_NE(read_text(folder / "right.out/model.safetensors"),
            read_text(folder / "silent.out/model.safetensors"));
  const Outcome stated = merge("right", {"--fan-in-fan-out"});
  EXPECT_EQ(stated.code, 1);
  expect_text(stated.err, "--fan-in-fan-out says");
}

// A classifier's head is a linear module, as an encoder's beside GPT-2 is: only the Conv1Ds are in x out.
TEST(Provenance, MergeTransposesConv1dOnly) {
  const Folder folder;
  PeftWriter writer = gpt2_adapter();
  writer.config["target_modules"] = {"c_proj", "score"};
  writer.lora("score", 2, 4, 4).write(folder / "a");
  std::filesystem::create_directories(folder / "base");
  write_text(folder / "base" / "config.json", R"({"model_type": "gpt2"})");
  const std::vector<float> zeros(16, 0.0f);
  safetensors::save(folder / "base" / "model.safetensors",
                    {{{.name = "transformer.h.0.attn.c_proj.weight", .shape = {4, 4}, .data = zeros.data()},
                      {.name = "score.weight", .shape = {4, 4}, .data = zeros.data()}}});
  expect_done(run({"merge", folder / "a", folder / "out", "--base", folder / "base"}));
  const auto adapter = load_peft<double>(folder / "a").adapter;
  const auto merged = safetensors::open(folder / "out" / "model.safetensors");
  for (const char* name : {"transformer.h.0.attn.c_proj", "score"}) {
    std::vector<double> weight(16);
    ASSERT_TRUE(
        safetensors::try_read(*merged.find(std::string(name) + ".weight"), std::span<double>(weight)));
    const Index m = adapter.layout().modules().find(name);
    const Eigen::MatrixXd delta = adapter.layout().scaling(m) * adapter.B(m) * adapter.A(m);
    // Row-major in the file: in x out is the transpose there, and so delta as Eigen keeps it.
    const bool is_conv1d = std::string_view(name) != "score";
    const Eigen::MatrixXd stored = is_conv1d ? Eigen::MatrixXd(delta) : Eigen::MatrixXd(delta.transpose());
    for (Index i = 0; i < 16; ++i)
      EXPECT_NEAR(weight[static_cast<std::size_t>(i)], stored.data()[i], 1e-6 * delta.norm()) << name << i;
  }
}

// transformers names the parts of a model of language and vision in one order in memory, in another on disk.
TEST(Provenance, MergeFindsALanguageModelInALargerOne) {
  const Folder folder;
  PeftWriter writer{.config = qwen_adapter().config};
  writer.lora("model.language_model.layers.0.self_attn.q_proj", 2, 8, 8).write(folder / "a");
  for (const char* name :
       {"language_model.model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.q_proj.weight"}) {
    save_one(folder / "base", name, {8, 8});
    const Outcome merged = run({"merge", folder / "a", folder / "out", "--base", folder / "base"});
    expect_done(merged);
    expect_text(merged.err, "is taken for the base model's \"" + std::string(name));
  }
  save_one(folder / "base", "vision_model.layers.0.self_attn.q_proj.weight", {8, 8});
  EXPECT_EQ(run({"merge", folder / "a", folder / "out", "--base", folder / "base"}).code, 1);
}

TEST(Provenance, TheArchitectureIsStatedNeverGuessed) {
  const Folder folder;
  qwen_adapter().write(folder / "in");
  const auto convert = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"convert", folder / "in", folder / "x.gguf", "--to", "gguf"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(arguments);
  };
  const Outcome silent = convert({"--order", "hugging-face", "--heads", "4", "--kv-heads", "2"});
  EXPECT_EQ(silent.code, 2);
  expect_text(silent.err, "--base");
  expect_text(silent.err, "--arch NAME (llama, qwen2");
  EXPECT_FALSE(std::filesystem::exists(folder / "x.gguf"));

  std::filesystem::create_directories(folder / "base");
  write_text(folder / "base/config.json", R"({"model_type":"qwen2","num_attention_heads":4})");
  expect_done(convert({"--base", folder / "base"}));
  const auto file = gguf::open(folder / "x.gguf");
  EXPECT_EQ(file.find_value("general.architecture")->text(), "qwen2");
  EXPECT_EQ(file.find_value("general.base_model.0.name")->text(), "Qwen/Qwen2.5-0.5B");
  // Its q is not permuted: B has the rows of the PEFT folder.
  const auto own = load_peft<float>(folder / "in").adapter;
  const auto other = load_gguf<float>(folder / "x.gguf", gguf::as_in_file()).adapter;
  EXPECT_LE((own.B(0) * static_cast<float>(own.layout().scaling(0)) - other.B(0)).norm(),
            1e-6f * own.B(0).norm());

  const Outcome apart = convert({"--base", folder / "base", "--arch", "llama", "--order", "gguf"});
  EXPECT_EQ(apart.code, 2);
  expect_text(apart.err, "--arch says architecture \"llama\", but");
  write_text(folder / "base/config.json", R"({"model_type":"falcon"})");
  const Outcome unknown = convert({"--base", folder / "base"});
  EXPECT_EQ(unknown.code, 2);
  expect_text(unknown.err, "says model_type \"falcon\"");
}

TEST(Provenance, TheBaseTellsLlamasHeads) {
  const Folder folder;
  qwen_adapter().write(folder / "in");
  std::filesystem::create_directories(folder / "base");
  write_text(folder / "base/config.json",
             R"({"model_type":"mistral","num_attention_heads":2,"num_key_value_heads":1})");
  const std::vector<std::string> order = {"--to", "gguf", "--order", "hugging-face"};
  const auto convert = [&](const std::string& to, std::vector<std::string> more) {
    std::vector<std::string> arguments = {"convert", folder / "in", folder / to};
    arguments.insert(arguments.end(), order.begin(), order.end());
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(arguments);
  };
  expect_done(convert("a", {"--base", folder / "base"}));
  expect_done(convert("b", {"--arch", "llama", "--heads", "2", "--kv-heads", "1"}));
  EXPECT_EQ(read_text(folder / "a"), read_text(folder / "b"));
  const Outcome apart = convert("c", {"--base", folder / "base", "--heads", "4"});
  EXPECT_EQ(apart.code, 2);
  expect_text(apart.err, "--heads is 4, but");
}

TEST(Provenance, ALlamaInGgufIsMergedInTransformersOrder) {
  const Folder folder;
  qwen_adapter().write(folder / "in");
  std::filesystem::create_directories(folder / "base");
  write_text(folder / "base/config.json", R"({"model_type":"llama","num_attention_heads":2})");
  save_one(folder / "base/model.safetensors", "model.layers.0.self_attn.q_proj.weight", {8, 8});
  expect_done(run({"convert", folder / "in", folder / "x.gguf", "--to", "gguf", "--base", folder / "base",
                   "--order", "hugging-face"}));
  expect_done(run({"merge", folder / "in", folder / "a", "--base", folder / "base"}));
  expect_done(run({"merge", folder / "x.gguf", folder / "b", "--base", folder / "base"}));
  const auto a = safetensors::open(folder / "a/model.safetensors"),
             b = safetensors::open(folder / "b/model.safetensors");
  std::vector<float> one(64), other(64);
  ASSERT_TRUE(safetensors::try_read(a.tensors()[0], std::span(one)));
  ASSERT_TRUE(safetensors::try_read(b.tensors()[0], std::span(other)));
  for (std::size_t i = 0; i < 64; ++i) EXPECT_NEAR(one[i], other[i], 1e-5f * (1 + std::abs(one[i])));
  EXPECT_EQ(
      run({"merge", folder / "x.gguf", folder / "c", "--base", folder / "base", "--order", "gguf"}).code, 2);
}

TEST(Provenance, InfoLooksAtEveryArchitecture) {
  const Folder folder;
  const auto adapter = load_peft<float>([&] {
                         qwen_adapter().write(folder / "in");
                         return folder / "in";
                       }())
                           .adapter;
  gguf::Naming naming;
  for (const char* architecture : {"qwen2", "phi3", "command-r"}) {
    naming.architecture = architecture;
    naming.names = names::llama();
    export_gguf(adapter, folder / "x.gguf", naming);
    const Outcome outcome = run({"info", folder / "x.gguf"});
    expect_done(outcome);
    expect_text(outcome.out, fmt::format("architecture {}", architecture));
    expect_text(outcome.out,
                naming.architecture == "qwen2" ? "model.layers.0.self_attn.q_proj" : "blk.0.attn_q");
  }
  const Outcome refused = run({"convert", folder / "x.gguf", folder / "y", "--to", "peft"});
  EXPECT_EQ(refused.code, 2);
  expect_text(refused.err, "the adapter says architecture \"command-r\", whose modules' names");
}

}  // namespace
}  // namespace tiedlora_test
