// What is not a GGUF file of a model that is computed, and what keys and tensors mean.
#include "gguf_model.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "support/io_files.hpp"

namespace llama {
namespace {

using tiedlora::gguf::Type;

/// A model of one layer, width 16, 4 heads, 2 of keys and values, 24 hidden features, 10 tokens; all weights
/// are `number`. What a test needs otherwise it changes before `write`.
struct Sketch {
  using Value = std::variant<std::string, std::vector<std::string>, std::uint32_t, float>;
  struct Tensor {
    std::vector<Index> shape;
    Type type = Type::F32;
  };

  std::string architecture;
  std::map<std::string, Value> values;  ///< after "llama."
  std::map<std::string, Tensor> tensors;
  float number = 1;
  std::uint32_t parts = 1;  ///< of a split file; this is the first

  explicit Sketch(std::string of = "llama") : architecture(std::move(of)) {
    values = {{"block_count", std::uint32_t{1}},          {"context_length", std::uint32_t{128}},
              {"embedding_length", std::uint32_t{16}},    {"feed_forward_length", std::uint32_t{24}},
              {"attention.head_count", std::uint32_t{4}}, {"attention.head_count_kv", std::uint32_t{2}},
              {"attention.layer_norm_rms_epsilon", 1e-6f}};
    tensors = {{"token_embd.weight", {{16, 10}}},     {"output_norm.weight", {{16}}},
               {"blk.0.attn_norm.weight", {{16}}},    {"blk.0.ffn_norm.weight", {{16}}},
               {"blk.0.attn_q.weight", {{16, 16}}},   {"blk.0.attn_k.weight", {{16, 8}}},
               {"blk.0.attn_v.weight", {{16, 8}}},    {"blk.0.attn_output.weight", {{16, 16}}},
               {"blk.0.ffn_gate.weight", {{16, 24}}}, {"blk.0.ffn_up.weight", {{16, 24}}},
               {"blk.0.ffn_down.weight", {{24, 16}}}};
    if (architecture == "qwen2")
      for (const auto& [name, size] : {std::pair("q", 16), {"k", 8}, {"v", 8}})
        tensors["blk.0.attn_" + std::string(name) + ".bias"] = {{size}};
    if (architecture == "qwen3")
      for (const char* name : {"q", "k"}) tensors["blk.0.attn_" + std::string(name) + "_norm.weight"] = {{4}};
  }

  void write(const std::string& path) const {
    std::vector<tiedlora::gguf::MetadataEntry> metadata = {{"general.architecture", architecture},
                                                           {"split.count", parts}};
    for (const auto& [key, value] : values) metadata.emplace_back(architecture + "." + key, value);
    const std::vector<float> numbers(1024, number);
    std::vector<tiedlora::gguf::Entry> entries;
    for (const auto& [name, tensor] : tensors)
      entries.push_back(
          {.name = name, .type = tensor.type, .shape = tensor.shape, .data = [&numbers, tensor = tensor] {
             const auto bytes = tiedlora::gguf::tensor_bytes(tensor.type, tensor.shape);
             return tiedlora::Result<std::span<const std::byte>>(
                 std::as_bytes(std::span(numbers)).first(static_cast<std::size_t>(*bytes)));
           }});
    const auto done = tiedlora::gguf::try_save(path, metadata, entries);
    ASSERT_TRUE(done) << done.error();
  }
};

class GgufModelTest : public ::testing::Test {
 protected:
  GgufModel open(const Sketch& sketch) {
    sketch.write(path);
    return GgufModel(path);
  }
  void expect_refused(const Sketch& sketch, std::string_view part) {
    std::string text = "no error";
    try {
      open(sketch);
    } catch (const std::runtime_error& error) {
      text = error.what();
    }
    EXPECT_TRUE(text.starts_with("\"" + path + "\" ")) << text;
    EXPECT_NE(text.find(part), std::string::npos) << "no \"" << part << "\" in: " << text;
  }
  /// A Llama with another value.
  void expect_refused(const std::string& key, const Sketch::Value& value, std::string_view part) {
    Sketch sketch;
    sketch.values[key] = value;
    expect_refused(sketch, part);
  }

