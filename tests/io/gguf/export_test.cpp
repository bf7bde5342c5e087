// Adapters of every scheme to GGUF and back.
#include <gtest/gtest.h>

#include <cmath>
#include <tiedlora/io/gguf.hpp>

#include "support/gguf_llama.hpp"
#include "support/io_files.hpp"
#include "support/native.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using namespace gguf_llama;
using gguf::Type;

TEST(GgufExport, EverySchemeComesBackAsTheSameFunction) {
  const Folder folder;
  Dice dice(1);
  for (const NamedScheme& preset : presets())
    for (const Order order : {Order::gguf, Order::hugging_face}) {
      SCOPED_TRACE(preset.name);
      const auto adapter = filled(llama_modules(), preset.scheme, dice, {.scaling = 0.7});
      const auto exported = export_gguf(adapter, folder / "x.gguf", naming(order));
      EXPECT_EQ(exported.modules, 6);
      EXPECT_EQ(exported.rank, 3);
      EXPECT_EQ(exported.bytes, std::filesystem::file_size(folder / "x.gguf"));
      const auto loaded = load_gguf<float>(folder / "x.gguf", llama_modules(), naming(order));
      expect_same_function(adapter, loaded.adapter);
      EXPECT_EQ(loaded.report.used.size(), 12);
      EXPECT_TRUE(loaded.report.unused.empty());
      EXPECT_TRUE(loaded.report.missing.empty());
    }
}

TEST(GgufExport, UnequalRanksAndScalingsGetAlongWithOneAlpha) {
  const Folder folder;
  Dice dice(2);
  const LayoutOptions options = {.scaling = 2,
                                 .ranks = {{"model.layers.0.self_attn.q_proj", 1},
                                           {"model.layers.1.self_attn.q_proj", 5},
                                           {"model.layers.1.mlp.down_proj", 0}},
                                 .scalings = {{"model.layers.0.self_attn.q_proj", 0.25}}};
  const auto adapter = filled(llama_modules(), schemes::lora(), dice, options);
  const auto exported = export_gguf(adapter, folder / "x.gguf", naming(Order::gguf));
  EXPECT_EQ(exported.modules, 5);
  const auto file = gguf::open(folder / "x.gguf");
  EXPECT_EQ(file.find_value("adapter.lora.alpha")->number(), 5);
  // B of rank 1 with s = 0.25: 5 / 1 · B' = 0.25 · B.
  std::vector<float> b(12);
  ASSERT_TRUE(gguf::try_read(*file.find_tensor("blk.0.attn_q.weight.lora_b"), std::span(b)));
  EXPECT_EQ(b[3], static_cast<float>(0.05 * static_cast<double>(adapter.B(0)(3, 0))));

  const auto loaded = load_gguf<float>(folder / "x.gguf", llama_modules(), naming(Order::gguf));
  EXPECT_EQ(loaded.adapter.layout().rank(0), 1);
  EXPECT_EQ(loaded.adapter.layout().rank(3), 5);
  EXPECT_EQ(loaded.adapter.layout().rank(5), 0);
  expect_same_function(adapter, loaded.adapter);
  EXPECT_EQ(loaded.report.missing,
            (std::vector<std::string>{"blk.1.ffn_down.weight.lora_a", "blk.1.ffn_down.weight.lora_b"}));
}

TEST(GgufExport, NarrowTypesRoundOnce) {
  const Folder folder;
  Dice dice(3);
  const auto adapter = filled(llama_modules(), schemes::lora(), dice);
  const auto expect_rounded = [&]<class T>(Type type, T) {
    export_gguf(adapter, folder / "x.gguf", naming(Order::gguf), {.type = type});
    const auto loaded = load_gguf<T>(folder / "x.gguf", llama_modules(), naming(Order::gguf));
    EXPECT_TRUE(same_bits<T>(loaded.adapter.trainable(), adapter.template cast<T>().trainable()));
  };
  expect_rounded(Type::F32, float());
  expect_rounded(Type::F16, Eigen::half());
  expect_rounded(Type::BF16, Eigen::bfloat16());
  // A narrow adapter is written as it is.
  const auto half = adapter.cast<Eigen::half>();
  export_gguf(half, folder / "x.gguf", naming(Order::gguf), {.type = Type::F16});
  const auto again = load_gguf<Eigen::half>(folder / "x.gguf", llama_modules(), naming(Order::gguf));
  EXPECT_TRUE(same_bits<Eigen::half>(again.adapter.trainable(), half.trainable()));
}

