// A model that is computed as it lies in its file, in the file's types.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "gguf_model.hpp"
#include "modules.hpp"
#include "support/io_files.hpp"
#include "tiny_model.hpp"
#include "transformer.hpp"

namespace llama {
namespace {

using llama_test::TinyModel;

struct Results {
  std::vector<float> logits, gradients;
  double loss = 0;
};

/// Forward and backward of two sequences with a TL6 adapter on all layers.
Results run(const Model<float>& model, int threads) {
  const std::vector<std::int32_t> tokens = {3, 70, 12, 200, 5, 9, 91, 258, 17, 44},
                                  targets = {70, 12, 200, 5, -1, 91, 258, 17, 44, 130};
  ThreadPool pool(threads);
  Transformer<float> transformer(model.config, pool);
  const std::vector<std::string> kinds = {"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                          "gate_proj", "up_proj", "down_proj"};
  const tiedlora::Layout layout(modules(model.config, kinds), tiedlora::schemes::tl6(), 4);
  tiedlora::Adapter<float> adapter(layout);
  tiedlora::Gradients<float> gradients(layout);
  adapter.initialize(1);
  tiedlora_test::Dice dice(2);
  dice.fill(adapter.trainable(), -0.3, 0.3);

  Results results;
  results.logits.resize(static_cast<std::size_t>(model.config.vocabulary) * tokens.size());
  transformer.logits(model, &adapter, tokens.data(), 2, 5, results.logits.data());
  const Batch batch = {tokens.data(), targets.data(), 2, 5};
  results.loss = transformer.forward(model, &adapter, batch);
  transformer.backward(model, &adapter, batch, nullptr, &gradients);
  results.gradients.assign(gradients.values().begin(), gradients.values().end());
  return results;
}

class GgufBaseTest : public ::testing::Test {
 protected:
  tiedlora_test::Folder folder;
  const std::string path = folder / "model.gguf";
};

// A panel is widened, then multiplied: to the bit as if all had been widened before.
TEST_F(GgufBaseTest, BlocksGiveTheBitsOfTheirNumbers) {
  TinyModel(TinyModel::Numbers::blocks).write(path);
  const GgufModel file(path);
  const Model<float> in_blocks = file.model();
  ASSERT_EQ(in_blocks.layers[0].o.type, NumberType::Q4_1);

  std::vector<std::vector<float>> owned;
  const auto widen = [&owned](Weight<float>& w) {
    std::vector<float> numbers(static_cast<std::size_t>(w.out * w.in));
    for (Index row = 0; row < w.out; ++row) w.copy(row, 0, w.in, numbers.data() + row * w.in);
    owned.push_back(std::move(numbers));
    w = Weight<float>::plain(owned.back().data(), w.out, w.in);
  };
  Model<float> plain = in_blocks;
  widen(plain.embedding), widen(plain.output);
  for (ModelLayer<float>& layer : plain.layers) {
    for (Weight<float>& w : layer.qkv) widen(w);
    for (Weight<float>& w : layer.gate_up) widen(w);
    widen(layer.o), widen(layer.down);
  }

  const Results expected = run(plain, 1);
  EXPECT_GT(std::abs(expected.gradients[0]), 0);
  for (const int threads : {1, 3}) {
    const Results results = run(in_blocks, threads);
    EXPECT_EQ(results.loss, expected.loss) << threads;
    EXPECT_TRUE(results.logits == expected.logits) << threads;
    EXPECT_TRUE(results.gradients == expected.gradients) << threads;
  }
}

TEST_F(GgufBaseTest, NumbersOfAFileAreReadInPlace) {
  TinyModel(TinyModel::Numbers::floats).write(path);
  const GgufModel file(path);
  EXPECT_EQ(static_cast<const void*>(file.model().layers[1].down.numbers),
            file.file().find_tensor("blk.1.ffn_down.weight")->bytes.data());
  EXPECT_GT(run(file.model(), 2).loss, 0);
}

// Feature i and i + D/2 of a head, which stand together in the file, are apart again.
TEST_F(GgufBaseTest, RowsOfQueriesAndKeysAreInTransformersOrder) {
  TinyModel(TinyModel::Numbers::floats).write(path);
  const GgufModel file(path);
  const Model<float> model = file.model();
  const Index W = model.config.width, D = model.config.head_width();
  const auto* q =
      reinterpret_cast<const float*>(file.file().find_tensor("blk.0.attn_q.weight")->bytes.data());
  std::vector<float> row(static_cast<std::size_t>(W));
  for (Index head = 0; head < model.config.heads; ++head)
    for (Index i = 0; i < D; ++i) {
      model.layers[0].qkv[0].copy(head * D + i, 0, W, row.data());
      const Index place = head * D + (i < D / 2 ? 2 * i : 2 * (i - D / 2) + 1);
      EXPECT_TRUE(std::equal(row.begin(), row.end(), q + place * W)) << head << ", " << i;
      EXPECT_EQ(model.layers[0].qkv[0].place_of(head * D + i), place);
      EXPECT_EQ(model.layers[0].qkv[0].row_at(place), head * D + i);
    }
}

}  // namespace
}  // namespace llama
