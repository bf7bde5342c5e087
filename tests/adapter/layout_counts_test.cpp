// Parameter counts against those that papers print, and against closed forms.
#include <gtest/gtest.h>

#include <tiedlora/adapter/layout.hpp>

#include "support/models.hpp"
#include "support/schemes.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

struct TableRow {
  Index rank, lora, vera, tl5, tl6;
};

// Counts of the Tied-LoRA paper's configurations (arXiv 2311.09578), which adapts the fused qkv.
void expect_table(int layers, Index d, std::initializer_list<TableRow> rows) {
  const ModuleList fused = fused_qkv(layers, d), apart = projections(layers, {"q", "k", "v"}, d, "x");
  for (const TableRow& row : rows) {
    SCOPED_TRACE("rank " + std::to_string(row.rank));
    const auto count = [&row](const ModuleList& modules, const Scheme& scheme) {
      return Layout(modules, scheme, row.rank).trainable_count();
    };
    EXPECT_EQ(count(fused, schemes::lora()), row.lora);
    EXPECT_EQ(count(fused, schemes::lora_fused()), row.lora);
    EXPECT_EQ(count(fused, schemes::vera()), row.vera);
    EXPECT_EQ(count(fused, schemes::tl5()), row.tl5);
    EXPECT_EQ(count(fused, schemes::tl6()), row.tl6);
    // Separate q, k, v that read one input count alike.
    EXPECT_EQ(count(apart, schemes::lora_fused()), row.lora);
    EXPECT_EQ(count(apart, schemes::tl5()), row.tl5);
    EXPECT_EQ(count(apart, schemes::tl6()), row.tl6);
    // PEFT's LoRA has an A for each of the three: 6dr a layer.
    EXPECT_EQ(count(apart, schemes::lora()), row.lora / 4 * 6);
  }
}

TEST(Counts, TableOfLlama2_7B) {
  expect_table(32, 4096,
               {{2, 1048576, 393280, 32768, 426048},
                {8, 4194304, 393472, 131072, 524544},
                {32, 16777216, 394240, 524288, 918528},
                {128, 67108864, 397312, 2097152, 2494464}});
}

TEST(Counts, TableOfGpt2B) {
  expect_table(24, 2048,
               {{2, 393216, 147504, 16384, 163888},
                {8, 1572864, 147648, 65536, 213184},
                {32, 6291456, 148224, 262144, 410368},
                {128, 25165824, 150528, 1048576, 1199104}});
}

TEST(Counts, ProLoraPrintsTL6OfLlama2_7B) {
  // 4.60M at rank 256 and 4.99M at rank 280.
  const ModuleList modules = fused_qkv(32, 4096);
  EXPECT_EQ(Layout(modules, schemes::tl6(), 256).trainable_count(), 4595712);
  EXPECT_EQ(Layout(modules, schemes::tl6(), 280).trainable_count(), 4989696);
}

TEST(Counts, RobertaBase) {
  // q and v of 12 layers of width 768, rank 8: LoRA 0.295M, tied 0.043M with an A of each kind's own.
  const ModuleList modules = projections(12, {"query", "value"}, 768, "");
  EXPECT_EQ(Layout(modules, schemes::lora(), 8).trainable_count(), 294912);
  EXPECT_EQ(Layout(modules, schemes::tl6(), 8).trainable_count(), 43200);
}

TEST(Counts, Gpt3) {
  // q and v of 96 layers of width 12288, rank 16.
  const ModuleList modules = projections(96, {"q", "v"}, 12288, "");
  EXPECT_EQ(Layout(modules, schemes::lora(), 16).trainable_count(), 75497472);
  EXPECT_EQ(Layout(modules, schemes::vera(), 16).trainable_count(), 2362368);
}

