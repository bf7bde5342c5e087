// Batches of sequences of any lengths, what is kept of a forward, and dropout.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "transformer_case.hpp"

namespace llama {
namespace {

// Sequences of any lengths in one batch: attention and positions end with each, so that losses and gradients
// are those of one after the other.
TEST(Transformer, SequencesOfAnyLengthsDoNotSeeEachOther) {
  Case<double> a(small, 1, 17);
  const std::vector<Index> lengths = {3, 1, 8, 5};
  for (const std::size_t t : {0u, 1u, 3u, 4u, 9u, 16u}) a.targets[t] = -1;  // the second has none at all
  const Index counted = 11;
  const Batch packed = {.tokens = a.tokens.data(), .targets = a.targets.data(), .lengths = lengths};
  ThreadPool pool(2);
  Transformer<double> model(small, pool), one_by_one(small, pool);
  tiedlora::Gradients<double> gradients(a.layout), sum_of_gradients(a.layout);
  const double loss = model.forward(a.weights, &a.adapter, packed);
  model.backward(a.weights, &a.adapter, packed, nullptr, &gradients);
  double sum = 0;
  Index begin = 0;
  for (const Index length : lengths) {
    const Batch one = {.tokens = a.tokens.data() + begin,
                       .targets = a.targets.data() + begin,
                       .sequences = 1,
                       .length = length,
                       .mean_over = counted};
    begin += length;
    if (length == 1) continue;
    sum += one_by_one.forward(a.weights, &a.adapter, one);
    one_by_one.backward(a.weights, &a.adapter, one, nullptr, &sum_of_gradients);
  }
  // Sums in another order: 17 tokens and 18 features at most, each by ε of terms of about 1.
  const double tolerance = 17 * 18 * std::numeric_limits<double>::epsilon();
  EXPECT_NEAR(loss, sum, tolerance);
  for (std::size_t i = 0; i < gradients.values().size(); ++i)
    EXPECT_NEAR(gradients.values()[i], sum_of_gradients.values()[i],
                tolerance * std::max(1.0, std::abs(gradients.values()[i])))
        << i;
}

// What is kept of a forward is a matter of memory alone.
TEST(Transformer, ComputesLayersAgainToTheSameBits) {
  const Config config = {
      .vocabulary = 64, .width = 36, .layers = 4, .heads = 9, .kv_heads = 3, .feed_forward = 80};
  Case<float> a(config, 3, 30);
  ThreadPool pool(2);
  Transformer<float> keeps(config, pool), recomputes(config, pool, Keep::inputs);
  tiedlora::Gradients<float> kept(a.layout), recomputed(a.layout);
  Weights<float> weights_kept(config), weights_recomputed(config);
  EXPECT_EQ(keeps.forward(a.weights, &a.adapter, a.batch()),
            recomputes.forward(a.weights, &a.adapter, a.batch()));
  keeps.backward(a.weights, &a.adapter, a.batch(), &weights_kept, &kept);
  recomputes.backward(a.weights, &a.adapter, a.batch(), &weights_recomputed, &recomputed);
  for (std::size_t i = 0; i < kept.values().size(); ++i)
    EXPECT_EQ(kept.values()[i], recomputed.values()[i]) << i;
  EXPECT_TRUE(std::equal(weights_kept.values().begin(), weights_kept.values().end(),
                         weights_recomputed.values().begin()));
  // Of a layer and token its input; of all layers one layer's worth of the rest.
  const Index W = 36, rest = 2 * W + (W + 2 * 12) + 160 + 2 + 9 + 4 * 3, N = 90;
  EXPECT_LT(recomputes.activation_bytes(), 4 * N * (4 * W + rest + 2 * W + 2) + 64 * 64);
}

// The mask is a function of the step alone: backward is the derivative of what forward computed with it. It
// is the mask that the reference loops of the library apply.
TEST(Transformer, DropoutIsDifferentiatedAndNeverTheSameTwice) {
  Case<double> a(small, 2, 4, tiedlora::schemes::lora());
  ThreadPool pool(2);
  Transformer<double> model(small, pool), again(small, pool, Keep::inputs);
  tiedlora::Gradients<double> gradients(a.layout), recomputed(a.layout);
  Batch batch = a.batch();
  batch.dropout = {.probability = 0.3, .seed = 5, .step = 7};
  const double loss = model.forward(a.weights, &a.adapter, batch);
  model.backward(a.weights, &a.adapter, batch, nullptr, &gradients);
  EXPECT_LT(gradient_error(a.adapter.trainable(), gradients.values(),
                           [&] { return model.evaluate(a.weights, &a.adapter, batch); }),
            gradient_tolerance);
  EXPECT_EQ(again.forward(a.weights, &a.adapter, batch), loss);
  again.backward(a.weights, &a.adapter, batch, nullptr, &recomputed);
  EXPECT_TRUE(std::equal(gradients.values().begin(), gradients.values().end(), recomputed.values().begin()));
  EXPECT_NE(model.evaluate(a.weights, &a.adapter, a.batch()), loss);
  batch.dropout.step = 8;
  EXPECT_NE(model.evaluate(a.weights, &a.adapter, batch), loss);
}

TEST(Transformer, DropoutIsTheLibrarysOwn) {
  const tiedlora::Layout layout(modules(small, std::vector<std::string>{"q_proj"}), tiedlora::schemes::lora(),
                                3);
  tiedlora::Adapter<double> adapter(layout);
  adapter.initialize(1);
  const tiedlora::Dropout dropout = {.probability = 0.4, .seed = 2, .step = 3, .input = 1};
  const std::vector<double> x = random_values(18 * 5, 9);
  std::vector<double> expected(3 * 5), h(3 * 5);
  tiedlora::shrink(adapter.factors(0), columns(x.data(), 18, 5), columns(expected.data(), 3, 5),
                   {.dropout = dropout});
  Linear<double> linear = {.in_features = 18, .dropout = dropout};
  tiedlora::shrink(adapter.factors(0), linear.adapter_input(x.data(), {0, 5}), columns(h.data(), 3, 5));
  // 18 products of two sums in another order, of terms below 1.
  for (std::size_t i = 0; i < h.size(); ++i) EXPECT_NEAR(h[i], expected[i], 18 * 1e-15) << i;
}

TEST(Transformer, TakesBatchesOfChangingShape) {
  ThreadPool pool(2);
  Transformer<float> model(small, pool);
  Case<float> a(small, 2, 5), b(small, 1, 70);
  const double first = model.forward(a.weights, &a.adapter, a.batch());
  model.forward(b.weights, nullptr, b.batch());
  EXPECT_EQ(model.forward(a.weights, &a.adapter, a.batch()), first);
}

}  // namespace
}  // namespace llama
