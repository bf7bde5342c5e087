// What Qwen 2 and 3 and scaled rotary embeddings have beyond Llama: biases, norms of heads, heads of a width
// of their own, divisors of angles.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "generate.hpp"
#include "head_norms.hpp"
#include "transformer_case.hpp"

namespace llama {
namespace {

// Heads are wider together than the model.
const Config plain = {.vocabulary = 9,
                      .width = 10,
                      .layers = 2,
                      .heads = 4,
                      .kv_heads = 2,
                      .own_head_width = 6,
                      .feed_forward = 7};

/// A model with all of it, random values everywhere, and an adapter and a batch.
template <class T>
struct Everything {
  Weights<T> weights{plain};
  std::vector<T> biases, norms;
  Model<T> model;
  tiedlora::Layout layout{modules(plain, all_kinds), tiedlora::schemes::lora(), 3, {.scaling = 0.75}};
  tiedlora::Adapter<T> adapter{layout};
  Index sequences, length;
  std::vector<std::int32_t> tokens, targets;

  Everything(Index s, Index t)
      : biases(2 * 48),
        norms(2 * 12),
        sequences(s),
        length(t),
        tokens(random_tokens(s * t, plain.vocabulary, 1)),
        targets(random_tokens(s * t, plain.vocabulary, 2)) {
    fill_random<T>(weights.values(), 0.5, 3);
    fill_random<T>(adapter.trainable(), 0.5, 4);
    fill_random<T>(biases, 0.5, 5);
    fill_random<T>(norms, 2, 6);
    model = weights.model();
    model.config.head_norms = true;
    model.config.rope_divisors = {1, 1.5, 4};
    for (std::size_t l = 0; l < 2; ++l) {
      ModelLayer<T>& layer = model.layers[l];
      const T* bias = biases.data() + 48 * l;
      layer.qkv_bias = {bias, bias + 24, l == 0 ? nullptr : bias + 36};
      layer.q_norm = norms.data() + 12 * l;
      layer.k_norm = layer.q_norm + 6;
    }
  }
  Batch batch() const { return {tokens.data(), targets.data(), sequences, length}; }
};

TEST(Variants, BackwardIsTheDerivativeWithHeadsOfTheirOwnWidth) {
  Everything<double> a(2, 4);
  ThreadPool pool(1);
  Transformer<double> model(plain, pool);
  expect_weight_gradients(model, a.weights, a.adapter, a.batch());
}

TEST(Variants, BackwardIsTheDerivativeForEveryAdapter) {
  Everything<double> a(2, 4);
  ThreadPool pool(1);
  Transformer<double> model(a.model.config, pool);
  tiedlora::Gradients<double> gradients(a.layout);
  model.forward(a.model, &a.adapter, a.batch());
  model.backward(a.model, &a.adapter, a.batch(), nullptr, &gradients);
  EXPECT_LT(gradient_error(a.adapter.trainable(), gradients.values(),
                           [&] { return model.evaluate(a.model, &a.adapter, a.batch()); }),
            gradient_tolerance);
}

// Each of them does something.
TEST(Variants, NoneIsForgotten) {
  Everything<double> a(2, 4);
  ThreadPool pool(1);
  const auto loss = [&](const Model<double>& model) {
    return Transformer<double>(model.config, pool).evaluate(model, nullptr, a.batch());
  };
  const double all = loss(a.model);
  Model<double> without = a.model;
  without.config.head_norms = false;
  EXPECT_NE(loss(without), all);
  without = a.model;
  without.config.rope_divisors.clear();
  EXPECT_NE(loss(without), all);
  for (std::size_t i = 0; i < 3; ++i) {
    without = a.model;
    without.layers[1].qkv_bias[i] = nullptr;
    // What all keys of a head have in common changes no probability, but here they turn.
    EXPECT_NE(loss(without), all) << i;
  }
}

TEST(Variants, NeitherThreadsNorKeptActivationsChangeABit) {
  Everything<float> a(3, 50);
  std::vector<std::vector<float>> gradients;
  std::vector<double> losses;
  for (const Keep keep : {Keep::every_layer, Keep::inputs})
    for (const int threads : {1, 3}) {
      ThreadPool pool(threads);
      Transformer<float> model(a.model.config, pool, keep);
      tiedlora::Gradients<float> gradient(a.layout);
      losses.push_back(model.forward(a.model, &a.adapter, a.batch()));
      model.backward(a.model, &a.adapter, a.batch(), nullptr, &gradient);
      gradients.emplace_back(gradient.values().begin(), gradient.values().end());
    }
  for (std::size_t i = 1; i < losses.size(); ++i) {
    EXPECT_EQ(losses[i], losses[0]) << i;
    EXPECT_TRUE(gradients[i] == gradients[0]) << i;
  }
}

// Token by token with a cache: the same logits.
TEST(Variants, ACacheHoldsTurnedKeys) {
  Everything<double> a(1, 9);
  ThreadPool pool(2);
  Transformer<double> model(a.model.config, pool);
  std::vector<double> whole(9 * 9), last(9);
  model.logits(a.model, &a.adapter, a.tokens.data(), 1, 9, whole.data());
  KeyValueCache<double> cache(a.model.config, 9);
  for (std::size_t t = 0; t < 9; ++t) {
    model.extend(a.model, &a.adapter, cache, std::span(&a.tokens[t], 1), last.data());
    for (std::size_t i = 0; i < 9; ++i) EXPECT_NEAR(last[i], whole[9 * t + i], 1e-12) << t;
  }
}

TEST(Variants, AnglesAreDivided) {
  const std::array<double, 2> divisors = {1, 8};
  RotaryTable<double> table(4, 100, divisors);
  table.extend(6);
  EXPECT_DOUBLE_EQ(table.cos(5)[0], std::cos(5.0));
  EXPECT_DOUBLE_EQ(table.cos(5)[1], std::cos(5 * 0.1 / 8));
  EXPECT_DOUBLE_EQ(table.sin(5)[1], std::sin(5 * 0.1 / 8));
}

TEST(Variants, WhatIsNotTrainedIsRefused) {
  Everything<double> a(1, 2);
  Config config = plain;
  config.head_norms = true;
  EXPECT_NE(message_of([&] { Weights<double> w(config); }).find("trained through an adapter"),
            std::string::npos);
  Model<double> biased = a.weights.model();
  biased.layers[1].qkv_bias[0] = a.biases.data();
  ThreadPool pool(1);
  Transformer<double> model(plain, pool);
  Weights<double> gradients(plain);
  model.forward(biased, nullptr, a.batch());
  EXPECT_NE(message_of([&] {
              model.backward(biased, nullptr, a.batch(), &gradients, nullptr);
            }).find("has biases, which are not trained"),
            std::string::npos);
}

TEST(Variants, ImpossibleConfigsAreRefused) {
  const auto problem = [](Config config) { return message_of([&] { validate(config); }); };
  Config config = plain;
  config.own_head_width = 5;
  EXPECT_EQ(problem(config), "llama: heads are 5 wide; rotary position embedding needs an even head width");
  config.own_head_width = 1 << 17;
  EXPECT_EQ(problem(config), "llama: own_head_width is 131072; it must be from 1 to 65536");
  config = plain;
  config.rope_divisors = {1, 2};
  EXPECT_EQ(problem(config),
            "llama: there are 2 rope_divisors for heads of 6; one for each pair of features is needed");
  config.rope_divisors = {1, 0, 1};
  EXPECT_EQ(problem(config), "llama: rope_divisors must be positive");
}

}  // namespace
}  // namespace llama
