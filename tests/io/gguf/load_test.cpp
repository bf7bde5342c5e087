// Adapters from GGUF files by others: what they may say, and what is refused.
#include <gtest/gtest.h>

#include <cmath>
#include <tiedlora/io/gguf.hpp>

#include "support/gguf_bytes.hpp"
#include "support/gguf_llama.hpp"
#include "support/io_files.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using namespace gguf_llama;
using gguf::Type;

/// An adapter file of one module q of layer 0, rank 2, as the callers change it.
struct Claims {
  std::string type = "adapter", kind = "lora", architecture = "llama";
  std::string a_name = "blk.0.attn_q.weight.lora_a", b_name = "blk.0.attn_q.weight.lora_b";
  std::vector<std::uint64_t> a_shape = {8, 2}, b_shape = {2, 12};
  Type a_type = Type::F32;
  float alpha = 0;
  std::string extra_key = {};

  GgufBytes bytes() const {
    GgufBytes out;
    out.head(2, extra_key.empty() ? 4 : 5).value("general.type", std::string_view(type));
    out.value("adapter.type", std::string_view(kind));
    out.value("general.architecture", std::string_view(architecture));
    out.value("adapter.lora.alpha", alpha);
    if (!extra_key.empty()) out.value(extra_key, 1u);
    const auto size = [](const std::vector<std::uint64_t>& shape) {
      std::uint64_t product = 4;
      for (const std::uint64_t s : shape) product *= s;
      return product;
    };
    const std::uint64_t end = (size(a_shape) + 31) / 32 * 32;
    out.tensor(a_name, a_shape, a_type, 0).tensor(b_name, b_shape, Type::F32, end);
    out.pad();
    for (std::uint64_t i = 0; i < end / 4; ++i) out.number(1.0f);
    for (std::uint64_t i = 0; i < size(b_shape) / 4; ++i) out.number(2.0f);
    return out;
  }
};

Result<LoadedGguf<float>> load(const Claims& file) {
  const Folder folder;
  write_text(folder / "x.gguf", file.bytes().str());
  return try_load_gguf<float>(folder / "x.gguf", llama_modules(), naming(Order::gguf));
}

TEST(GgufLoad, AlphaIsOverRankAndZeroMeansOne) {
  for (const auto& [alpha, scaling] : {std::pair(0.0f, 1.0), {6.0f, 3.0}, {-1.0f, -0.5}}) {
    const auto loaded = load({.alpha = alpha});
    ASSERT_TRUE(loaded) << loaded.error();
    EXPECT_EQ(loaded->adapter.layout().scaling(0), scaling);
  }
}

TEST(GgufLoad, ShapesMayLackOnesAtTheirEnd) {
  const auto loaded = load({.a_shape = {8}, .b_shape = {1, 12}});
  ASSERT_TRUE(loaded) << loaded.error();
  EXPECT_EQ(loaded->adapter.layout().rank(0), 1);
  EXPECT_TRUE(load({.a_shape = {8, 2, 1, 1}}));
}

TEST(GgufLoad, Refuses) {
  expect_failure(load({.type = "model"}), {"x.gguf\" is not an adapter but a whole model"});
  expect_failure(load({.kind = "control_vector"}), {"is not a LoRA: its adapter.type is \"control_vector\""});
  expect_failure(load({.architecture = "gpt2"}), {"architecture \"gpt2\"", "for \"llama\""});
  expect_failure(load({.alpha = NAN}), {"adapter.lora.alpha"});
  expect_failure(load({.extra_key = "adapter.alora.invocation_tokens"}), {"aLoRA"});
  expect_failure(load({.a_name = "blk.0.attn_norm.weight"}),
                 {"tensor \"blk.0.attn_norm.weight\"", "would be lost"});
  expect_failure(load({.a_name = "token_embd.weight.lora_a"}), {"adapts the embedding"});
  expect_failure(load({.a_name = "blk.1.attn_q.weight.lora_a"}),
                 {"lora_b but no lora_a for \"blk.0.attn_q\""});
  expect_failure(load({.a_shape = {8, 3}}), {"{8, 3}", "{2, 12}", "do not fit each other"});
  expect_failure(load({.a_shape = {2, 2, 2}}), {"{2, 2, 2}", "{2, 12}", "do not fit each other"});
  expect_failure(load({.a_shape = {8, 2, 3}, .b_shape = {2, 12, 3}}),
                 {"{8, 2, 3}", "{2, 12, 3}", "adapters of experts are not supported"});
  expect_failure(load({.a_shape = {8, 0}, .b_shape = {0, 12}}), {"do not fit each other"});
  expect_failure(load({.a_shape = {9, 2}}),
                 {"\"model.layers.0.self_attn.q_proj\" is 12x8", "12x9", "wrong base model?"});
  expect_failure(load({.a_type = Type{26}}), {"I32", "F32, F16, BF16 and Q8_0 can be read"});
  expect_failure(load({.a_name = "blk.7.attn_q.weight.lora_a", .b_name = "blk.7.attn_q.weight.lora_b"}),
                 {"none of the 1 modules that it adapts", "\"blk.7.attn_q\"", "wrong base model or naming?"});
  const Folder folder;
  expect_failure(try_load_gguf<float>(folder / "x", llama_modules(), naming(Order::gguf)),
                 {"cannot be opened"});
  write_text(folder / "x", Claims().bytes().str());
  expect_failure(
      try_load_gguf<float>(folder / "x", llama_modules(),
                           gguf::llama({.heads = 5, .kv_heads = 1, .weights = Order::hugging_face})),
      {"12 rows are not 5 heads"});
  ModuleList twice;
  for (const char* name : {"layers.0.self_attn.q_proj", "model.layers.0.self_attn.q_proj"})
    twice.add({.name = name, .in_features = 8, .out_features = 12});
  expect_failure(try_load_gguf<float>(folder / "x", twice, naming(Order::gguf)),
                 {"map to the same GGUF name, \"blk.0.attn_q\""});
}

