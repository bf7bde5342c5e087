// GGUF's names and order of rows.
#include <gtest/gtest.h>

#include <set>
#include <tiedlora/io/gguf/architectures.hpp>
#include <tiedlora/io/gguf/naming.hpp>

#include "support/io_files.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using gguf::hugging_face_row;
using gguf::Order;

TEST(GgufNaming, RowsOfAHeadAreNeighboursWhereTransformersHasHalves) {
  // numpy.arange(8).reshape(2, 2, 2).swapaxes(1, 2).ravel(): two heads of four rows.
  const Index expected[] = {0, 2, 1, 3, 4, 6, 5, 7};
  for (Index row = 0; row < 8; ++row) EXPECT_EQ(hugging_face_row(row, 8, 2), expected[row]);
}

TEST(GgufNaming, APermutationReachesEveryRow) {
  for (const Index heads : {1, 2, 3, 6}) {
    std::set<Index> rows;
    for (Index row = 0; row < 24; ++row) rows.insert(hugging_face_row(row, 24, heads));
    EXPECT_EQ(rows.size(), 24u) << heads;
    EXPECT_EQ(*rows.rbegin(), 23) << heads;
  }
}

TEST(GgufNaming, WithoutHeadsRowsAreWhereTheyAre) {
  for (Index row = 0; row < 8; ++row) EXPECT_EQ(hugging_face_row(row, 8, 0), row);
}

TEST(GgufNaming, OnlyQAndKOfTransformersOrderArePermuted) {
  const auto heads = [](Order order, const char* file) {
    return gguf::detail::try_heads(gguf::llama({.heads = 4, .kv_heads = 2, .weights = order}), file, 16);
  };
  EXPECT_EQ(*heads(Order::hugging_face, "blk.3.attn_q"), 4);
  EXPECT_EQ(*heads(Order::hugging_face, "blk.3.attn_k"), 2);
  EXPECT_EQ(*heads(Order::hugging_face, "blk.3.attn_v"), 0);
  EXPECT_EQ(*heads(Order::gguf, "blk.3.attn_q"), 0);
  EXPECT_TRUE(gguf::gpt2().permuted.empty());
}

TEST(GgufNaming, RefusesHeadsThatDoNotDivideTheRows) {
  const auto naming = gguf::llama({.heads = 4, .kv_heads = 0, .weights = Order::hugging_face});
  expect_failure(gguf::detail::try_heads(naming, "blk.0.attn_q", 18), {"18 rows are not 4 heads"});
  expect_failure(gguf::detail::try_heads(naming, "blk.0.attn_q", 12),
                 {"12 rows are not 4 heads of an even size"});
  expect_failure(gguf::detail::try_heads(naming, "blk.0.attn_k", 16), {"0 heads are given"});
}

TEST(GgufNaming, OnlyLlamasRowsArePermuted) {
  for (const gguf::Architecture& architecture : gguf::architectures) {
    const gguf::Naming naming =
        naming_of(architecture, {.heads = 4, .kv_heads = 2, .weights = gguf::Order::hugging_face});
    EXPECT_EQ(naming.architecture, architecture.name);
    EXPECT_EQ(naming.permuted.empty(), architecture.name != "llama") << architecture.name;
    EXPECT_EQ(naming.to_module("output"), "lm_head");
  }
  EXPECT_EQ(gguf::architecture_of_model("mistral")->name, "llama");
  EXPECT_EQ(gguf::architecture_of_model("qwen3_moe")->name, "qwen3moe");
  for (const char* unknown : {"", "falcon", "llama mistral", "qwen"})
    EXPECT_EQ(gguf::architecture_of_model(unknown), nullptr) << unknown;
}

// As gguf-py's TensorNameMap has them.
TEST(GgufNaming, Phi3) {
  const NameMap phi3 = names::phi3();
  EXPECT_EQ(phi3.to_file("model.layers.3.self_attn.qkv_proj"), "blk.3.attn_qkv");
  EXPECT_EQ(phi3.to_file("model.layers.3.self_attn.o_proj"), "blk.3.attn_output");
  EXPECT_EQ(phi3.to_file("model.layers.3.mlp.gate_up_proj"), "blk.3.ffn_up");
  EXPECT_EQ(phi3.to_file("model.layers.3.mlp.down_proj"), "blk.3.ffn_down");
}

}  // namespace
}  // namespace tiedlora_test
