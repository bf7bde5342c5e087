// The forward pass of a small random model: however its tokens are cut, shared out and mixed, it is the same.
#include "engine.hpp"

#include <gtest/gtest.h>

#include <optional>
#include <tiedlora/adapter/merge.hpp>
#include <tiedlora/io.hpp>

#include <llama/base_adapter.hpp>
#include <llama/base_model.hpp>
#include <llama/rope_scaling.hpp>
#include <llama/tiny_model.hpp>
#include <llama/transformer.hpp>
#include "support/io_files.hpp"

namespace engine {
namespace {

using llama::BaseModel;
using llama::Order;
using llama_test::TinyModel;
using tiedlora::Adapter;
using tiedlora::AdapterId;
using tiedlora::AdapterSet;
using tiedlora::BatchPlan;
using tiedlora::no_adapter;
using tiedlora::TokenAdapter;
using tiedlora_test::Dice;
using Logits = std::vector<float>;

constexpr Index context = 64;
const std::vector<std::int32_t> prompt_tokens = {1, 70, 12, 200, 3, 3, 91, 258, 17, 44, 260, 5, 130};

/// Random in every factor.
Adapter<float> random_adapter(const tiedlora::ModuleList& modules, const tiedlora::Scheme& scheme, Index rank,
                              std::uint64_t seed) {
  Adapter<float> adapter(tiedlora::Layout(modules, scheme, rank));
  adapter.initialize(seed);
  Dice dice(seed);
  dice.fill(adapter.trainable(), -0.8, 0.8);
  return adapter;
}

class EngineTest : public ::testing::Test {
 protected:
  void open(const TinyModel& tiny) {
    tiny.write(folder / "model.gguf");
    file.emplace(folder / "model.gguf");
    model = file->model();
  }

  /// The logits at every place of the tokens, `step` tokens at a time.
  Logits run(std::size_t step, int threads, AdapterSet<float>* adapters = nullptr,
             AdapterId id = no_adapter) const {
    Engine engine(model, threads, context, 16);
    KvCache cache(model.config, context);
    Logits all;
    for (std::size_t begin = 0; begin < prompt_tokens.size(); begin += step) {
      std::vector<Row> rows;
      for (std::size_t i = begin; i < std::min(begin + step, prompt_tokens.size()); ++i)
        rows.push_back({prompt_tokens[i], static_cast<Index>(i), &cache, true});
      const std::vector<TokenAdapter> uses(rows.size(), {.adapter = id});
      const auto logits =
          engine.forward(rows, adapters ? BatchPlan<float>(adapters->snapshot(), uses) : BatchPlan<float>());
      all.insert(all.end(), logits.begin(), logits.end());
    }
    return all;
  }