TEST(Counts, PerFactor) {
  // d = 4096, L = 32, r = 8: A dr, B 3dr, v 3Ld, u Lr.
  const ModuleList modules = fused_qkv(32, 4096);
  const Layout tl6(modules, schemes::tl6(), 8);
  EXPECT_EQ(tl6.trainable_count(FactorId::A), 4096 * 8);
  EXPECT_EQ(tl6.trainable_count(FactorId::B), 3 * 4096 * 8);
  EXPECT_EQ(tl6.trainable_count(FactorId::v), 3 * 32 * 4096);
  EXPECT_EQ(tl6.trainable_count(FactorId::u), 32 * 8);
  EXPECT_EQ(tl6.frozen_count(), 0);

  const Layout vera(modules, schemes::vera(), 8);
  EXPECT_EQ(vera.trainable_count(FactorId::A), 0);
  EXPECT_EQ(vera.frozen_count(FactorId::A), 4096 * 8);
  EXPECT_EQ(vera.frozen_count(FactorId::B), 3 * 4096 * 8);
  EXPECT_EQ(vera.frozen_count(FactorId::v), 0);
  EXPECT_EQ(vera.frozen_count(), 4 * 4096 * 8);
  EXPECT_EQ(vera.trainable_count(FactorId::v) + vera.trainable_count(FactorId::u), vera.trainable_count());

  const Layout lora(modules, schemes::lora(), 8);
  EXPECT_EQ(lora.trainable_count(FactorId::u), 0);
  EXPECT_EQ(lora.frozen_count(FactorId::v), 0);
}

TEST(Counts, PerModuleAreTheNumbersAModuleUses) {
  // B is stored for the widest module, 5; each uses its own rows of it.
  ModuleList modules;
  modules.add({.name = "narrow", .layer = 0, .in_features = 2, .out_features = 3});
  modules.add({.name = "wide", .layer = 0, .in_features = 4, .out_features = 5});
  Scheme scheme = schemes::vera();
  scheme.B.trained = true;
  const Layout layout(modules, scheme, 7);
  EXPECT_EQ(layout.frozen_count(), 7 * 4);
  EXPECT_EQ(layout.frozen_count(Index{0}), 7 * 2);
  EXPECT_EQ(layout.frozen_count(Index{1}), 7 * 4);
  EXPECT_EQ(layout.trainable_count(), 7 * 5 + (3 + 5) + 2 * 7);
  EXPECT_EQ(layout.trainable_count(Index{0}), 7 * 3 + 3 + 7);
  EXPECT_EQ(layout.trainable_count(Index{1}), 7 * 5 + 5 + 7);
}

TEST(Counts, GroupsOfLayersLieBetweenLoraAndFullTying) {
  // L = 32 in groups of g: ceil(32 / g) copies of A and B.
  const ModuleList modules = fused_qkv(32, 64);
  for (const Index g : {1, 2, 3, 5, 16, 31, 32, 33}) {
    const Index copies = (32 + g - 1) / g;
    EXPECT_EQ(Layout(modules, schemes::grouped(g, schemes::tl5()), 8).trainable_count(), copies * 4 * 64 * 8);
  }
}

TEST(Counts, Llama2_70B) {
  // Grouped-query attention: k and v are 8 · 128 wide.
  ModuleList modules;
  const Index d = 8192, kv = 1024, ff = 28672, rank = 8;
  for (int layer = 0; layer < 80; ++layer) {
    const auto add = [&](const char* kind, const char* input, Index in, Index out) {
      modules.add({.name = "model.layers." + std::to_string(layer) + "." + kind,
                   .layer = layer,
                   .input = input,
                   .in_features = in,
                   .out_features = out});
    };
    add("q_proj", "attention", d, d), add("k_proj", "attention", d, kv), add("v_proj", "attention", d, kv);
    add("o_proj", "", d, d), add("gate_proj", "mlp", d, ff), add("up_proj", "mlp", d, ff);
    add("down_proj", "", ff, d);
  }
  const Index outs = d + kv + kv + d + ff + ff + d;
  EXPECT_EQ(Layout(modules, schemes::lora(), rank).trainable_count(),
            80 * rank * ((d + d) + 2 * (d + kv) + (d + d) + 3 * (d + ff)));
  // Inputs: attention, o's, mlp, down's.
  const Layout tl6(modules, schemes::tl6(), rank);
  EXPECT_EQ(tl6.trainable_count(FactorId::A), rank * (d + d + d + ff));
  EXPECT_EQ(tl6.trainable_count(FactorId::B), rank * outs);
  EXPECT_EQ(tl6.trainable_count(FactorId::v), 80 * outs);
  EXPECT_EQ(tl6.trainable_count(FactorId::u), 80 * 4 * rank);
  EXPECT_EQ(Layout(modules, schemes::vera(), 256).frozen_count(), 256 * (ff + ff));
}

}  // namespace
}  // namespace tiedlora_test