  tiedlora_test::Folder folder;
  const std::string path = folder / "model.gguf";
};

TEST_F(GgufModelTest, ReadsThreeArchitectures) {
  const GgufModel llama = open(Sketch("llama"));
  EXPECT_EQ(llama.config().architecture, "llama");
  EXPECT_EQ(llama.config().context, 128);
  EXPECT_EQ(llama.config().sizes, (Config{.vocabulary = 10,
                                          .width = 16,
                                          .layers = 1,
                                          .heads = 4,
                                          .kv_heads = 2,
                                          .feed_forward = 24,
                                          .norm_epsilon = static_cast<double>(1e-6f)}));
  EXPECT_EQ(llama.model().layers[0].qkv[1].neighbours, 4);
  EXPECT_EQ(llama.model().layers[0].qkv[2].neighbours, 0);
  EXPECT_EQ(llama.model().layers[0].qkv_bias[0], nullptr);
  EXPECT_EQ(llama.model().layers[0].q_norm, nullptr);

  const GgufModel qwen2 = open(Sketch("qwen2"));
  EXPECT_EQ(qwen2.model().layers[0].qkv[0].neighbours, 0);
  EXPECT_NE(qwen2.model().layers[0].qkv_bias[2], nullptr);
  EXPECT_FALSE(qwen2.config().sizes.head_norms);

  const GgufModel qwen3 = open(Sketch("qwen3"));
  EXPECT_EQ(qwen3.model().layers[0].qkv[1].neighbours, 0);
  EXPECT_TRUE(qwen3.config().sizes.head_norms);
  EXPECT_NE(qwen3.model().layers[0].k_norm, nullptr);
  EXPECT_EQ(qwen3.model().layers[0].qkv_bias[1], nullptr);
}

TEST_F(GgufModelTest, RefusesAPartOfASplitFile) {
  Sketch sketch;
  sketch.parts = 2;  // whose second may be no more than the output matrix
  expect_refused(sketch,
                 "is one of 2 parts of a split file; join them with llama.cpp's llama-gguf-split --merge");
}

TEST_F(GgufModelTest, RefusesOtherArchitectures) {
  expect_refused(Sketch("qwen3moe"),
                 "is a model of architecture \"qwen3moe\"; llama, qwen2, qwen3 are supported");
}

TEST_F(GgufModelTest, RefusesSizesThatAreNone) {
  for (const char* key : {"block_count", "context_length", "embedding_length", "feed_forward_length",
                          "attention.head_count", "attention.head_count_kv", "attention.key_length"}) {
    expect_refused(key, std::uint32_t{0}, "has llama." + std::string(key) + " = 0; a number from 1 to");
    expect_refused(key, std::string("many"), "has llama." + std::string(key) + " = 0");
  }
  Sketch sketch;
  sketch.values.erase("embedding_length");
  expect_refused(sketch, "has no \"llama.embedding_length\"");
  expect_refused("attention.head_count_kv", std::uint32_t{3}, "heads 4 is not a multiple of kv_heads 3");
  expect_refused("attention.head_count", std::uint32_t{6}, "width 16 is not a multiple of heads 6");
  sketch = Sketch();
  sketch.tensors["token_embd.weight"] = {{16}};
  expect_refused(sketch, "has no matrix \"token_embd.weight\"");
}

TEST_F(GgufModelTest, RefusesWhatIsNotComputed) {
  expect_refused("expert_count", std::uint32_t{8}, "has a \"llama.expert_count\": a mixture of experts");
  expect_refused("attention.scale", 0.5f, "has a \"llama.attention.scale\", which is not supported here");
  expect_refused("attention.sliding_window", std::uint32_t{64},
                 "has llama.attention.sliding_window = 64, less than the context of 128; attention within a");
  expect_refused("attention.value_length", std::uint32_t{8},
                 "has llama.attention.value_length = 8, not the 4 of its keys");
  expect_refused("rope.dimension_count", std::uint32_t{2},
                 "applies RoPE to only a part of each head (llama.rope.dimension_count)");
  expect_refused(
      "rope.scaling.type", std::string("yarn"),
      "has llama.rope.scaling.type = \"yarn\", which is not supported here; \"none\" and \"linear\"");
  // What is there and changes nothing.
  Sketch sketch;
  sketch.values["expert_count"] = std::uint32_t{0};
  sketch.values["attention.sliding_window"] = std::uint32_t{128};
  sketch.values["attention.value_length"] = std::uint32_t{4};
  sketch.values["rope.dimension_count"] = std::uint32_t{4};
  EXPECT_EQ(open(sketch).config().sizes, open(Sketch()).config().sizes);
}

TEST_F(GgufModelTest, HeadsHaveAWidthOfTheirOwn) {
  Sketch sketch;
  sketch.values["attention.key_length"] = std::uint32_t{4};
  EXPECT_EQ(open(sketch).config().sizes, open(Sketch()).config().sizes);  // as width / heads has it
  sketch.values["attention.key_length"] = std::uint32_t{6};
  expect_refused(sketch, "has a tensor \"blk.0.attn_q.weight\" of {16, 16}; {16, 24} is expected");
  sketch.tensors["blk.0.attn_q.weight"].shape = {16, 24};
  sketch.tensors["blk.0.attn_k.weight"].shape = sketch.tensors["blk.0.attn_v.weight"].shape = {16, 12};
  sketch.tensors["blk.0.attn_output.weight"].shape = {24, 16};
  EXPECT_EQ(open(sketch).config().sizes.own_head_width, 6);
}

TEST_F(GgufModelTest, ReadsScaledRotaryEmbeddings) {
  const auto divisors = [this](const std::map<std::string, Sketch::Value>& values, float factors = 0) {
    Sketch sketch;
    sketch.values.insert(values.begin(), values.end());
    sketch.number = factors;
    if (factors > 0) sketch.tensors["rope_freqs.weight"] = {{2}};
    return open(sketch).config().sizes.rope_divisors;
  };
  using Divisors = std::vector<double>;
  const std::string linear = "linear", none = "none";
  EXPECT_EQ(divisors({}), Divisors());
  EXPECT_EQ(divisors({{"rope.scaling.type", linear}}), Divisors());
  EXPECT_EQ(divisors({{"rope.scaling.type", linear}, {"rope.scaling.factor", 4.0f}}), Divisors({4, 4}));
  EXPECT_EQ(divisors({{"rope.scaling.factor", 4.0f}}), Divisors({4, 4}));  // linear unless it says otherwise
  EXPECT_EQ(divisors({{"rope.scale_linear", 4.0f}}), Divisors({4, 4}));
  EXPECT_EQ(divisors({{"rope.scaling.type", none}, {"rope.scaling.factor", 4.0f}}), Divisors());
  EXPECT_EQ(divisors({}, 3), Divisors({3, 3}));
  EXPECT_EQ(divisors({{"rope.scaling.factor", 4.0f}}, 3), Divisors({12, 12}));

  Sketch sketch;
  sketch.tensors["rope_freqs.weight"] = {{2}};
  sketch.number = 0;
  expect_refused(sketch, "has a tensor \"rope_freqs.weight\" with a value that is not positive");
  sketch.tensors["rope_freqs.weight"] = {{3}};
  expect_refused(sketch, "has a tensor \"rope_freqs.weight\" of {3}; {2} is expected");
  sketch = Sketch("qwen2");
  sketch.tensors["rope_freqs.weight"] = {{2}};
  expect_refused(sketch, "has a tensor \"rope_freqs.weight\", which is unknown for architecture");
}

TEST_F(GgufModelTest, RefusesTensorsThatDoNotFit) {
  Sketch sketch("qwen2");
  sketch.tensors.erase("blk.0.attn_k.bias");
  expect_refused(sketch, "has no tensor \"blk.0.attn_k.bias\"");
  sketch.tensors["blk.0.attn_k.bias"] = {{8}, Type::F16};
  expect_refused(sketch, "has a tensor \"blk.0.attn_k.bias\" of type F16; F32 is expected");
  sketch.tensors["blk.0.attn_k.bias"] = {{16}};
  expect_refused(sketch, "has a tensor \"blk.0.attn_k.bias\" of {16}; {8} is expected");

  sketch = Sketch("qwen3");
  sketch.tensors.erase("blk.0.attn_q_norm.weight");
  expect_refused(sketch, "has no tensor \"blk.0.attn_q_norm.weight\"");

  sketch = Sketch();
  sketch.tensors["blk.0.attn_q.bias"] = {{16}};
  expect_refused(sketch,
                 "has a tensor \"blk.0.attn_q.bias\", which is unknown for architecture "
                 "\"llama\"; results would be wrong without it");
  sketch = Sketch();
  sketch.tensors["blk.0.ffn_up.weight"].type = Type{24};
  expect_refused(
      sketch, "has a tensor \"blk.0.ffn_up.weight\" of type I8 (24), which is not supported here; use one");
}

}  // namespace
}  // namespace llama
