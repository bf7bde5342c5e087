// The whole model: exact derivatives, independence of threads and of neighbours in the batch, memory, errors,
// generation.
#include <gtest/gtest.h>

#include "generate.hpp"
#include "transformer_case.hpp"

namespace llama {
namespace {

TEST(Transformer, BackwardIsTheDerivativeForEveryWeight) {
  for (const bool tied : {true, false}) {
    Config config = small;
    config.tied_embedding = tied;
    if (tied) config.feed_forward = 20;  // its gradients have room for those of each head
    Case<double> a(config, 2, 4);
    ThreadPool pool(1);
    Transformer<double> model(config, pool);
    expect_weight_gradients(model, a.weights, a.adapter, a.batch());
  }
}

TEST(Transformer, BackwardIsTheDerivativeForEveryAdapter) {
  Config fused = small;
  fused.fused_qkv = true;
  for (const tiedlora::Scheme& scheme :
       {tiedlora::schemes::lora(), tiedlora::schemes::tl5(), tiedlora::schemes::tl6()})
    for (const Config& config : {small, fused}) {
      const std::vector<std::string> kinds =
          config.fused_qkv ? std::vector<std::string>{"qkv_proj", "o_proj", "down_proj"} : all_kinds;
      Case<double> a(config, 2, 4, scheme, kinds);
      ThreadPool pool(1);
      Transformer<double> model(config, pool);
      tiedlora::Gradients<double> gradients(a.layout);
      model.forward(a.weights, &a.adapter, a.batch());
      model.backward(a.weights, &a.adapter, a.batch(), nullptr, &gradients);
      EXPECT_LT(gradient_error(a.adapter.trainable(), gradients.values(),
                               [&] { return model.evaluate(a.weights, &a.adapter, a.batch()); }),
                gradient_tolerance);
    }
}

// Adapters in the upper layer only, weights frozen or not: the same adapter gradients.
TEST(Transformer, StopsAtTheLowestAdaptedLayer) {
  Case<double> a(small, 2, 4);
  tiedlora::LayoutOptions upper_only;
  for (const tiedlora::Module& module : a.layout.modules())
    if (module.layer == 0) upper_only.ranks.emplace_back(module.name, 0);
  const tiedlora::Layout layout(a.layout.modules(), tiedlora::schemes::lora(), 3, upper_only);
  tiedlora::Adapter<double> adapter(layout);
  fill_random<double>(adapter.trainable(), 0.5, 5);
  ThreadPool pool(2);
  Transformer<double> model(small, pool);
  tiedlora::Gradients<double> frozen(layout), full(layout);
  Weights<double> weight_gradients(small);
  model.forward(a.weights, &adapter, a.batch());
  model.backward(a.weights, &adapter, a.batch(), nullptr, &frozen);
  model.backward(a.weights, &adapter, a.batch(), &weight_gradients, &full);
  EXPECT_TRUE(std::equal(frozen.values().begin(), frozen.values().end(), full.values().begin()));
  EXPECT_LT(gradient_error(adapter.trainable(), frozen.values(),
                           [&] { return model.evaluate(a.weights, &adapter, a.batch()); }),
            gradient_tolerance);
}

TEST(Transformer, GradientsAccumulate) {
  Case<double> a(small, 2, 4);
  ThreadPool pool(1);
  Transformer<double> model(small, pool);
  Weights<double> once(small), twice(small);
  tiedlora::Gradients<double> adapter_once(a.layout), adapter_twice(a.layout);
  model.forward(a.weights, &a.adapter, a.batch());
  model.backward(a.weights, &a.adapter, a.batch(), &once, &adapter_once);
  for (int i = 0; i < 2; ++i) model.backward(a.weights, &a.adapter, a.batch(), &twice, &adapter_twice);
  // Adding to what is there rounds differently from adding to 0: by ε of the largest for each of the 8
  // tokens.
  const auto expect_double = [](std::span<const double> x, std::span<const double> x2) {
    double largest = 0;
    for (const double value : x2) largest = std::max(largest, std::abs(value));
    for (std::size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(2 * x[i], x2[i], 8 * 2.3e-16 * largest);
  };
  expect_double(once.values(), twice.values());
  expect_double(adapter_once.values(), adapter_twice.values());
}

// 9 query heads on 3 key-value heads, as SmolLM2; sizes that are not multiples of 16, more than one attention
// block; with the last length more than one task of tokens.
TEST(Transformer, ThreadsDoNotChangeABit) {
  const Config config = {
      .vocabulary = 77, .width = 54, .layers = 2, .heads = 9, .kv_heads = 3, .feed_forward = 50};
  ASSERT_GT(3 * (attention_block + 110), task_tokens);
  for (const Index length :
       {Index{1}, Index{7}, attention_block + 6, attention_block + 110, task_queries + attention_block}) {
    Case<float> a(config, 3, length);
    std::vector<float> first;
    for (const int threads : {1, 2, 3, 8}) {
      ThreadPool pool(threads);
      Transformer<float> model(config, pool);
      Weights<float> weight_gradients(config);
      tiedlora::Gradients<float> gradients(a.layout);
      std::vector<float> results(static_cast<std::size_t>(config.vocabulary * 3 * length));
      model.logits(a.weights, &a.adapter, a.tokens.data(), 3, length, results.data());
      results.push_back(static_cast<float>(model.forward(a.weights, &a.adapter, a.batch())));
      model.backward(a.weights, &a.adapter, a.batch(), &weight_gradients, &gradients);
      results.insert(results.end(), weight_gradients.values().begin(), weight_gradients.values().end());
      results.insert(results.end(), gradients.values().begin(), gradients.values().end());
      if (first.empty()) first = results;
      EXPECT_TRUE(first == results) << threads << " threads, length " << length;
    }
  }
}

TEST(Transformer, SequencesOfABatchAreIndependent) {
  Case<float> a(small, 3, 6);
  ThreadPool pool(2);
  Transformer<float> model(small, pool);
  const std::size_t per_sequence = static_cast<std::size_t>(small.vocabulary * 6);
  std::vector<float> before(3 * per_sequence), after(before.size());
  model.logits(a.weights, &a.adapter, a.tokens.data(), 3, 6, before.data());
  a.tokens[8] = (a.tokens[8] + 1) % 9;  // the third token of the second sequence
  model.logits(a.weights, &a.adapter, a.tokens.data(), 3, 6, after.data());
  const auto changed = [&](std::size_t first_token, std::size_t last_token) {
    return !std::equal(before.begin() + static_cast<Index>(first_token) * 9,
                       before.begin() + static_cast<Index>(last_token) * 9,
                       after.begin() + static_cast<Index>(first_token) * 9);
  };
  EXPECT_FALSE(changed(0, 8));  // the first sequence, and what comes before the change
  for (std::size_t t = 8; t < 12; ++t) EXPECT_TRUE(changed(t, t + 1)) << t;
  EXPECT_FALSE(changed(12, 18));

  // The mean loss of a batch is that of its sequences, by counted tokens.
  double sum = 0;
  Index counted = 0;
  for (Index s = 0; s < 3; ++s) {
    const Batch one = {a.tokens.data() + 6 * s, a.targets.data() + 6 * s, 1, 6};
    const Index n = s == 0 ? 5 : 6;  // one target of the first sequence is not counted
    sum += model.evaluate(a.weights, &a.adapter, one) * static_cast<double>(n);
    counted += n;
  }
  EXPECT_NEAR(model.evaluate(a.weights, &a.adapter, a.batch()), sum / static_cast<double>(counted), 1e-5);
}

TEST(Transformer, EvaluateDoesNotDisturbABackwardToCome) {
  Case<float> a(small, 2, 5), other(small, 4, 3);
  ThreadPool pool(2);
  Transformer<float> model(small, pool);
  tiedlora::Gradients<float> plain(a.layout), disturbed(a.layout);
  const double loss = model.forward(a.weights, &a.adapter, a.batch());
  model.backward(a.weights, &a.adapter, a.batch(), nullptr, &plain);
  EXPECT_EQ(model.evaluate(a.weights, &a.adapter, a.batch()), loss);
  model.evaluate(a.weights, nullptr, other.batch());
  generate<float>(model, a.weights, nullptr, other.tokens, 3, 1.0, 1);
  model.backward(a.weights, &a.adapter, a.batch(), nullptr, &disturbed);
  EXPECT_TRUE(std::equal(plain.values().begin(), plain.values().end(), disturbed.values().begin()));
}

// An adapter that does nothing yet leaves the model bit for bit as it was.
TEST(Transformer, FreshAdapterChangesNothing) {
  Case<float> a(small, 2, 5);
  ThreadPool pool(2);
  Transformer<float> model(small, pool);
  a.adapter.initialize(1);
  EXPECT_EQ(model.forward(a.weights, &a.adapter, a.batch()), model.evaluate(a.weights, nullptr, a.batch()));
}

// What backward needs, and no more: per layer and token 3 streams of width W, q, k and v, gate and up, two
// inverse rms, a log-sum-exp per head and the adapters' h; above them the last stream, its inverse rms, the
// gradient of the hidden state and the loss. Nothing with the vocabulary, nothing with length². q, k and v
// keep one h where they share A.
TEST(Transformer, ActivationMemoryIsWhatBackwardNeeds) {
  const Config config = {
      .vocabulary = 1024, .width = 64, .layers = 3, .heads = 4, .kv_heads = 2, .feed_forward = 128};
  const std::vector<std::string> kinds = {"q_proj", "k_proj", "v_proj", "down_proj"};
  ThreadPool pool(1);
  for (const auto& [scheme, hidden] :
       {std::pair(tiedlora::schemes::lora(), 4), std::pair(tiedlora::schemes::tl6(), 2)}) {
    Case<float> a(config, 2, 16, scheme, kinds);
    Transformer<float> model(config, pool);
    EXPECT_EQ(model.activation_bytes(), 0);
    model.forward(a.weights, &a.adapter, a.batch());
    const Index rank = 3, per_layer = 3 * 64 + 128 + 256 + 2 + 4 + hidden * rank, above = 2 * 64 + 2;
    EXPECT_EQ(model.activation_bytes(), 4 * 32 * (3 * per_layer + above));
  }
}

TEST(Transformer, NamesWhatIsWrong) {
  Case<float> a(small, 2, 5);
  ThreadPool pool(1);
  Transformer<float> model(small, pool);
  Weights<float> gradients(small);
  const auto forward = [&] { model.forward(a.weights, &a.adapter, a.batch()); };
  const auto backward = [&] { model.backward(a.weights, &a.adapter, a.batch(), &gradients, nullptr); };

  EXPECT_NE(message_of(backward).find("needs a forward"), std::string::npos);
  a.tokens[3] = 9;
  EXPECT_NE(message_of(forward).find("token 3 of the batch is 9, outside the vocabulary of 9"),
            std::string::npos);
  a.tokens[3] = -1;
  EXPECT_NE(message_of(forward).find("token 3 of the batch is -1"), std::string::npos);
  a.tokens[3] = 0;
  a.targets[4] = 9;
  EXPECT_NE(message_of(forward).find("target 4 of the batch is 9"), std::string::npos);
  std::fill(a.targets.begin(), a.targets.end(), -1);
  EXPECT_NE(message_of(forward).find("no target of the batch is counted"), std::string::npos);
  a.sequences = 0;
  EXPECT_NE(message_of(forward).find("no sequences"), std::string::npos);
  a.sequences = 2;

  Config wider = small;
  wider.width = 36;
  Case<float> w(wider, 2, 5);
  EXPECT_NE(message_of([&] { model.forward(w.weights, nullptr, a.batch()); }).find("another config"),
            std::string::npos);
  EXPECT_NE(message_of([&] {
              model.forward(a.weights, &w.adapter, a.batch());
            }).find("is 18x18 (out x in) in the model and 36x36"),
            std::string::npos);
  Config deeper = small;
  deeper.layers = 3;
  Case<float> d(deeper, 2, 5);
  EXPECT_NE(message_of([&] {
              model.forward(a.weights, &d.adapter, a.batch());
            }).find("model.layers.2.self_attn.q_proj"),
            std::string::npos);
}

TEST(Generate, CacheGivesTheLogitsOfTheWholeSequence) {
  const Index length = task_queries + attention_block + 9;
  Case<double> a(small, 1, length);
  ThreadPool pool(2);
  Transformer<double> model(small, pool);
  std::vector<double> whole(static_cast<std::size_t>(9 * length)), last(9);
  model.logits(a.weights, &a.adapter, a.tokens.data(), 1, length, whole.data());
  KeyValueCache<double> cache(small, length);
  const std::span<const std::int32_t> tokens = a.tokens;
  for (std::size_t done = 0; done < tokens.size();) {
    const std::size_t n = done == 0 ? 4 : done < 30 ? 1 : done < 50 ? 13 : tokens.size() - done;
    model.extend(a.weights, &a.adapter, cache, tokens.subspan(done, n), last.data());
    done += n;
    EXPECT_EQ(cache.count(), static_cast<Index>(done));
    for (std::size_t i = 0; i < 9; ++i) EXPECT_NEAR(last[i], whole[9 * (done - 1) + i], 1e-12) << done;
  }
  EXPECT_NE(message_of([&] {
              model.extend(a.weights, &a.adapter, cache, tokens.first(1), last.data());
            }).find("cache for " + std::to_string(length)),
            std::string::npos);
}

TEST(Generate, IsRepeatableAndFollowsTheTemperature) {
  Case<float> a(small, 1, 5);
  ThreadPool pool(2);
  Transformer<float> model(small, pool);
  const auto text = [&](double temperature, std::uint64_t seed) {
    return generate<float>(model, a.weights, &a.adapter, a.tokens, 20, temperature, seed);
  };
  EXPECT_EQ(text(1, 7), text(1, 7));
  EXPECT_NE(text(1, 7), text(1, 8));
  EXPECT_EQ(text(0, 7), text(0, 8));
  EXPECT_EQ(text(1e-6, 7), text(0, 7));

  // The most likely token each time, from logits of the whole text so far.
  std::vector<std::int32_t> so_far = a.tokens;
  for (const std::int32_t next : text(0, 1)) {
    std::vector<float> logits(9 * so_far.size());
    model.logits(a.weights, &a.adapter, so_far.data(), 1, static_cast<Index>(so_far.size()), logits.data());
    EXPECT_EQ(next, std::max_element(logits.end() - 9, logits.end()) - (logits.end() - 9));
    so_far.push_back(next);
  }
  EXPECT_NE(
      message_of([&] { generate<float>(model, a.weights, nullptr, {}, 1, 1, 1); }).find("prompt is empty"),
      std::string::npos);
  EXPECT_NE(message_of([&] { text(-1, 1); }).find("temperature"), std::string::npos);
}

TEST(Generate, SamplesByTheSoftmax) {
  const std::vector<double> logits = {0, std::log(2.0), std::log(5.0)};  // probabilities 1/8, 2/8, 5/8
  Random random(1);
  std::vector<int> counts(3);
  for (int i = 0; i < 8000; ++i) ++counts[static_cast<std::size_t>(sample<double>(logits, 1.0, random))];
  // A count of n draws has standard deviation √(n p (1 − p)) < 44: five of them.
  EXPECT_NEAR(counts[0], 1000, 5 * 30);
  EXPECT_NEAR(counts[1], 2000, 5 * 39);
  EXPECT_NEAR(counts[2], 5000, 5 * 44);
}

}  // namespace
}  // namespace llama
