// What docs/integration.md shows, called. The blocks of the page are included where they would stand.
#include <ggml.h>
#include <gtest/gtest.h>

#include <barrier>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <thread>
#include <tiedlora/io.hpp>
#include <tiedlora/serving.hpp>
#include <tiedlora/tiedlora.hpp>
#include <unordered_map>
#include <vector>

#include "support/bits.hpp"
#include "support/dice.hpp"
#include "support/io_files.hpp"

using Barrier = std::barrier<>;

// The engine of "The hook: ten lines": y = bias, and no product.
struct Layer {
  tiedlora::Index module;
  std::vector<float> bias;
};
static void multiply(const Layer& layer, const float* /*x*/, float* y, int tokens, int ith, int /*nth*/) {
  const std::size_t width = layer.bias.size();
  if (ith == 0)
    for (std::size_t i = 0; i < static_cast<std::size_t>(tokens) * width; ++i) y[i] = layer.bias[i % width];
}

#include "integration_linear.inc"
#include "integration_llama.inc"
#include "integration_load.inc"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

constexpr Index width = 24, n_q = 24, n_k = 8, n_v = 8;

// A layer's q, k and v, which share A under tied_lora, or its o alone, with random parameters.
ModuleList attention() {
  ModuleList modules;
  for (const auto& [name, out] : {std::pair{"q_proj", n_q}, {"k_proj", n_k}, {"v_proj", n_v}})
    modules.add({.name = std::string("model.layers.0.self_attn.") + name,
                 .layer = 0,
                 .input = "x",
                 .in_features = width,
                 .out_features = out});
  return modules;
}
ModuleList output() {
  ModuleList modules;
  for (int l = 0; l < 2; ++l)
    modules.add({.name = "model.layers." + std::to_string(l) + ".self_attn.o_proj",
                 .layer = l,
                 .in_features = width,
                 .out_features = width});
  return modules;
}
Adapter<float> random_adapter(const ModuleList& modules, std::uint64_t seed, Index rank = 3) {
  Adapter<float> adapter(Layout(modules, schemes::tied_lora(), rank, {.scaling = 0.5}));
  Dice(seed).fill(adapter.trainable());
  return adapter;
}

// body(ith, nth, barrier) in nth threads.
template <class Body>
void in_threads(int nth, const Body& body) {
  Barrier barrier(nth);
  std::vector<std::thread> threads;
  for (int ith = 0; ith < nth; ++ith) threads.emplace_back([&, ith] { body(ith, nth, barrier); });
  for (std::thread& thread : threads) thread.join();
}

// base + ΔW x, by one call.
Matrix<float> adapted(const Adapter<float>& adapter, Index m, const Matrix<float>& x, Matrix<float> base,
                      double scale = 1) {
  forward(adapter.factors(m), x, base, {.scale = scale});
  return base;
}

TEST(Integration, TheTenLinesLoadAndAdapt) {
  const Folder folder;
  const Adapter<float> saved = random_adapter(output(), 1);
  save_adapter(folder / "a.safetensors", saved);
  const Adapter<float> adapter = load((folder / "a.safetensors").string(), 2, width);
  EXPECT_THROW((void)load((folder / "a.safetensors").string(), 2, width + 1), Error);

  const int tokens = 5;
  Dice dice(2);
  const auto x = dice.matrix<float>(width, tokens);
  Layer layer{1, std::vector<float>(width)};
  dice.fill(layer.bias);
  Matrix<float> base(width, tokens);
  multiply(layer, x.data(), base.data(), tokens, 0, 1);
  for (const int nth : {1, 2, 3}) {
    Matrix<float> y(width, tokens), h(3, tokens);
    in_threads(nth, [&](int ith, int n, Barrier& barrier) {
      linear(layer, adapter, x.data(), y.data(), tokens, h.data(), ith, n, barrier);
    });
    EXPECT_TRUE(same_bits(adapted(saved, 1, x, base), y)) << nth << " threads";
  }
}