TEST(GgufLoad, LeavesOutIfToldWhatItCannotExpress) {
  const Folder folder;
  Dice dice(8);
  gguf::Naming with_embedding = naming(Order::gguf);
  with_embedding.names = {{"model.layers.0.self_attn.q_proj", "token_embd"}};
  with_embedding.names.add({"model.layers.*.self_attn.q_proj", "blk.*.attn_q"});
  ModuleList modules;
  for (int layer = 0; layer < 2; ++layer)
    modules.add({.name = "model.layers." + std::to_string(layer) + ".self_attn.q_proj",
                 .layer = layer,
                 .in_features = 8,
                 .out_features = 12});
  export_gguf(filled(modules, schemes::lora(), dice), folder / "x", with_embedding);
  expect_failure(try_load_gguf<float>(folder / "x", gguf::as_in_file()), {"adapts the embedding"});
  const auto loaded = load_gguf<float>(folder / "x", gguf::as_in_file(), {.partial = true});
  EXPECT_EQ(loaded.adapter.layout().size(), 1);
  EXPECT_EQ(loaded.report.unused,
            (std::vector<std::string>{"token_embd.weight.lora_a", "token_embd.weight.lora_b"}));
  EXPECT_EQ(loaded.report.notes.size(), 2);
}

TEST(GgufLoad, NamesModulesAsTheFileDoes) {
  const auto loaded = [] {
    const Folder folder;
    write_text(folder / "x", Claims{.architecture = "command-r"}.bytes().str());
    return load_gguf<float>(folder / "x", gguf::as_in_file());
  }();
  EXPECT_EQ(loaded.adapter.layout().modules()[0].name, "blk.0.attn_q");
  EXPECT_EQ(loaded.source.architecture, "command-r");
}

TEST(GgufLoad, ReportsWhatTheHostLacks) {
  const Folder folder;
  Dice dice(8);
  const auto adapter = filled(llama_modules(), schemes::lora(), dice);
  export_gguf(adapter, folder / "x", naming(Order::gguf));
  ModuleList one;
  one.add(llama_modules()[3]);
  const auto loaded = load_gguf<float>(folder / "x", one, naming(Order::gguf));
  EXPECT_EQ(loaded.report.used,
            (std::vector<std::string>{"blk.1.attn_q.weight.lora_a", "blk.1.attn_q.weight.lora_b"}));
  EXPECT_EQ(loaded.report.unused.size(), 10);
  EXPECT_TRUE(loaded.adapter.A(0) == adapter.A(3));
}

TEST(GgufLoad, TensorsTellTheModules) {
  const Folder folder;
  Dice dice(9);
  const auto adapter = filled(llama_modules(), schemes::tied_lora(), dice);
  export_gguf(adapter, folder / "x", naming(Order::hugging_face));
  const auto loaded = load_gguf<float>(folder / "x", naming(Order::hugging_face)).adapter;
  ASSERT_EQ(loaded.layout().size(), 6);
  for (Index m = 0; m < 6; ++m) {
    const Index n = llama_modules().find(loaded.layout().modules()[m].name);
    EXPECT_LE((delta(loaded, m) - delta(adapter, n)).norm(), 1e-5 * delta(adapter, n).norm()) << m;
    EXPECT_EQ(loaded.layout().modules()[m].layer, m / 3);
  }
  gguf::Naming few = naming(Order::gguf);
  few.names = {{"q.*", "blk.*.attn_q"}};
  expect_failure(try_load_gguf<float>(folder / "x", few),
                 {"adapts \"blk.0.attn_k\"", "naming of \"llama\" has no rule"});
}

}  // namespace
}  // namespace tiedlora_test
