// Base models of every type that is read, from folders and from GGUF files, against transformers and PEFT:
// logits, loss and every gradient of a LoRA.
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "base_model.hpp"
#include "transformer.hpp"

namespace llama {
namespace {

/// What tests/golden/base_model_golden.py has to say of a model.
class Expected {
 public:
  explicit Expected(const std::string& name)
      : file_(tiedlora::safetensors::open(folder() + name + ".safetensors")) {}

  static std::string folder() { return std::string(TIEDLORA_GOLDEN_DIR) + "/base_model/"; }

  /// Row-major.
  template <class T = double>
  std::vector<T> numbers(const std::string& name) const {
    const auto* tensor = file_.find(name);
    if (!tensor) throw std::runtime_error("no tensor " + name);
    std::vector<double> values(static_cast<std::size_t>(tensor->count()));
    if (const auto done = tiedlora::safetensors::try_read<double>(*tensor, values); !done)
      throw std::runtime_error(done.error());
    return {values.begin(), values.end()};
  }

 private:
  tiedlora::safetensors::File file_;
};

// How far floats may be from the exact value, relative to the largest of their tensor.
//
// Rounding: n operations follow each other, the sums of a layer's products, W for q, D for scores, T for the
// average, HD for o, W for gate, F for down, and of the logits W; gradients run through it twice. Roundings
// are independent: they add up as a random walk, √n ε, of which 4 covers the spread over many values.
//
// Angles: transformers computes them in floats, whatever the model. Position p times a frequency is off by up
// to 2 · ε/2 · p, its sine and cosine by another ε/2. So is what turns by them, in each layer.
double tolerance(const Config& c, Index length, int passes) {
  constexpr double epsilon = std::numeric_limits<float>::epsilon();
  const Index sums =
      c.layers * (2 * c.width + c.q_width() + c.head_width() + length + c.feed_forward) + c.width;
  const double angles = static_cast<double>(c.layers) * (static_cast<double>(length - 1) + 0.5) * epsilon;
  return 4 * std::sqrt(static_cast<double>(passes * sums)) * epsilon + passes * angles;
}

void expect_close(const std::string& name, const std::vector<float>& ours,
                  const std::vector<double>& expected, double tolerance) {
  ASSERT_EQ(ours.size(), expected.size()) << name;
  double largest = 0, error = 0;
  for (std::size_t i = 0; i < ours.size(); ++i) {
    error = std::max(error, std::abs(static_cast<double>(ours[i]) - expected[i]));
    largest = std::max(largest, std::abs(expected[i]));
  }
  EXPECT_LE(error, tolerance * largest) << name << ": error " << error / largest << " of the largest value";
}

template <class Map>
std::vector<float> row_major(const Map& map) {
  using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  std::vector<float> values(static_cast<std::size_t>(map.size()));
  Eigen::Map<RowMajor>(values.data(), map.rows(), map.cols()) = map;
  return values;
}

void expect_as_transformers(const std::string& name, const std::string& file,
                            const std::string& architecture) {
  SCOPED_TRACE(file);
  const Expected expected(name);
  const BaseModel base(Expected::folder() + file);
  EXPECT_EQ(base.architecture(), architecture);
  const Config& config = base.model().config;
  const std::vector<std::string> kinds = {"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                          "gate_proj", "up_proj", "down_proj"};
  const tiedlora::Layout layout(modules(config, kinds), tiedlora::schemes::lora(), 2, {.scaling = 2});
  tiedlora::Adapter<float> adapter(layout);
  tiedlora::Gradients<float> gradients(layout);
  using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  for (Index m = 0; m < layout.size(); ++m) {
    const tiedlora::Module& module = layout.modules()[m];
    const auto A = expected.numbers<float>("A." + module.name),
               B = expected.numbers<float>("B." + module.name);
    adapter.A(m) = Eigen::Map<const RowMajor>(A.data(), 2, module.in_features);
    adapter.B(m) = Eigen::Map<const RowMajor>(B.data(), module.out_features, 2);
  }

  const auto tokens = expected.numbers<std::int32_t>("tokens"),
             targets = expected.numbers<std::int32_t>("targets");
  const Index length = static_cast<Index>(tokens.size()) / 2;
  ThreadPool pool(2);
  Transformer<float> transformer(config, pool);
  std::vector<float> logits(static_cast<std::size_t>(config.vocabulary) * tokens.size());
  transformer.logits(base.model(), &adapter, tokens.data(), 2, length, logits.data());
  expect_close("logits", logits, expected.numbers("logits"), tolerance(config, length, 1));

  const Batch batch = {tokens.data(), targets.data(), 2, length};
  const double loss = expected.numbers("loss")[0];
  // A mean over tokens of differences of logits, whose errors it does not add up: as precise as they are.
  EXPECT_NEAR(transformer.forward(base.model(), &adapter, batch), loss, tolerance(config, length, 1) * loss);
  transformer.backward(base.model(), &adapter, batch, nullptr, &gradients);
  for (Index m = 0; m < layout.size(); ++m) {
    const std::string& module = layout.modules()[m].name;
    expect_close("grad.A." + module, row_major(gradients.A(m)), expected.numbers("grad.A." + module),
                 tolerance(config, length, 2));
    expect_close("grad.B." + module, row_major(gradients.B(m)), expected.numbers("grad.B." + module),
                 tolerance(config, length, 2));
  }
}

TEST(BaseModelGolden, LlamaWithTheScalingOfLlama3) {
  expect_as_transformers("llama3", "llama3", "llama");
  expect_as_transformers("llama3", "llama3.gguf", "llama");
}
TEST(BaseModelGolden, LlamaWithLinearScalingAndHeadsOfTheirOwnWidth) {
  expect_as_transformers("linear", "linear", "llama");
  expect_as_transformers("linear", "linear.gguf", "llama");
}
TEST(BaseModelGolden, MistralInShards) { expect_as_transformers("mistral", "mistral", "llama"); }
TEST(BaseModelGolden, Qwen2) {
  expect_as_transformers("qwen2", "qwen2", "qwen2");
  expect_as_transformers("qwen2", "qwen2.gguf", "qwen2");
}
TEST(BaseModelGolden, Qwen3) {
  expect_as_transformers("qwen3", "qwen3/config.json", "qwen3");
  expect_as_transformers("qwen3", "qwen3.gguf", "qwen3");
}

TEST(BaseModelGolden, AFolderAndItsGgufFileAreOneConfig) {
  for (const char* name : {"linear", "qwen2", "qwen3"}) {
    const BaseModel folder(Expected::folder() + name), file(Expected::folder() + name + ".gguf");
    Config sizes = file.model().config;
    EXPECT_FLOAT_EQ(static_cast<float>(sizes.norm_epsilon),
                    static_cast<float>(folder.model().config.norm_epsilon));
    sizes.norm_epsilon = folder.model().config.norm_epsilon;
    EXPECT_EQ(sizes, folder.model().config) << name;
    EXPECT_EQ(folder.context(), file.context()) << name;
    EXPECT_EQ(folder.name(), name);
    EXPECT_EQ(file.name(), name);
  }
}

}  // namespace
}  // namespace llama