  tiedlora_test::Folder folder;
  std::optional<BaseModel> file;
  Model model;  ///< what it holds
};

double distance(const Logits& a, const Logits& b) {
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    largest = std::max(largest, static_cast<double>(std::abs(a[i] - b[i])));
  return a.size() == b.size() ? largest : INFINITY;
}

TEST_F(EngineTest, AnyCutOfThePromptAndAnyThreadsGiveTheSameBits) {
  for (const auto numbers : {TinyModel::Numbers::floats, TinyModel::Numbers::blocks}) {
    open(TinyModel(numbers));
    AdapterSet<float> adapters(llama::all_modules(model.config));
    const AdapterId id =
        adapters.add(random_adapter(adapters.modules(), tiedlora::schemes::tied_lora(), 4, 3));
    for (const AdapterId use : {no_adapter, id}) {
      const Logits one_by_one = run(1, 1, &adapters, use);
      ASSERT_EQ(one_by_one.size(), prompt_tokens.size() * static_cast<std::size_t>(model.config.vocabulary));
      for (const std::size_t step : {2u, 5u, 13u})
        EXPECT_EQ(run(step, 1, &adapters, use), one_by_one) << step;
      for (const int threads : {2, 3, 5}) {
        EXPECT_EQ(run(13, threads, &adapters, use), one_by_one) << threads;
        EXPECT_EQ(run(1, threads, &adapters, use), one_by_one) << threads;
      }
    }
    EXPECT_GT(distance(run(13, 1), run(13, 1, &adapters, id)), 0.1);
  }
}

TEST_F(EngineTest, AMixedBatchIsItsTextsOneByOne) {
  open(TinyModel(TinyModel::Numbers::blocks));
  AdapterSet<float> adapters(llama::all_modules(model.config));
  const auto add = [&adapters](const tiedlora::Scheme& scheme, Index rank, std::uint64_t seed) {
    return adapters.add(random_adapter(adapters.modules(), scheme, rank, seed));
  };
  const AdapterId tied = add(tiedlora::schemes::tied_lora(), 4, 3),
                  plain = add(tiedlora::schemes::lora(), 2, 4), vera = add(tiedlora::schemes::vera(5), 8, 5);
  const std::vector<AdapterId> ids = {tied, plain, no_adapter, vera, tied};
  std::vector<Logits> alone;
  for (const AdapterId id : ids) alone.push_back(run(1, 1, &adapters, id));

  for (const int threads : {1, 2}) {
    Engine engine(model, threads, context, 16);
    std::vector<KvCache> caches(ids.size(), KvCache(model.config, context));
    std::vector<Logits> mixed(ids.size());
    // Texts at different places: text i lags by i tokens; the first batch has three tokens of each.
    std::vector<std::size_t> done(ids.size());
    for (std::size_t round = 0; done.back() < prompt_tokens.size(); ++round) {
      std::vector<Row> rows;
      std::vector<TokenAdapter> uses;
      std::vector<std::size_t> texts;
      for (std::size_t i = 0; i < ids.size(); ++i)
        for (std::size_t n = 0; n < (round == 0 ? 3 : round % (i + 1) == 0) && done[i] < prompt_tokens.size();
             ++n) {
          rows.push_back({prompt_tokens[done[i]], static_cast<Index>(done[i]), &caches[i], true});
          uses.push_back({.adapter = ids[i]});
          texts.push_back(i);
          ++done[i];
        }
      const auto logits = engine.forward(rows, BatchPlan<float>(adapters.snapshot(), uses));
      const auto vocabulary = static_cast<std::size_t>(model.config.vocabulary);
      for (std::size_t n = 0; n < texts.size(); ++n)
        mixed[texts[n]].insert(mixed[texts[n]].end(), logits.begin() + static_cast<Index>(n * vocabulary),
                               logits.begin() + static_cast<Index>((n + 1) * vocabulary));
    }
    for (std::size_t i = 0; i < ids.size(); ++i)
      EXPECT_EQ(mixed[i], Logits(alone[i].begin(), alone[i].begin() + static_cast<Index>(mixed[i].size())))
          << i;
  }
}

TEST_F(EngineTest, AnAdapterIsTheMergedModel) {
  const TinyModel tiny(TinyModel::Numbers::floats);
  open(tiny);
  AdapterSet<float> adapters(llama::all_modules(model.config));
  const auto adapter = random_adapter(adapters.modules(), tiedlora::schemes::tied_lora(), 4, 3);
  const Logits adapted = run(13, 2, &adapters, adapters.add(Adapter<float>(adapter)));
  const Logits bare = run(13, 1);

  TinyModel merged = tiny;
  const auto merge = [&](Index module, const std::string& name, const Weight& weight) {
    using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    RowMajor w(weight.out, weight.in);
    for (Index row = 0; row < weight.out; ++row) weight.copy(row, 0, weight.in, &w(row, 0));
    tiedlora::merge(adapter.factors(module), w);
    Eigen::Map<RowMajor> in_file(merged.floats[name].data(), weight.out, weight.in);
    for (Index row = 0; row < weight.out; ++row) in_file.row(weight.place_of(row)) = w.row(row);
  };
  for (Index l = 0; l < model.config.layers; ++l) {
    const auto& layer = model.layers[static_cast<std::size_t>(l)];
    const Weight* weights[] = {&layer.qkv[0],     &layer.qkv[1],     &layer.qkv[2], &layer.o,
                               &layer.gate_up[0], &layer.gate_up[1], &layer.down};
    const char* names[] = {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"};
    for (Index m = 0; m < modules_per_layer; ++m)
      merge(modules_per_layer * l + m, "blk." + std::to_string(l) + "." + names[m], *weights[m]);
  }
  open(merged);
  const Logits expected = run(13, 1);

  // Rounding changes a sum of n terms by up to n 2^-24 of them; n is at most 96 features and the rank. What
  // changes of that size do to the logits (through keys that round to another half, too) is tried on the
  // weights. Roundings are more than one for each weight: hence four times that.
  double tolerance = 0;
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    TinyModel other = merged;
    Dice dice(seed);
    for (auto& [name, numbers] : other.floats)
      for (float& number : numbers) number *= 1 + static_cast<float>(100 * 0x1p-24 * dice.uniform());
    open(other);
    tolerance = std::max(tolerance, 4 * distance(run(13, 1), expected));
  }
  EXPECT_LT(distance(adapted, expected), tolerance);
  EXPECT_GT(distance(adapted, bare), 30 * tolerance) << "the test must be able to tell";
}

// Beside the transformer that is compared with transformers.
TEST_F(EngineTest, ScaledRotaryEmbeddingsTurnByDividedAngles) {
  open(TinyModel(TinyModel::Numbers::floats));
  const auto reference = [this] {
    llama::ThreadPool pool(1);
    Logits logits(prompt_tokens.size() * static_cast<std::size_t>(model.config.vocabulary));
    llama::Transformer<float>(model.config, pool)
        .logits(model, nullptr, prompt_tokens.data(), 1, static_cast<Index>(prompt_tokens.size()),
                logits.data());
    return logits;
  };
  const Logits plain = run(13, 1);
  const double noise = distance(plain, reference());  // of keys and values in halves
  model.config.rope_divisors = llama::linear_rope_divisors(model.config.head_width(), 4);
  const Logits divided = run(13, 1);
  EXPECT_LT(distance(divided, reference()), 4 * noise);
  EXPECT_GT(distance(divided, plain), 30 * noise) << "the test must be able to tell";
}

TEST_F(EngineTest, ChecksItsBatch) {
  open(TinyModel(TinyModel::Numbers::floats));
  Engine engine(model, 1, context, 4);
  KvCache cache(model.config, 2);
  const auto expect_error = [&](const std::vector<Row>& rows, std::string_view part) {
    std::string text;
    try {
      engine.forward(rows, {});
    } catch (const std::invalid_argument& error) {
      text = error.what();
    }
    EXPECT_NE(text.find(part), text.npos) << text;
  };
  expect_error({{-1, 0, &cache}}, "token -1 is outside the model's vocabulary of 267");
  expect_error({{267, 0, &cache}}, "token 267 is outside the model's vocabulary of 267");
  expect_error({{0, 2, &cache}}, "position 2 is beyond the context");
  expect_error(std::vector<Row>(5, {0, 0, &cache}), "a batch of 5 tokens, but there is room for 4");
}

TEST_F(EngineTest, AdaptersInBothOrdersOfRows) {
  open(TinyModel(TinyModel::Numbers::floats));
  for (const auto& scheme :
       {tiedlora::schemes::lora(), tiedlora::schemes::tied_lora(), tiedlora::schemes::vera(5)}) {
    const auto adapter = random_adapter(llama::all_modules(model.config), scheme, 4, 3);
    tiedlora::save_adapter(folder / "a.safetensors", adapter);
    for (const Order order : {Order::gguf, Order::hugging_face}) {
      // The exporter knows the order on its own: both must be one function.
      tiedlora::export_gguf(adapter, folder / "a.gguf",
                            tiedlora::gguf::llama({.heads = 4, .kv_heads = 2, .weights = order}));
      std::vector<std::string> notes;
      const auto native =
          tiedlora::to_lora(llama::load_adapter(folder / "a.safetensors", *file, notes, order));
      const auto gguf = llama::load_adapter(folder / "a.gguf", *file, notes);
      for (Index m = 0; m < native.layout().size(); ++m) {
        const auto& name = native.layout().modules()[m].name;
        const Index other = gguf.layout().modules().find(name);
        const auto difference = (native.B(m) * native.A(m) - gguf.B(other) * gguf.A(other)).eval();
        EXPECT_LT(difference.cwiseAbs().maxCoeff(), 1e-6f) << name;  // products of 4 terms, of values below 1
      }
    }
  }
}

}  // namespace
}  // namespace engine
