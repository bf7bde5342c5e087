// Files that the Python package gguf wrote (tests/golden/gguf_golden.py): they load, and this library writes
// the same bytes.
#include <gtest/gtest.h>

#include <tiedlora/io/gguf.hpp>

#include "support/io_files.hpp"
#include "support/native.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using gguf::Order;
using gguf::Type;

std::filesystem::path golden_file(const std::string& name) {
  return std::filesystem::path(TIEDLORA_GOLDEN_DIR) / "gguf" / (name + ".gguf");
}

float number(Index tensor, Index i) { return static_cast<float>((7 * i + 31 * tensor) % 255 - 127) / 8; }

/// Two layers of q → 8, k → 4, v → 4.
ModuleList qkv(Index in) {
  ModuleList modules;
  for (int layer = 0; layer < 2; ++layer)
    for (const auto& [kind, out] : {std::pair("q_proj", 8), std::pair("k_proj", 4), std::pair("v_proj", 4)})
      modules.add({.name = "model.layers." + std::to_string(layer) + ".self_attn." + kind,
                   .layer = layer,
                   .in_features = in,
                   .out_features = out});
  return modules;
}

gguf::Naming naming_of(Order order) { return gguf::llama({.heads = 2, .kv_heads = 1, .weights = order}); }

template <class P>
Adapter<P> load(const std::string& name, Order order, Index in = 4) {
  return load_gguf<P>(golden_file(name), qkv(in), naming_of(order)).adapter;
}

/// A is tensor 2m, B tensor 2m + 1.
template <class P>
void expect_numbers(const Adapter<P>& adapter) {
  EXPECT_EQ(adapter.layout().scaling(), 1);
  for (Index m = 0; m < adapter.layout().size(); ++m) {
    const auto A = adapter.A(m);
    const auto B = adapter.B(m);
    for (Index k = 0; k < A.rows(); ++k)
      for (Index j = 0; j < A.cols(); ++j)
        ASSERT_EQ(static_cast<float>(A(k, j)), number(2 * m, k * A.cols() + j)) << m << " " << k << " " << j;
    for (Index i = 0; i < B.rows(); ++i)
      for (Index k = 0; k < B.cols(); ++k)
        ASSERT_EQ(static_cast<float>(B(i, k)), number(2 * m + 1, i * B.cols() + k))
            << m << " " << i << " " << k;
  }
}

TEST(GgufGolden, LoadsWhatGgufWrote) {
  expect_numbers(load<float>("llama_f32", Order::gguf));
  expect_numbers(load<Eigen::half>("llama_f16", Order::gguf));
  expect_numbers(load<Eigen::bfloat16>("llama_bf16", Order::gguf));
  expect_numbers(load<double>("llama_f16", Order::gguf));
  expect_numbers(load<float>("llama_permuted", Order::hugging_face));
}

TEST(GgufGolden, DequantizesQ8AsGgufDoes) {
  const auto quantized = load<float>("llama_q8_0", Order::gguf, 32);
  const auto numbers = load<float>("llama_q8_0_numbers", Order::gguf, 32);
  EXPECT_EQ(quantized.layout().rank(), 32);
  EXPECT_TRUE(same_bits<float>(quantized.trainable(), numbers.trainable()));
  // Not by chance: they are near the values that were quantized, with a step of at most 127 / 8 / 127.
  for (Index j = 0; j < 32; ++j) EXPECT_NEAR(quantized.A(0)(1, j), number(0, 32 + j), 0.0626);
}

TEST(GgufGolden, WritesTheSameBytes) {
  const Folder folder;
  const auto expect_same = [&](const std::string& name, Order order, const GgufExportOptions& options) {
    export_gguf(load<float>(name, order), folder / "x", naming_of(order), options);
    EXPECT_TRUE(read_text(folder / "x") == read_text(golden_file(name))) << name;
  };
  expect_same("llama_f32", Order::gguf,
              {.base_model = "some/m\xC3\xB6"
                             "del"});
  expect_same("llama_f16", Order::gguf, {.type = Type::F16});
  expect_same("llama_bf16", Order::gguf, {.type = Type::BF16});
  expect_same("llama_permuted", Order::hugging_face, {});
}

}  // namespace
}  // namespace tiedlora_test