TEST(Integration, TokensLieWhereThePageSays) {
  using bf16 = Eigen::bfloat16;
  const Index tokens = 4, stride = width + 3, n = 2;
  float y[tokens * stride];
  bf16 slots_memory[2][n_k];
  bf16* const slots[] = {slots_memory[1], slots_memory[0]};
  const Index rows[] = {3, 1};
  const Tokens<float> qkv = {y, width, tokens, stride};
#include "integration_tokens.inc"
  EXPECT_EQ(padded[1], y + stride);
  EXPECT_EQ(q[1], y + stride);
  EXPECT_EQ(q.width, n_q);
  EXPECT_EQ(tail[0], y + 3 * stride);
  EXPECT_EQ(tail.count, 1);
  EXPECT_EQ(routed[0], y + 3 * stride);
  EXPECT_EQ(routed[1], y + stride);
  EXPECT_EQ(cache[0], slots_memory[1]);
}

TEST(Integration, CallsAreCheckedAtLoad) {
  const Adapter<float> adapter = random_adapter(output(), 17);
  Gradients<float> gradients(adapter.layout());
  const Index tokens = 5;
  Dice dice(18);
  auto xm = dice.matrix<float>(width, tokens), dym = dice.matrix<float>(width, tokens);
  Matrix<float> ym = dym, hm(3, tokens), dxm = xm;
  const auto view = [](Matrix<float>& m) { return Tokens<float>{m.data(), m.rows(), m.cols(), m.rows()}; };
  const Factors<const float> f = adapter.factors(0);
  const Factors<float> gradient = gradients.factors(0);
  const Tokens<const float> x = view(xm), dy = view(dym);
  const Tokens<float> y = view(ym), h = view(hm), dx = view(dxm);
  Barrier barrier(1);
  const int ith = 0, nth = 1;
#include "integration_checks.inc"
  // Once by forward, once by its stages.
  EXPECT_TRUE(same_bits(adapted(adapter, 0, xm, adapted(adapter, 0, xm, dym)), ym));
  EXPECT_THROW(check_forward(cpu, f, x, y.features(0, width - 1), h), Error);
  EXPECT_THROW(check_backward(cpu, f, x, h, dy, gradients.factors(1), dx.tokens(0, 1)), Error);
}

TEST(Integration, TrainingRunsInThePoolOfTheHost) {
  const Adapter<float> adapter = random_adapter(output(), 19);
  Gradients<float> gradients(adapter.layout()), expected(adapter.layout());
  const Index tokens = 70, m = 1;
  Dice dice(20);
  const auto x = dice.matrix<float>(width, tokens), dy = dice.matrix<float>(width, tokens);
  Matrix<float> y = dy, h(3, tokens), dx = Matrix<float>::Zero(width, tokens), expected_dx = dx;
  forward(adapter.factors(m), x, y, h);
  backward(adapter.factors(m), x, h, dy, expected.factors(m), expected_dx);
  const auto parallel_for = [](Index n, const auto& body) {
    std::vector<std::thread> threads;
    for (Index i = 0; i < n; ++i) threads.emplace_back([&body, i] { body(i); });
    for (std::thread& thread : threads) thread.join();
  };
#include "integration_training.inc"
  EXPECT_TRUE(same_bits(expected_dx, dx));
  double norm = 0, difference = 0;
  for (std::size_t i = 0; i < gradients.values().size(); ++i) {
    norm += std::abs(expected.values()[i]);
    difference += std::abs(gradients.values()[i] - expected.values()[i]);
  }
  EXPECT_GT(norm, 0);
  EXPECT_LE(difference, tokens * std::numeric_limits<float>::epsilon() * norm)
      << "sums over tokens in blocks";
}

