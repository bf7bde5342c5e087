// Config, weights, module list, thread pool, half precision, random numbers.
#include <gtest/gtest.h>

#include <atomic>
#include <bit>
#include <cmath>
#include <limits>
#include <set>
#include <stdexcept>

#include "half.hpp"
#include "modules.hpp"
#include "support/dice.hpp"
#include "test_support.hpp"
#include "thread_pool.hpp"
#include "weights.hpp"

namespace llama {
namespace {

TEST(Config, CountsTheWeightsOfKnownModels) {
  // SmolLM2-135M and TinyLlama-1.1B, as their model cards' safetensors say.
  EXPECT_EQ(
      weight_count(
          {.vocabulary = 49152, .width = 576, .layers = 30, .heads = 9, .kv_heads = 3, .feed_forward = 1536}),
      134515008);
  EXPECT_EQ(weight_count({.vocabulary = 32000,
                          .width = 2048,
                          .layers = 22,
                          .heads = 32,
                          .kv_heads = 4,
                          .feed_forward = 5632,
                          .tied_embedding = false}),
            1100048384);
}

TEST(Config, RefusesImpossibleSizes) {
  const auto problem = [](Config config) { return message_of([&] { validate(config); }); };
  EXPECT_EQ(problem({}), "no error");
  EXPECT_NE(problem({.layers = 0}).find("layers is 0"), std::string::npos);
  EXPECT_NE(problem({.width = 100, .heads = 3}).find("width 100 is not a multiple of heads 3"),
            std::string::npos);
  EXPECT_NE(problem({.width = 12, .heads = 4}).find("even head width"), std::string::npos);
  EXPECT_NE(problem({.heads = 4, .kv_heads = 3}).find("heads 4 is not a multiple of kv_heads 3"),
            std::string::npos);
  EXPECT_NE(problem({.rope_base = 0}).find("rope_base"), std::string::npos);
  EXPECT_NE(problem({.norm_epsilon = 0}).find("norm_epsilon"), std::string::npos);
  EXPECT_NE(problem({.vocabulary = Index{1} << 40}).find("vocabulary"), std::string::npos);
  const Index largest = Index{1} << 18;
  EXPECT_NE(problem({.width = 2 * largest}).find("from 1 to 262144"), std::string::npos);
  const Config huge = {.vocabulary = std::numeric_limits<std::int32_t>::max(),
                       .width = largest,
                       .layers = largest,
                       .heads = largest / 2,
                       .kv_heads = largest / 2,
                       .feed_forward = largest,
                       .tied_embedding = false};
  EXPECT_EQ(problem(huge), "no error");
  EXPECT_GT(weight_count(huge), 0);
}

TEST(Weights, TableHasNoGapAndNoOverlap) {
  for (const bool tied : {true, false}) {
    const Config config{.vocabulary = 11,
                        .width = 8,
                        .layers = 3,
                        .heads = 2,
                        .kv_heads = 1,
                        .feed_forward = 5,
                        .tied_embedding = tied};
    const Weights<float> weights(config);
    Index end = 0;
    std::set<std::string> names;
    for (const WeightEntry& entry : weights.entries()) {
      EXPECT_EQ(entry.offset, end) << entry.name;
      end += entry.count();
      EXPECT_TRUE(names.insert(entry.name).second) << entry.name;
      EXPECT_EQ(entry.decay, entry.name.find("norm") == std::string::npos) << entry.name;
    }
    EXPECT_EQ(end, weight_count(config));
    EXPECT_EQ(static_cast<Index>(weights.values().size()), end);
    EXPECT_EQ(names.count("lm_head.weight"), tied ? 0u : 1u);
  }
}

TEST(Weights, PointersAgreeWithTheTable) {
  const Config config{.vocabulary = 11,
                      .width = 8,
                      .layers = 3,
                      .heads = 2,
                      .kv_heads = 1,
                      .feed_forward = 5,
                      .tied_embedding = false};
  Weights<float> weights(config);
  const LayerWeights<float> layer = weights.layer(2);
  const auto at = [&](const char* name) { return weights.values(name).data(); };
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(weights.values().data()) % 64, 0u);
  EXPECT_EQ(layer.attention_norm, at("model.layers.2.input_layernorm.weight"));
  EXPECT_EQ(layer.qkv, at("model.layers.2.self_attn.q_proj.weight"));
  EXPECT_EQ(layer.qkv + 8 * 8, at("model.layers.2.self_attn.k_proj.weight"));
  EXPECT_EQ(layer.qkv + 12 * 8, at("model.layers.2.self_attn.v_proj.weight"));
  EXPECT_EQ(layer.o, at("model.layers.2.self_attn.o_proj.weight"));
  EXPECT_EQ(layer.mlp_norm, at("model.layers.2.post_attention_layernorm.weight"));
  EXPECT_EQ(layer.gate_up, at("model.layers.2.mlp.gate_proj.weight"));
  EXPECT_EQ(layer.gate_up + 5 * 8, at("model.layers.2.mlp.up_proj.weight"));
  EXPECT_EQ(layer.down, at("model.layers.2.mlp.down_proj.weight"));
  EXPECT_EQ(weights.embedding(), at("model.embed_tokens.weight"));
  EXPECT_EQ(weights.final_norm(), at("model.norm.weight"));
  EXPECT_EQ(weights.output_embedding(), at("lm_head.weight"));
  EXPECT_NE(message_of([&] { at("model.layers.3.self_attn.q_proj.weight"); }).find("layers.3"),
            std::string::npos);
}

TEST(Weights, InitializationHasGpt2sSpread) {
  const Config config{
      .vocabulary = 256, .width = 64, .layers = 8, .heads = 4, .kv_heads = 2, .feed_forward = 128};
  Weights<float> weights(config), again(config), other(config);
  weights.initialize(5);
  again.initialize(5);
  other.initialize(6);
  EXPECT_TRUE(std::equal(weights.values().begin(), weights.values().end(), again.values().begin()));
  EXPECT_FALSE(std::equal(weights.values().begin(), weights.values().end(), other.values().begin()));
  const auto deviation = [&](const char* name) {
    double sum = 0;
    for (const float value : weights.values(name))
      sum += static_cast<double>(value) * static_cast<double>(value);
    return std::sqrt(sum / static_cast<double>(weights.values(name).size()));
  };
  // n draws know a standard deviation to 1/√(2n): 4 of these for the smallest matrix of 4096 are 4.5 %.
  EXPECT_NEAR(deviation("model.embed_tokens.weight"), 0.02, 0.02 * 0.045);
  EXPECT_NEAR(deviation("model.layers.7.self_attn.q_proj.weight"), 0.02, 0.02 * 0.045);
  EXPECT_NEAR(deviation("model.layers.7.self_attn.o_proj.weight"), 0.005, 0.005 * 0.045);
  EXPECT_NEAR(deviation("model.layers.0.mlp.down_proj.weight"), 0.005, 0.005 * 0.045);
  for (const float value : weights.values("model.norm.weight")) EXPECT_EQ(value, 1);
}

TEST(Random, IsTheSameOnEveryCompiler) {
  Random random(42);
  EXPECT_EQ(random.bits(), 0xbdd732262feb6e95u);  // SplitMix64's published sequence for this seed
  EXPECT_EQ(random.bits(), 0x28efe333b266f103u);
}

TEST(Modules, AreNamedAsInHuggingFace) {
  const Config config{.width = 24, .layers = 2, .heads = 6, .kv_heads = 2, .feed_forward = 40};
  const std::vector<std::string> kinds = {"down_proj", "v_proj", "q_proj"};
  const tiedlora::ModuleList list = modules(config, kinds);
  ASSERT_EQ(list.size(), 6);
  EXPECT_EQ(list[0],
            (tiedlora::Module{"model.layers.0.self_attn.q_proj", 0, "q_proj", "attn_input", 24, 24}));
  EXPECT_EQ(list[1], (tiedlora::Module{"model.layers.0.self_attn.v_proj", 0, "v_proj", "attn_input", 24, 8}));
  EXPECT_EQ(list[5],
            (tiedlora::Module{"model.layers.1.mlp.down_proj", 1, "down_proj", "mlp_output", 40, 24}));
}

TEST(Modules, AreThoseOfSomeLayers) {
  const Config config{.width = 24, .layers = 3, .heads = 6, .kv_heads = 2, .feed_forward = 40};
  const std::vector<std::string> kinds = {"q_proj", "o_proj"};
  const std::vector<Index> layers = {2, 0}, beyond = {1, 3}, before = {-1};
  const tiedlora::ModuleList list = modules(config, kinds, layers);
  ASSERT_EQ(list.size(), 4);
  EXPECT_EQ(list[1].name, "model.layers.0.self_attn.o_proj");
  EXPECT_EQ(list[2].name, "model.layers.2.self_attn.q_proj");
  EXPECT_EQ(message_of([&] { modules(config, kinds, beyond); }),
            "llama: there is no layer 3; the model's are 0 to 2");
  EXPECT_NE(message_of([&] { modules(config, kinds, before); }).find("no layer -1"), std::string::npos);
}

TEST(Modules, KnowFusedAndSeparate) {
  Config config{.width = 24, .layers = 1, .heads = 6, .kv_heads = 2, .feed_forward = 40};
  const std::vector<std::string> fused = {"qkv_proj"}, apart = {"q_proj"}, wrong = {"query"};
  EXPECT_NE(message_of([&] { modules(config, fused); }).find("there are q_proj, k_proj, v_proj, o_proj"),
            std::string::npos);
  EXPECT_NE(message_of([&] { modules(config, wrong); }).find("\"query\""), std::string::npos);
  config.fused_qkv = true;
  EXPECT_EQ(modules(config, fused)[0].out_features, 40);
  EXPECT_NE(message_of([&] { modules(config, apart); }).find("there are qkv_proj, o_proj"),
            std::string::npos);
}

TEST(ThreadPool, RunsEveryPartOnceAndWaits) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    std::vector<std::atomic<int>> runs(static_cast<std::size_t>(threads));
    for (int round = 1; round <= 200; ++round) {
      pool.parallel([&](int ith, int nth) {
        EXPECT_EQ(nth, threads);
        ++runs[static_cast<std::size_t>(ith)];
      });
      for (const auto& count : runs) ASSERT_EQ(count, round);
    }
  }
}

