// For the tests of the whole model: one with random values everywhere.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "test_support.hpp"
#include "transformer.hpp"

namespace llama {

/// A model, an adapter and a batch with random values everywhere.
template <class T>
struct Case {
  Config config;
  Index sequences = 2, length = 5;
  tiedlora::Scheme scheme = tiedlora::schemes::tl6();
  std::vector<std::string> kinds = all_kinds;

  Weights<T> weights{config};
  tiedlora::Layout layout{modules(config, kinds), scheme, 3, {.scaling = 0.75}};
  tiedlora::Adapter<T> adapter{layout};
  std::vector<std::int32_t> tokens = random_tokens(sequences * length, config.vocabulary, 1);
  std::vector<std::int32_t> targets = random_tokens(sequences * length, config.vocabulary, 2);

  Case(const Config& c, Index s, Index t, const tiedlora::Scheme& how = tiedlora::schemes::tl6(),
       const std::vector<std::string>& which = all_kinds)
      : config(c), sequences(s), length(t), scheme(how), kinds(which) {
    // Large enough that the loss bends everywhere, unlike the usual start.
    fill_random<T>(weights.values(), 0.5, 3);
    fill_random<T>(adapter.trainable(), 0.5, 4);
    if (sequences * length > 2) targets[1] = -1;
  }
  Batch batch() const { return {tokens.data(), targets.data(), sequences, length}; }
};

/// 9 query heads on 3 key-value heads, as SmolLM2 has.
inline const Config small = {
    .vocabulary = 9, .width = 18, .layers = 2, .heads = 9, .kv_heads = 3, .feed_forward = 5};

/// Backward of every weight against the quotients of its loss.
inline void expect_weight_gradients(Transformer<double>& model, Weights<double>& weights,
                                    const tiedlora::Adapter<double>& adapter, const Batch& batch) {
  Weights<double> gradients(weights.config());
  model.forward(weights, &adapter, batch);
  model.backward(weights, &adapter, batch, &gradients, nullptr);
  for (const WeightEntry& entry : weights.entries())
    EXPECT_LT(gradient_error(weights.values(entry.name), gradients.values(entry.name),
                             [&] { return model.evaluate(weights, &adapter, batch); }),
              gradient_tolerance)
        << entry.name;
}

}  // namespace llama
