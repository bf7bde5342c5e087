// Adapters of every scheme to GGUF and back.
#include <gtest/gtest.h>

#include <cmath>
#include <tiedlora/adapter/merge.hpp>
#include <tiedlora/io/gguf.hpp>

#include "support/gguf_bytes.hpp"
#include "support/io_files.hpp"
#include "support/native.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using gguf::Order;
using gguf::Type;

/// Two layers as transformers names Llama's: q 8 → 12 (3 heads of 4), k 8 → 4 (1 head), down 6 → 8.
ModuleList llama_modules() {
  ModuleList modules;
  for (int layer = 0; layer < 2; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer);
    const auto add = [&](const std::string& name, const char* input, Index in, Index out) {
      modules.add(
          {.name = prefix + name, .layer = layer, .input = input, .in_features = in, .out_features = out});
    };
    add(".self_attn.q_proj", "x", 8, 12), add(".self_attn.k_proj", "x", 8, 4),
        add(".mlp.down_proj", "", 6, 8);
  }
  return modules;
}

gguf::Naming naming(Order order) { return gguf::llama({.heads = 3, .kv_heads = 1, .weights = order}); }

Adapter<float> filled(const ModuleList& modules, const Scheme& scheme, Dice& dice, LayoutOptions options = {},
                      Index rank = 3) {
  const Layout layout(modules, scheme, rank, options);
  AlignedArray<float> trainable(layout.trainable_count()), frozen(layout.frozen_count());
  dice.fill(trainable), dice.fill(frozen);
  return {layout, std::move(trainable), std::move(frozen)};
}

/// ΔW of module m, scale and all.
Eigen::MatrixXd delta(const Adapter<float>& adapter, Index m) {
  const Module& module = adapter.layout().modules()[m];
  Eigen::MatrixXd w = Eigen::MatrixXd::Zero(module.out_features, module.in_features);
  if (adapter.layout().rank(m) > 0) merge(adapter.cast<double>().factors(m), w);
  return w;
}

// Each number of B is rounded once to float (ε = 2^-24, relative), so each of ΔW's by at most
// ε · Σ |B_ik| |A_kj|, bounded here by the product of the norms; llama.cpp's alpha / r by one more rounding.
void expect_same_function(const Adapter<float>& a, const Adapter<float>& b, double epsilon = 0x1p-23) {
  ASSERT_EQ(a.layout().size(), b.layout().size());
  for (Index m = 0; m < a.layout().size(); ++m) {
    const Eigen::MatrixXd difference = delta(a, m) - delta(b, m);
    double scale = 0;
    if (a.layout().rank(m) > 0)
      scale = static_cast<double>(b.A(m).norm()) * static_cast<double>(b.B(m).norm()) * b.layout().scaling(m);
    EXPECT_LE(difference.cwiseAbs().maxCoeff(), epsilon * std::abs(scale)) << a.layout().modules()[m].name;
    EXPECT_EQ(delta(a, m).norm() > 0, a.layout().rank(m) > 0);
  }
}