TEST(ThreadPool, CarriesExceptionsAndGoesOn) {
  ThreadPool pool(3);
  for (int thrower = 0; thrower < 3; ++thrower) {
    try {
      pool.parallel([&](int ith, int) {
        if (ith >= thrower) throw std::runtime_error(std::to_string(ith));
      });
      ADD_FAILURE() << "nothing was thrown";
    } catch (const std::runtime_error& error) {
      EXPECT_EQ(error.what(), std::to_string(thrower));
    }
    std::atomic<int> runs = 0;
    pool.parallel([&](int, int) { ++runs; });
    EXPECT_EQ(runs, 3);
  }
  EXPECT_NE(message_of([] { ThreadPool none(0); }).find("at least 1"), std::string::npos);
}

TEST(ThreadPool, AllMembersMeetAtEveryBarrier) {
  ThreadPool pool(3);
  for (int round = 0; round < 50; ++round) {
    std::vector<int> written(3);
    std::atomic<int> wrong = 0;
    pool.with_barriers([&](const Member& member) {
      for (int step = 1; step <= 20; ++step) {
        written[static_cast<std::size_t>(member.ith)] = step;
        member.barrier();
        for (const int other : written) wrong += other != step;
        member.barrier();
      }
    });
    EXPECT_EQ(wrong, 0);
  }
}

