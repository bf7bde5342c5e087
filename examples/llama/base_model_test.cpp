// Base models as they are found on the disk.
#include "base_model.hpp"

#include <gtest/gtest.h>

#include <Eigen/Core>
#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/io_files.hpp"
#include "tiny_model.hpp"
#include "transformer.hpp"
#include "write_gguf.hpp"
#include "write_hugging_face.hpp"

namespace llama {
namespace {

using tiedlora::safetensors::Dtype;
using tiedlora::safetensors::Entry;

const Config config = {.vocabulary = 256,
                       .width = 32,
                       .layers = 2,
                       .heads = 4,
                       .kv_heads = 2,
                       .feed_forward = 64,
                       .tied_embedding = false};

Weights<float> random_weights() {
  Weights<float> weights(config);
  weights.initialize(1);
  return weights;
}

std::vector<float> logits(const Model<float>& model) {
  const std::vector<std::int32_t> tokens = {3, 70, 12, 200, 5, 9};
  ThreadPool pool(2);
  Transformer<float> transformer(model.config, pool);
  std::vector<float> result(static_cast<std::size_t>(model.config.vocabulary) * tokens.size());
  transformer.logits(model, nullptr, tokens.data(), 2, 3, result.data());
  return result;
}

/// Saves the weights in another type, the layers in a file apart from the rest.
template <class T>
void save_in_shards(const std::filesystem::path& folder, const Weights<float>& weights) {
  std::vector<std::vector<T>> numbers;
  std::vector<Entry> shards[2];
  Json map = Json::object();
  for (const WeightEntry& entry : weights.entries()) {
    std::vector<T>& narrow = numbers.emplace_back();
    for (const float value : weights.values(entry.name)) narrow.push_back(T(value));
    const bool is_layer = entry.name.starts_with("model.layers.");
    std::vector<Index> shape = {entry.rows};
    if (entry.cols > 1) shape.push_back(entry.cols);
    shards[is_layer].push_back({.name = entry.name,
                                .dtype = tiedlora::safetensors::dtype_of<T>,
                                .shape = shape,
                                .data = narrow.data()});
    map[entry.name] = is_layer ? "two.safetensors" : "one.safetensors";
  }
  save_hugging_face(folder, weights);
  std::filesystem::remove(folder / "model.safetensors");
  tiedlora::safetensors::save(folder / "one.safetensors", shards[0]);
  tiedlora::safetensors::save(folder / "two.safetensors", shards[1]);
  tiedlora_test::write_text(folder / "model.safetensors.index.json", Json({{"weight_map", map}}).dump());
}

class BaseModelTest : public ::testing::Test {
 protected:
  tiedlora_test::Folder folder;
};

TEST_F(BaseModelTest, OpensAHuggingFaceFolder) {
  const Weights<float> weights = random_weights();
  save_hugging_face(folder / "tiny", weights);
  const BaseModel base(folder / "tiny");
  EXPECT_FALSE(base.is_gguf());
  EXPECT_EQ(base.architecture(), "llama");
  EXPECT_EQ(base.name(), "tiny");
  EXPECT_EQ(base.context(), 2048);
  EXPECT_EQ(base.model().config, config);
  EXPECT_TRUE(logits(base.model()) == logits(weights));
  EXPECT_TRUE(logits(BaseModel(folder / "tiny/config.json").model()) == logits(weights));
  EXPECT_EQ(BaseModel(folder / "tiny/").name(), "tiny");
}

TEST_F(BaseModelTest, OpensAGgufFile) {
  llama_test::TinyModel(llama_test::TinyModel::Numbers::blocks).write(folder / "tiny.gguf");
  const BaseModel base(folder / "tiny.gguf");
  EXPECT_TRUE(base.is_gguf());
  EXPECT_EQ(base.architecture(), "llama");
  EXPECT_EQ(base.name(), "tiny");
  EXPECT_EQ(base.context(), 128);
  EXPECT_EQ(base.model().layers[1].down.type, NumberType::Q4_1);
  const Tokenizer tokenizer = base.tokenizer();
  EXPECT_EQ(tokenizer.size(), base.model().config.vocabulary);
  EXPECT_EQ(base.chat(tokenizer)->default_system(), "Be brief");
}

// Rounded once to the type, weights are used as they are.
template <class T>
void expect_shards_of(const std::filesystem::path& folder) {
  Weights<float> weights = random_weights();
  save_in_shards<T>(folder, weights);
  for (float& value : weights.values()) value = static_cast<float>(T(value));
  const BaseModel base(folder);
  EXPECT_EQ(base.model().layers[0].down.numbers, nullptr);
  EXPECT_TRUE(logits(base.model()) == logits(weights));
}
TEST_F(BaseModelTest, ReadsShardsOfHalves) { expect_shards_of<Eigen::half>(folder / "half"); }
TEST_F(BaseModelTest, ReadsShardsOfBfloat16) { expect_shards_of<Eigen::bfloat16>(folder / "bfloat16"); }

TEST_F(BaseModelTest, GgufAndHuggingFaceAreOneModel) {
  Config sizes = config;
  sizes.own_head_width = 12;
  for (const Config& c : {config, sizes}) {
    Weights<float> weights(c);
    weights.initialize(1);
    save_gguf(folder / "model.gguf", weights, "tiny");
    save_hugging_face(folder / "model", weights);
    const std::vector<float> expected = logits(weights);
    EXPECT_TRUE(logits(BaseModel(folder / "model.gguf").model()) == expected) << c.own_head_width;
    EXPECT_TRUE(logits(BaseModel(folder / "model").model()) == expected) << c.own_head_width;
  }
}

TEST_F(BaseModelTest, HasATokenizerAndAChatWhereTheFolderHas) {
  save_hugging_face(folder / "tiny", random_weights());
  const BaseModel base(folder / "tiny");
  EXPECT_THROW(base.tokenizer(), std::runtime_error);
  tiedlora_test::write_text(folder / "tiny/tokenizer.json", R"({"model": {"type": "BPE", "merges": [],
      "vocab": {"<|im_start|>": 0, "<|im_end|>": 1, "a": 2}}, "added_tokens": [
      {"id": 0, "content": "<|im_start|>", "special": true},
      {"id": 1, "content": "<|im_end|>", "special": true}],
      "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
      "decoder": {"type": "ByteLevel"}})");
  const Tokenizer tokenizer = base.tokenizer();
  EXPECT_EQ(tokenizer.size(), 3U);
  EXPECT_FALSE(base.chat(tokenizer).has_value());
  tiedlora_test::write_text(folder / "tiny/chat_template.jinja", "{{ messages }}");
  EXPECT_THROW(base.chat(tokenizer), std::runtime_error);
  tiedlora_test::write_text(
      folder / "tiny/chat_template.jinja",
      "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
      "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% "
      "endif "
      "%}");
  EXPECT_EQ(base.chat(tokenizer)->end_of_turn(), 1);
}

}  // namespace
}  // namespace llama
