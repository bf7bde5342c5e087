// The engine beside the transformer that trains and is compared with transformers: every architecture and
// every type of weights, with adapters on all seven linear layers, however the prompt is cut.
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <string>
#include <vector>

#include <llama/base_model.hpp>
#include <llama/modules.hpp>
#include <llama/test_support.hpp>
#include <llama/transformer.hpp>
#include <tiedlora/adapter/merge.hpp>
#include "engine.hpp"
#include "support/dice.hpp"

namespace engine {
namespace {

using llama::NumberType;
using tiedlora::Adapter;
using tiedlora_test::Dice;

/// Logits of all places, V to each.
using ModelLogits = std::vector<float>;

ModelLogits by_transformer(const Model& model, const Adapter<float>* adapter,
                           const std::vector<std::int32_t>& tokens) {
  llama::ThreadPool pool(1);
  ModelLogits logits(tokens.size() * static_cast<std::size_t>(model.config.vocabulary));
  llama::Transformer<float>(model.config, pool)
      .logits(model, adapter, tokens.data(), 1, static_cast<Index>(tokens.size()), logits.data());
  return logits;
}

/// `step` tokens at a time.
ModelLogits by_engine(const Model& model, const Adapter<float>* adapter,
                      const std::vector<std::int32_t>& tokens, std::size_t step, int threads) {
  const auto count = static_cast<Index>(tokens.size());
  Engine engine(model, threads, count, count);
  KvCache cache(model.config, count);
  tiedlora::AdapterSet<float> set(llama::all_modules(model.config));
  const tiedlora::AdapterId id = adapter ? set.add(Adapter<float>(*adapter)) : tiedlora::no_adapter;
  ModelLogits all;
  for (std::size_t begin = 0; begin < tokens.size(); begin += step) {
    std::vector<Row> rows;
    for (std::size_t i = begin; i < std::min(begin + step, tokens.size()); ++i)
      rows.push_back({tokens[i], static_cast<Index>(i), &cache, true});
    const std::vector<tiedlora::TokenAdapter> uses(rows.size(), {.adapter = id});
    const auto logits = engine.forward(rows, tiedlora::BatchPlan<float>(set.snapshot(), uses));
    all.insert(all.end(), logits.begin(), logits.end());
  }
  return all;
}

/// The largest difference.
double apart(const ModelLogits& a, const ModelLogits& b) {
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    largest = std::max(largest, static_cast<double>(std::abs(a[i] - b[i])));
  return a.size() == b.size() ? largest : INFINITY;
}

/// A model, merged with its adapter, whose weights say what the engine rounds and the transformer does not.
///
/// Keys, values and queries are rounded to halves, by up to 2^-11 of them: so are the rows that make them.
///
/// Q4_1 and Q8_0 read activations in blocks of bytes, each rounded by up to 1/254 of its block's largest. A
/// product with weights w is then off by Σ w_i δ_i, as if each w_i were off by its part δ_i / x_i. The
/// largest of 32 is at most √32 times their root mean square: weights are changed by up to √32 / 254 of that
/// of theirs. Adapters read floats.
///
/// Sums add up in another order: n roundings of 2^-24, n up to 300, in all weights.
class RoundedModel {
 public:
  RoundedModel(const Model& model, const Adapter<float>* adapter, std::uint64_t seed)
      : model_(model), adapter_(adapter), dice_(seed) {
    change(model_.embedding, 0);
    change(model_.output, 0);
    Index module = 0;
    for (auto& layer : model_.layers) {
      for (Weight& weight : layer.qkv) change(weight, 0x1p-11, module++);
      change(layer.o, 0, module++);
      for (Weight& weight : layer.gate_up) change(weight, 0, module++);
      change(layer.down, 0, module++);
    }
  }
  const Model& model() const { return model_; }

 private:
  using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

  void change(Weight& weight, double of_rows, Index module = -1) {
    const bool in_blocks =
        !weight.numbers && (weight.type == NumberType::Q4_1 || weight.type == NumberType::Q8_0);
    RowMajor& w = memory_.emplace_back(weight.out, weight.in);
    for (Index row = 0; row < weight.out; ++row) weight.copy(row, 0, weight.in, &w(row, 0));
    const double of_blocks =
        in_blocks ? std::sqrt(32.0) / 254 * static_cast<double>(w.norm()) / std::sqrt(w.size()) : 0;
    if (adapter_ && module >= 0) tiedlora::merge(adapter_->factors(module), w);
    for (Index row = 0; row < w.rows(); ++row) {
      const double whole = of_rows * dice_.uniform();
      for (float& number : w.row(row))
        number =
            static_cast<float>(static_cast<double>(number) * (1 + whole + 300 * 0x1p-24 * dice_.uniform()) +
                               of_blocks * dice_.uniform());
    }
    weight = Weight::plain(w.data(), weight.out, weight.in);
  }