TEST(Integration, ModulesThatShareXShareH) {
  const Adapter<float> adapter = random_adapter(attention(), 5);
  const Index tokens = 3, q = 0, k = 1, v = 2;
  Dice dice(6);
  const auto x = dice.matrix<float>(width, tokens), base = dice.matrix<float>(n_q + n_k + n_v, tokens);
  Matrix<float> fused = base, hidden(3, tokens);
  const Tokens<float> y = {fused.data(), n_q + n_k + n_v, tokens, n_q + n_k + n_v};
  const Tokens<float> h = {hidden.data(), 3, tokens, 3};
  in_threads(2, [&](int ith, int nth, Barrier& barrier) {
#include "integration_qkv.inc"
  });
  EXPECT_TRUE(same_bits<Matrix<float>>(adapted(adapter, q, x, base.topRows(n_q)), fused.topRows(n_q)));
  EXPECT_TRUE(same_bits<Matrix<float>>(adapted(adapter, k, x, base.middleRows(n_q, n_k)),
                                       fused.middleRows(n_q, n_k)));
  EXPECT_TRUE(same_bits<Matrix<float>>(adapted(adapter, v, x, base.bottomRows(n_v)), fused.bottomRows(n_v)));
#include "integration_fused.inc"
  // A number of y is at most 1 + 0.5 · 3 · 24, and each side rounds it at most 24 + 3 + 16 times by ε / 2.
  EXPECT_LE((adapted(fused_adapter, 0, x, base) - fused).cwiseAbs().maxCoeff(),
            43 * std::numeric_limits<float>::epsilon() * 37);
}

TEST(Integration, TheGuardMergesAndRestores) {
  const Adapter<float> adapter = random_adapter(output(), 7);
  const auto f = adapter.factors(0);
  const Index in = width, out = width;
  const auto before = Dice(8).matrix<float>(in, out);
  Matrix<float> memory = before, merged_memory;
  float* const w = memory.data();
  const auto serve = [&](const float*) { merged_memory = memory; };
#include "integration_merged.inc"
  EXPECT_TRUE(same_bits(before, memory));
  EXPECT_FALSE(same_bits(before, merged_memory));
}

TEST(Integration, ABatchMixesAdapters) {
  const ModuleList modules = output();
  const Adapter<float> one = random_adapter(modules, 9), two = random_adapter(modules, 10, 2);
  Adapter<float> first = one, second = two;
  const Index tokens = 4, m = 1;
  Dice dice(11);
  const auto x = dice.matrix<float>(width, tokens), base = dice.matrix<float>(width, tokens);
  Matrix<float> y = base, h(3, tokens);
  Barrier barrier(1);
  const int ith = 0, nth = 1;
#include "integration_batch.inc"
  for (Index t = 0; t < tokens; ++t) {
    const Matrix<float> xt = x.col(t), bt = base.col(t);
    const Matrix<float> expected = t == 0   ? adapted(one, m, xt, bt)
                                   : t == 1 ? adapted(one, m, xt, bt, 0.5)
                                   : t == 2 ? bt
                                            : adapted(two, m, xt, bt);
    EXPECT_TRUE(same_bits<Matrix<float>>(expected, y.col(t))) << "token " << t;
  }
}

TEST(Integration, SharesOfATensorParallelModuleMakeTheWhole) {
  const Adapter<float> adapter = random_adapter(output(), 12);
  const Index m = 0, tokens = 2;
  Dice dice(13);
  const auto x = dice.matrix<float>(width, tokens);
  const Matrix<float> zero = Matrix<float>::Zero(width, tokens), whole = adapted(adapter, m, x, zero);
  Matrix<float> by_columns = zero, by_rows = zero;
  for (const Index begin : {0, 10}) {
    const Index n = begin == 0 ? 10 : width - 10;
#include "integration_share.inc"
    forward(columns, x, by_columns.middleRows(begin, n));
    forward(rows, x.middleRows(begin, n), by_rows);
  }
  // Sums of 24 and of 3 products of values up to 1, in another order.
  const float tolerance = 4 * (24 + 3) * 24 * 3 * 0.5f * std::numeric_limits<float>::epsilon();
  EXPECT_LE((whole - by_columns).cwiseAbs().maxCoeff(), tolerance);
  EXPECT_LE((whole - by_rows).cwiseAbs().maxCoeff(), tolerance);
  EXPECT_GT(whole.cwiseAbs().maxCoeff(), 100 * tolerance);
}