TEST(GgufExport, ViewsExportToo) {
  const Folder folder;
  Dice dice(4);
  const auto adapter = filled(llama_modules(), schemes::tied_lora(), dice);
  export_gguf(adapter, folder / "a", naming(Order::gguf));
  export_gguf(adapter.view(), folder / "b", naming(Order::gguf));
  EXPECT_TRUE(read_text(folder / "a") == read_text(folder / "b"));
}

// An adapter trained on transformers' rows, exported as such, is the one on GGUF's rows exported as it is.
TEST(GgufExport, OrdersDifferInTheRowsOfQAndKOnly) {
  const Folder folder;
  Dice dice(5);
  const auto hf = filled(llama_modules(), schemes::tied_lora(), dice);
  export_gguf(hf, folder / "hf", naming(Order::hugging_face));
  const auto on_gguf = load_gguf<float>(folder / "hf", llama_modules(), naming(Order::gguf)).adapter;
  for (Index m = 0; m < 6; ++m) {
    const Eigen::MatrixXd from = delta(hf, m), to = delta(on_gguf, m);
    const Index heads = m % 3 == 0 ? 3 : 1, rows = from.rows();
    for (Index h = 0; h < heads; ++h)
      for (Index i = 0; i < 2; ++i)
        for (Index j = 0; j < rows / heads / 2; ++j) {
          const Index n = rows / heads / 2, hf_row = h * 2 * n + i * n + j, gguf_row = h * 2 * n + 2 * j + i;
          const Index expected = m % 3 == 2 ? gguf_row : hf_row;
          EXPECT_LE((from.row(expected) - to.row(gguf_row)).norm(), 1e-5 * from.norm());
        }
  }
}