  Model model_;
  const Adapter<float>* adapter_;
  std::deque<RowMajor> memory_;
  Dice dice_;
};

/// What roundings do to the logits: tried with six draws. Another draw of as many roundings is within four
/// times the largest of them.
double tolerance_of(const Model& model, const Adapter<float>* adapter,
                    const std::vector<std::int32_t>& tokens) {
  const ModelLogits exact = by_transformer(model, adapter, tokens);
  double largest = 0;
  for (std::uint64_t seed = 1; seed <= 6; ++seed)
    largest = std::max(
        largest, apart(by_transformer(RoundedModel(model, adapter, seed).model(), nullptr, tokens), exact));
  return 4 * largest;
}

Adapter<float> adapter_of_all_modules(const Model& model, const tiedlora::Scheme& scheme) {
  Adapter<float> adapter(tiedlora::Layout(llama::all_modules(model.config), scheme, 3));
  Dice dice(2);
  dice.fill(adapter.trainable(), -0.5, 0.5);
  for (Index m = 0; m < adapter.layout().size(); ++m) {
    adapter.u(m).setConstant(0.8f);
    adapter.v(m).setConstant(1.2f);
  }
  return adapter;
}

void expect_one_model(const Model& model, const tiedlora::Scheme& scheme) {
  const Adapter<float> adapter = adapter_of_all_modules(model, scheme);
  for (const Index length : {1, 2, 7}) {
    const auto tokens = llama::random_tokens(length, model.config.vocabulary, 3);
    const ModelLogits bare = by_transformer(model, nullptr, tokens);
    for (const bool is_adapted : {false, true}) {
      const Adapter<float>* use = is_adapted ? &adapter : nullptr;
      const ModelLogits expected = by_transformer(model, use, tokens);
      const ModelLogits together = by_engine(model, use, tokens, tokens.size(), 1);
      const double tolerance = tolerance_of(model, use, tokens);
      EXPECT_LE(apart(together, expected), tolerance) << length << (use ? " with an adapter" : "");
      if (use) {
        EXPECT_GT(apart(expected, bare), 2 * tolerance) << "the test must be able to tell";
      }
      EXPECT_EQ(by_engine(model, use, tokens, 1, 1), together) << length;
      EXPECT_EQ(by_engine(model, use, tokens, 3, 2), together) << length;
    }
  }
}

void expect_file(const std::string& name) {
  SCOPED_TRACE(name);
  const llama::BaseModel base(TIEDLORA_GOLDEN_DIR "/base_model/" + name);
  for (const auto& scheme : {tiedlora::schemes::lora(), tiedlora::schemes::tied_lora()})
    expect_one_model(base.model(), scheme);
}
TEST(EngineModels, LlamaWithTheScalingOfLlama3) { expect_file("llama3"), expect_file("llama3.gguf"); }
TEST(EngineModels, LlamaWithLinearScalingAndHeadsOfTheirOwnWidth) {
  expect_file("linear"), expect_file("linear.gguf");
}
TEST(EngineModels, Mistral) { expect_file("mistral"); }
TEST(EngineModels, Qwen2HasBiases) { expect_file("qwen2"), expect_file("qwen2.gguf"); }
TEST(EngineModels, Qwen3HasNormsOfHeads) { expect_file("qwen3"), expect_file("qwen3.gguf"); }

// Each of them does something that is more than rounding.
TEST(EngineModels, NothingIsForgotten) {
  const auto tokens = llama::random_tokens(7, 40, 3);
  const auto expect_change = [&](const Model& model, const Model& without) {
    EXPECT_GT(apart(by_engine(without, nullptr, tokens, 7, 1), by_transformer(model, nullptr, tokens)),
              3 * tolerance_of(model, nullptr, tokens));
  };
  const llama::BaseModel qwen2(TIEDLORA_GOLDEN_DIR "/base_model/qwen2.gguf");
  for (std::size_t i = 0; i < 3; ++i) {
    SCOPED_TRACE(i);
    Model without = qwen2.model();
    without.layers[0].qkv_bias[i] = nullptr;
    expect_change(qwen2.model(), without);
  }
  const llama::BaseModel qwen3(TIEDLORA_GOLDEN_DIR "/base_model/qwen3.gguf");
  Model without = qwen3.model();
  without.layers[0].q_norm = nullptr;
  expect_change(qwen3.model(), without);
  without = qwen3.model();
  without.layers[0].k_norm = nullptr;
  expect_change(qwen3.model(), without);
  const llama::BaseModel llama3(TIEDLORA_GOLDEN_DIR "/base_model/llama3.gguf");
  without = llama3.model();
  without.config.rope_divisors.clear();
  expect_change(llama3.model(), without);
}

/// A model of random weights of one type; K-quants have blocks of 256. Rows of q and k stand as in a GGUF
/// file of a Llama.
class OfType {
 public:
  explicit OfType(NumberType type) : type_(type), dice_(7) {
    model_.config = {.vocabulary = 37,
                     .width = 256,
                     .layers = 1,
                     .heads = 4,
                     .kv_heads = 2,
                     .own_head_width = 12,
                     .feed_forward = 256,
                     .tied_embedding = false};
    const llama::Config& c = model_.config;
    model_.embedding = matrix(c.vocabulary, c.width);
    model_.output = matrix(c.vocabulary, c.width);
    norm_.resize(256);
    dice_.fill(norm_, 0.5, 1.5);
    model_.final_norm = norm_.data();
    // The heads' total width is not a whole number of blocks.
    of_o_.resize(48 * 256);
    dice_.fill(of_o_, -0.2, 0.2);
    for (Index l = 0; l < c.layers; ++l) {
      llama::ModelLayer<float> layer;
      layer.attention_norm = layer.mlp_norm = norm_.data();
      layer.qkv = {matrix(48, c.width, 12), matrix(24, c.width, 12), matrix(24, c.width)};
      layer.o = Weight::plain(of_o_.data(), c.width, 48);
      layer.gate_up = {matrix(c.feed_forward, c.width), matrix(c.feed_forward, c.width)};
      layer.down = matrix(c.width, c.feed_forward);
      model_.layers.push_back(layer);
    }
  }
  const Model& model() const { return model_; }

