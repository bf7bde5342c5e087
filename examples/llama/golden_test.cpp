// The transformer against transformers' LlamaForCausalLM and PEFT: logits, loss and every gradient.
#include <gtest/gtest.h>

#include <limits>  // numeric_limits

#include "support/golden.hpp"
#include "transformer.hpp"

namespace llama {
namespace {

using tiedlora::FactorId;
using tiedlora_test::Golden;

struct Base {
  Golden golden;
  Config config;
  std::vector<std::int32_t> tokens, targets;
  Batch batch() const { return {tokens.data(), targets.data(), 2, 7}; }

  explicit Base(const std::string& file) : golden(Golden::load(file)) {
    const auto size = [&](const char* key) {
      return static_cast<Index>(golden.number(std::string("config.") + key));
    };
    config = {.vocabulary = size("vocab_size"),
              .width = size("hidden_size"),
              .layers = size("num_hidden_layers"),
              .heads = size("num_attention_heads"),
              .kv_heads = size("num_key_value_heads"),
              .feed_forward = size("intermediate_size"),
              .rope_base = golden.number("config.rope_theta"),
              .norm_epsilon = golden.number("config.rms_norm_eps"),
              .tied_embedding = golden.number("config.tie_word_embeddings") != 0};
    tokens = golden.tensor("tokens").as<std::int32_t>();
    targets = golden.tensor("targets").as<std::int32_t>();
  }