TEST(GgufAdapter, EverySchemeComesBackAsTheSameFunction) {
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

TEST(GgufAdapter, UnequalRanksAndScalingsGetAlongWithOneAlpha) {
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

TEST(GgufAdapter, NarrowTypesRoundOnce) {
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

TEST(GgufAdapter, ViewsExportToo) {
  const Folder folder;
  Dice dice(4);
  const auto adapter = filled(llama_modules(), schemes::tied_lora(), dice);
  export_gguf(adapter, folder / "a", naming(Order::gguf));
  export_gguf(adapter.view(), folder / "b", naming(Order::gguf));
  EXPECT_TRUE(read_text(folder / "a") == read_text(folder / "b"));
}

// An adapter trained on transformers' rows, exported as such, is the one on GGUF's rows exported as it is.
TEST(GgufAdapter, OrdersDifferInTheRowsOfQAndKOnly) {
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

TEST(GgufAdapter, NamesOfGpt2AndOfTheUser) {
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

TEST(GgufAdapter, ExportRefusals) {
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

/// An adapter file of one module q of layer 0, rank 2, as the callers change it.
struct OneModule {
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

Result<LoadedGguf<float>> load(const OneModule& file) {
  const Folder folder;
  write_text(folder / "x.gguf", file.bytes().str());
  return try_load_gguf<float>(folder / "x.gguf", llama_modules(), naming(Order::gguf));
}

TEST(GgufAdapter, AlphaIsOverRankAndZeroMeansOne) {
  for (const auto& [alpha, scaling] : {std::pair(0.0f, 1.0), {6.0f, 3.0}, {-1.0f, -0.5}}) {
    const auto loaded = load({.alpha = alpha});
    ASSERT_TRUE(loaded) << loaded.error();
    EXPECT_EQ(loaded->adapter.layout().scaling(0), scaling);
  }
}

TEST(GgufAdapter, ShapesMayLackOnesAtTheirEnd) {
  const auto loaded = load({.a_shape = {8}, .b_shape = {1, 12}});
  ASSERT_TRUE(loaded) << loaded.error();
  EXPECT_EQ(loaded->adapter.layout().rank(0), 1);
  EXPECT_TRUE(load({.a_shape = {8, 2, 1, 1}}));
}

TEST(GgufAdapter, LoadRefusals) {
  expect_failure(load({.type = "model"}), {"x.gguf\" is no adapter: its general.type is \"model\""});
  expect_failure(load({.kind = "control_vector"}), {"another kind than \"lora\": \"control_vector\""});
  expect_failure(load({.architecture = "gpt2"}), {"architecture \"gpt2\"", "that of \"llama\""});
  expect_failure(load({.alpha = NAN}), {"adapter.lora.alpha"});
  expect_failure(load({.extra_key = "adapter.alora.invocation_tokens"}), {"aLoRA"});
  expect_failure(load({.a_name = "blk.0.attn_norm.weight"}),
                 {"tensor \"blk.0.attn_norm.weight\"", "would be lost"});
  expect_failure(load({.a_name = "token_embd.weight.lora_a"}), {"adapts the embedding"});
  expect_failure(load({.a_name = "blk.1.attn_q.weight.lora_a"}),
                 {"lora_b but no lora_a of \"blk.0.attn_q\""});
  expect_failure(load({.a_shape = {8, 3}}), {"{8, 3}", "{2, 12}", "do not fit each other"});
  expect_failure(load({.a_shape = {2, 2, 2}}), {"do not fit each other"});
  expect_failure(load({.a_shape = {8, 0}, .b_shape = {0, 12}}), {"do not fit each other"});
  expect_failure(load({.a_shape = {9, 2}}),
                 {"\"model.layers.0.self_attn.q_proj\" is 12x8", "12x9", "wrong base model?"});
  expect_failure(load({.a_type = Type{26}}), {"I32", "F32, F16, BF16 and Q8_0 can be read"});
  expect_failure(load({.a_name = "blk.7.attn_q.weight.lora_a", .b_name = "blk.7.attn_q.weight.lora_b"}),
                 {"none of the 1 modules that it adapts", "\"blk.7.attn_q\"", "wrong base model or naming?"});
  const Folder folder;
  expect_failure(try_load_gguf<float>(folder / "x", llama_modules(), naming(Order::gguf)),
                 {"cannot be opened"});
  write_text(folder / "x", OneModule().bytes().str());
  expect_failure(
      try_load_gguf<float>(folder / "x", llama_modules(),
                           gguf::llama({.heads = 5, .kv_heads = 1, .weights = Order::hugging_face})),
      {"12 rows are not 5 heads"});
  ModuleList twice;
  for (const char* name : {"layers.0.self_attn.q_proj", "model.layers.0.self_attn.q_proj"})
    twice.add({.name = name, .in_features = 8, .out_features = 12});
  expect_failure(try_load_gguf<float>(folder / "x", twice, naming(Order::gguf)),
                 {"one and the same name in GGUF, \"blk.0.attn_q\""});
}

TEST(GgufAdapter, ReportsWhatTheHostLacks) {
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

TEST(GgufAdapter, TensorsTellTheModules) {
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
                 {"adapts \"blk.0.attn_k\"", "\"llama\" naming has no rule"});
}

}  // namespace
}  // namespace tiedlora_test