 private:
  /// Random bytes, except that the scales give weights of about 0.1.
  Weight matrix(Index out, Index in, Index neighbours = 0) {
    std::vector<std::byte>& bytes =
        memory_.emplace_back(static_cast<std::size_t>(out * llama::bytes_of(type_, in)));
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(dice_.bits() >> 56);
    const Index block = llama::info(type_).bytes;
    for (std::size_t at = 0; at < bytes.size(); at += static_cast<std::size_t>(block)) scale(&bytes[at]);
    return {.out = out, .in = in, .rows = bytes.data(), .type = type_, .neighbours = neighbours};
  }
  void scale(std::byte* block) {
    using enum NumberType;
    const auto put = [&](Index at, double least, double most) {
      const llama::Half half = to_half(static_cast<float>(dice_.uniform(least, most)));
      std::memcpy(block + at, &half, sizeof half);
    };
    const auto number = static_cast<float>(dice_.uniform(-0.1, 0.1));
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(number);
    switch (type_) {
      case F32:
        std::memcpy(block, &number, 4);
        return;
      case F16:
        return put(0, -0.1, 0.1);
      case BF16:
        block[0] = static_cast<std::byte>(bits >> 16), block[1] = static_cast<std::byte>(bits >> 24);
        return;
      case Q8_0:
        return put(0, 0.0005, 0.001);
      case Q4_0:
        return put(0, 0.01, 0.02);
      case Q4_1:
        return put(0, 0.01, 0.02), put(2, -0.15, -0.05);
      case Q5_0:
        return put(0, 0.005, 0.01);
      case Q5_1:
        return put(0, 0.005, 0.01), put(2, -0.15, -0.05);
      case Q4_K:  // scales and offsets of up to 63 times these
        return put(0, 0.0002, 0.0004), put(2, 0.001, 0.002);
      case Q5_K:
        return put(0, 0.0001, 0.0002), put(2, 0.001, 0.002);
      case Q6_K:  // scales of up to 127
        return put(208, 0.00005, 0.0001);
    }
  }

  NumberType type_;
  Dice dice_;
  Model model_;
  std::deque<std::vector<std::byte>> memory_;
  std::vector<float> norm_, of_o_;
};

TEST(EngineModels, EveryTypeOfNumber) {
  for (const llama::NumberTypeInfo& info : llama::number_types) {
    SCOPED_TRACE(info.name);
    expect_one_model(OfType(info.type).model(), tiedlora::schemes::tied_lora());
  }
}

}  // namespace
}  // namespace engine