TEST(Half, IsEigensHalf) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = Eigen::numext::bit_cast<Half>(static_cast<std::uint16_t>(bits));
    const float value = to_float(half);
    const float expected = static_cast<float>(half);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(value)) << bits;
      continue;
    }
    ASSERT_EQ(value, expected) << bits;
    ASSERT_EQ(std::signbit(value), std::signbit(expected)) << bits;
    ASSERT_EQ(to_half(value).x, half.x) << bits;
  }
  tiedlora_test::Dice dice(7);
  for (int i = 0; i < 100000; ++i) {
    // Every exponent, and in every other number a tie between two halves.
    auto bits = static_cast<std::uint32_t>(dice.bits());
    if (i % 2) bits = (bits & 0xffffe000u) | 0x1000u;
    const float value = std::bit_cast<float>(bits);
    if (std::isnan(value)) continue;
    ASSERT_EQ(to_half(value).x, Half(value).x) << value;
  }
}

TEST(Slice, CoversEverythingInLongEnoughParts) {
  for (Index count = 0; count < 200; ++count)
    for (int nth = 1; nth <= 7; ++nth) {
      Index end = 0;
      for (int ith = 0; ith < nth; ++ith) {
        const Range part = slice(count, ith, nth);
        EXPECT_EQ(part.begin, end);
        EXPECT_EQ(part.begin % 16 == 0 || part.size() == 0, true);
        EXPECT_TRUE(part.size() == 0 || part.size() >= 16 || part.size() == count) << count << " " << nth;
        end = part.end;
      }
      EXPECT_EQ(end, count);
    }
}

}  // namespace
}  // namespace llama