TEST(GgufExport, NamesOfGpt2AndOfTheUser) {
  const Folder folder;
  Dice dice(6);
  ModuleList modules;
  for (const char* name : {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"})
    modules.add({.name = std::string("transformer.h.0.") + name,
                 .layer = 0,
                 .kind = name,
                 .in_features = 4,
                 .out_features = 6});
  export_gguf(filled(modules, schemes::lora(), dice), folder / "x", gguf::gpt2(), {.base_model = "gpt2"});
  const auto file = gguf::open(folder / "x");
  for (const char* name : {"attn_qkv", "attn_output", "ffn_up", "ffn_down"})
    EXPECT_TRUE(file.find_tensor(std::string("blk.0.") + name + ".weight.lora_a")) << name;
  EXPECT_EQ(file.find_value("general.architecture")->text(), "gpt2");
  EXPECT_EQ(file.find_value("general.base_model.0.name")->text(), "gpt2");
  EXPECT_EQ(file.find_value("general.base_model.count")->natural(), 1);

  const gguf::Naming own{.architecture = "mine",
                         .names = {{"encoder.*.qkv", "blk.*.attn_qkv"}},
                         .permuted = {{"blk.*.attn_qkv", 2}}};
  ModuleList others;
  others.add({.name = "encoder.7.qkv", .layer = 7, .in_features = 4, .out_features = 8});
  const auto adapter = filled(others, schemes::lora(), dice);
  export_gguf(adapter, folder / "x", own);
  EXPECT_TRUE(gguf::open(folder / "x").find_tensor("blk.7.attn_qkv.weight.lora_b"));
  expect_same_function(adapter, load_gguf<float>(folder / "x", others, own).adapter);
}

TEST(GgufExport, Refuses) {
  const Folder folder;
  Dice dice(7);
  write_text(folder / "x", "old");
  const auto adapter = filled(llama_modules(), schemes::lora(), dice);
  const auto refused = [&](const gguf::Naming& names, std::initializer_list<std::string_view> parts,
                           const GgufExportOptions& options = {}) {
    expect_failure(try_export_gguf(adapter, folder / "x", names, options), parts);
    EXPECT_EQ(read_text(folder / "x"), "old");
    EXPECT_EQ(folder.entries(), 1);
  };
  refused(gguf::gpt2(),
          {"x\": module \"model.layers.0.self_attn.q_proj\" has no name in GGUF's \"gpt2\" naming"});
  refused(gguf::llama({.weights = Order::hugging_face}), {"q_proj", "0 heads are given"});
  refused(gguf::llama({.heads = 5, .kv_heads = 1, .weights = Order::hugging_face}),
          {"q_proj", "12 rows are not 5 heads"});
  refused(gguf::llama({.heads = 3, .kv_heads = 4, .weights = Order::hugging_face}),
          {"k_proj", "4 rows are not 4 heads of an even size"});
  refused(naming(Order::gguf), {"written as F32, F16 or BF16"}, {.type = Type::Q8_0});
  refused({.architecture = "x",
           .names = {{"model.layers.*.self_attn.q_proj", "blk.*.a"},
                     {"model.layers.*.self_attn.k_proj", "blk.*.a"},
                     {"model.layers.*.mlp.down_proj", "blk.*.b"}}},
          {"two tensors are named \"blk.0.a.weight.lora_a\""});
  refused({.architecture = "x",
           .names = {{"model.layers.*.self_attn.q_proj", "blk.*." + std::string(50, 'a')},
                     {"model.layers.*.self_attn.k_proj", "blk.*.k"},
                     {"model.layers.*.mlp.down_proj", "blk.*.b"}}},
          {"GGUF allows 63"});

  auto large = adapter;
  large.B(3)(0, 0) = 1e6f;
  expect_failure(try_export_gguf(large, folder / "x", naming(Order::gguf), {.type = Type::F16}),
                 {"model.layers.1.self_attn.q_proj", "1000000", "choose BF16 or F32"});
  EXPECT_EQ(read_text(folder / "x"), "old");
  EXPECT_TRUE(try_export_gguf(large, folder / "y", naming(Order::gguf), {.type = Type::BF16}));
  const Adapter<float> none(Layout(llama_modules(), schemes::lora(), 0));
  expect_failure(try_export_gguf(none, folder / "x", naming(Order::gguf)), {"adapts no module"});
}

TEST(GgufExport, KeepsWhatTheSourceSaid) {
  const Folder folder;
  Dice dice(12);
  const auto adapter = filled(llama_modules(), schemes::lora(), dice);
  const Provenance source = {.base_model = "some/base",
                             .revision = "main",
                             .task_type = "SEQ_CLS",
                             .base_model_class = "LlamaModel",
                             .parent_library = "transformers",
                             .architecture = "llama",
                             .fan_in_fan_out = true};
  export_gguf(adapter, folder / "x", naming(Order::gguf), {.source = source});
  EXPECT_EQ(load_gguf<float>(folder / "x", naming(Order::gguf)).source, source);
  export_gguf(adapter, folder / "x", naming(Order::gguf), {.base_model = "other/base", .source = source});
  EXPECT_EQ(load_gguf<float>(folder / "x", naming(Order::gguf)).source.base_model, "other/base");
  export_gguf(adapter, folder / "x", naming(Order::gguf));
  EXPECT_FALSE(gguf::open(folder / "x").find_value("tiedlora.source")) << "nothing was said";
  gguf::Naming qwen = naming(Order::gguf);
  qwen.architecture = "qwen2";
  expect_failure(try_export_gguf(adapter, folder / "x", qwen, {.source = source}),
                 {"source names the architecture \"llama\"", "for \"qwen2\""});
}

}  // namespace
}  // namespace tiedlora_test