  template <class T>
  Weights<T> weights() const {
    Weights<T> weights(config);
    for (const WeightEntry& entry : weights.entries()) {
      const std::vector<T> values = golden.tensor(entry.name).as<T>();
      EXPECT_EQ(static_cast<Index>(values.size()), entry.count()) << entry.name;
      std::copy(values.begin(), values.end(), weights.values(entry.name).begin());
    }
    return weights;
  }
};

// Differences may be, relative to the largest value of the tensor,
//   40 ε of float32: what the golden values themselves are off by (tests/golden/README.md); and in float
//   also n ε: the roundings of ours along the longest chain of sums, n = Σ of their lengths: per layer qkv W,
//   scores D, average T, o W, gate W, down F, and the logits' W; gradients run through it twice.
template <class T>
double tolerance(const Config& c, Index length, int passes) {
  const double golden = 40 * static_cast<double>(std::numeric_limits<float>::epsilon());
  const Index sums = c.layers * (3 * c.width + c.head_width() + length + c.feed_forward) + c.width;
  return golden + passes * static_cast<double>(sums) * static_cast<double>(std::numeric_limits<T>::epsilon());
}

template <class Values>
void expect_close(const std::string& name, const Values& ours, const std::vector<double>& golden,
                  double tolerance) {
  ASSERT_EQ(static_cast<std::size_t>(ours.size()), golden.size()) << name;
  double largest = 0, error = 0;
  std::size_t i = 0;
  for (const auto value : ours) {
    error = std::max(error, std::abs(static_cast<double>(value) - golden[i]));
    largest = std::max(largest, std::abs(golden[i++]));
  }
  EXPECT_LE(error, tolerance * largest) << name << ": error " << error << ", largest value " << largest;
}

template <class T>
void expect_logits_and_loss(const Golden& golden, Transformer<T>& model, const Weights<T>& weights,
                            const tiedlora::Adapter<T>* adapter, const Batch& batch) {
  const double forward = tolerance<T>(model.config(), batch.length, 1);
  std::vector<T> logits(static_cast<std::size_t>(model.config().vocabulary * batch.sequences * batch.length));
  model.logits(weights, adapter, batch.tokens, batch.sequences, batch.length, logits.data());
  expect_close("logits", logits, golden.tensor("logits").values, forward);
  // Rounding moves a logit by up to `forward` times the largest, and the loss by up to twice that.
  double largest = 1;
  for (const double logit : golden.tensor("logits").values) largest = std::max(largest, std::abs(logit));
  const double loss = golden.tensor("loss").values[0];
  EXPECT_NEAR(model.forward(weights, adapter, batch), loss, 2 * forward * largest);
  EXPECT_NEAR(model.evaluate(weights, adapter, batch), loss, 2 * forward * largest);
}

template <class T>
void check_base(const std::string& file) {
  const Base base(file);
  ThreadPool pool(2);
  Transformer<T> model(base.config, pool);
  const Weights<T> weights = base.weights<T>();
  Weights<T> gradients(base.config);
  expect_logits_and_loss<T>(base.golden, model, weights, nullptr, base.batch());
  model.backward(weights, nullptr, base.batch(), &gradients, nullptr);
  for (const WeightEntry& entry : weights.entries())
    expect_close("gradient of " + entry.name, gradients.values(entry.name),
                 base.golden.tensor("grad." + entry.name).values, tolerance<T>(base.config, 7, 2));
}

TEST(Golden, LlamaWithTiedEmbedding) {
  check_base<float>("llama_tied.golden");
  check_base<double>("llama_tied.golden");
}
TEST(Golden, LlamaWithSeparateOutputEmbedding) {
  check_base<float>("llama_untied.golden");
  check_base<double>("llama_untied.golden");
}

// A golden name carries the layer and the module only where the factor is not shared over them.
std::string golden_name(const Golden& golden, FactorId id, const tiedlora::Module& module) {
  const bool private_input =
      module.kind == "o_proj" || module.kind == "down_proj" || module.kind == "qkv_proj";
  const std::string layer = "." + std::to_string(module.layer),
                    input = "." + (private_input ? module.kind : module.input);
  for (const std::string& place :
       {layer + "." + module.kind, layer + input, "." + module.kind, input, std::string()})
    if (const std::string name = std::string("adapter.") + to_string(id) + place;
        golden.tensors().count(name))
      return name;
  return "no tensor for this factor";
}

// Calls visit(map, tensor, rows of the tensor) for each factor of module m. A is r×in, B out×r, row-major in
// the file.
template <class Adapter>
void for_each_factor(const Golden& golden, Adapter& adapter, Index m, const std::string& prefix,
                     const auto& visit) {
  const tiedlora::Module& module = adapter.layout().modules()[m];
  const auto with = [&](FactorId id, auto map) {
    if (map.size() == 0) return;
    const auto& tensor = golden.tensor(prefix + golden_name(golden, id, module));
    using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    const Index cols = tensor.dims.size() > 1 ? tensor.dims[1] : 1;
    visit(prefix + golden_name(golden, id, module) + " of " + module.name, map,
          Eigen::Map<const RowMajor>(tensor.values.data(), tensor.dims[0], cols));
  };
  with(FactorId::A, adapter.A(m));
  with(FactorId::B, adapter.B(m));
  with(FactorId::u, adapter.u(m));
  with(FactorId::v, adapter.v(m));
}

template <class T>
void check_adapter(const std::string& file, const tiedlora::Scheme& scheme) {
  const Golden golden = Golden::load(file);
  Base base(golden.meta("base"));
  std::vector<std::string> kinds;
  std::istringstream targets(golden.meta("targets"));
  for (std::string kind; targets >> kind;) kinds.push_back(kind);
  base.config.fused_qkv = kinds.front() == "qkv_proj";

  const tiedlora::Layout layout(modules(base.config, kinds), scheme,
                                static_cast<Index>(golden.number("rank")),
                                {.scaling = golden.number("scaling")});
  tiedlora::Adapter<T> adapter(layout);
  tiedlora::Gradients<T> gradients(layout);
  for (Index m = 0; m < layout.size(); ++m)
    for_each_factor(golden, adapter, m, "", [](const std::string&, auto map, const auto& tensor) {
      map = tensor.topLeftCorner(map.rows(), map.cols()).template cast<T>();
    });

  ThreadPool pool(2);
  Transformer<T> model(base.config, pool);
  const Weights<T> weights = base.weights<T>();
  expect_logits_and_loss<T>(golden, model, weights, &adapter, base.batch());
  model.backward(weights, &adapter, base.batch(), nullptr, &gradients);
  for (Index m = 0; m < layout.size(); ++m)
    for_each_factor(
        golden, gradients, m, "grad.", [&](const std::string& name, auto map, const auto& tensor) {
          ASSERT_EQ(map.rows(), tensor.rows()) << name;
          ASSERT_EQ(map.cols(), tensor.cols()) << name;
          const double error = (map.template cast<double>() - tensor).cwiseAbs().maxCoeff();
          EXPECT_LE(error, tolerance<T>(base.config, 7, 2) * tensor.cwiseAbs().maxCoeff()) << name;
        });
}

TEST(Golden, PeftLora) {
  check_adapter<float>("lora.golden", tiedlora::schemes::lora());
  check_adapter<double>("lora.golden", tiedlora::schemes::lora());
}
TEST(Golden, PeftVera) {
  check_adapter<float>("vera.golden", tiedlora::schemes::vera());
  check_adapter<double>("vera.golden", tiedlora::schemes::vera());
}
TEST(Golden, Tl6) {
  check_adapter<float>("tl6.golden", tiedlora::schemes::tl6());
  check_adapter<double>("tl6.golden", tiedlora::schemes::tl6());
}
TEST(Golden, Tl6OnFusedQkv) {
  check_adapter<float>("tl6_fused.golden", tiedlora::schemes::tl6());
  check_adapter<double>("tl6_fused.golden", tiedlora::schemes::tl6());
}

}  // namespace
}  // namespace llama