TEST(Integration, KeysTellAdaptersApart) {
  std::vector<std::uint64_t> keys;
  for (const std::uint64_t seed : {14u, 15u, 14u})
    for (const float scale : {1.0f, 0.5f}) {
      const Adapter<float> adapter = random_adapter(output(), seed);
#include "integration_key.inc"
      keys.push_back(key);
    }
  EXPECT_EQ(keys[0], keys[4]);
  EXPECT_NE(keys[0], keys[1]);
  EXPECT_NE(keys[0], keys[2]);
}

TEST(Integration, NamesBindTensorsToModules) {
  const Adapter<float> adapter = random_adapter(output(), 16);
  const std::vector<std::string> tensor_names = {"token_embd.weight", "blk.1.attn_output.weight",
                                                 "blk.0.attn_output.weight"};
#include "integration_names.inc"
  EXPECT_EQ(module_of, (std::vector<Index>{-1, 1, 0}));
}

// A tensor of floats in a stand-in for ggml.
ggml_tensor tensor(const char* name, Index features, Index tokens, float* data) {
  ggml_tensor t;
  t.ne[0] = features, t.ne[1] = tokens;
  t.nb[0] = sizeof(float), t.nb[1] = static_cast<std::size_t>(features) * sizeof(float);
  std::string(name).copy(t.name, sizeof t.name - 1);
  t.data = data;
  return t;
}

TEST(Integration, LlamaAdapterAddsNodesToTheLayersOfItsNames) {
  const Folder folder;
  const Adapter<float> saved = random_adapter(attention(), 14);
  save_adapter(folder / "a.safetensors", saved);
  LlamaAdapter adapter((folder / "a.safetensors").string());
  adapter.scale = 0.5f;
  Dice dice(15);
  for (const Index tokens : {1, 9}) {
    ggml_context ctx;
    ggml_tensor* kept = nullptr;
    auto x = dice.matrix<float>(width, tokens), qy = dice.matrix<float>(n_q, tokens),
         ky = dice.matrix<float>(n_k, tokens);
    const Matrix<float> q_base = qy, k_base = ky;
    ggml_tensor q = tensor("blk.0.attn_q.weight", width, n_q, nullptr),
                k = tensor("blk.0.attn_k.weight", width, n_k, nullptr),
                other = tensor("output.weight", width, n_k, nullptr),
                xt = tensor("", width, tokens, x.data()), qt = tensor("", n_q, tokens, qy.data()),
                kt = tensor("", n_k, tokens, ky.data());
    EXPECT_EQ(LlamaAdapter::build(&ctx, &other, &xt, &kt, &kept, &adapter), &kt);
    EXPECT_NE(LlamaAdapter::build(&ctx, &q, &xt, &qt, &kept, &adapter), &qt);
    EXPECT_NE(LlamaAdapter::build(&ctx, &k, &xt, &kt, &kept, &adapter), &kt);
    EXPECT_EQ(ctx.tensors.size(), 3u) << "one h for both";
    for (ggml_tensor& node : ctx.tensors) node.run(3);
    EXPECT_TRUE(same_bits(adapted(saved, 0, x, q_base, 0.5), qy)) << tokens << " tokens";
    EXPECT_TRUE(same_bits(adapted(saved, 1, x, k_base, 0.5), ky)) << tokens << " tokens";

    ggml_tensor wrong = tensor("blk.0.attn_v.weight", width, n_v + 1, nullptr);
    EXPECT_THROW(LlamaAdapter::build(&ctx, &wrong, &xt, &kt, &kept, &adapter), std::runtime_error);
  }
  EXPECT_EQ(adapter.unused(), "blk.0.attn_v.weight ");
}

}  // namespace
}  // namespace tiedlora_test
