#include <gtest/gtest.h>

#include <limits>
#include <tiedlora/io/native.hpp>
#include <tiedlora/ops.hpp>

#include "support/io_files.hpp"
#include "support/native.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

// A student that learns a fixed matrix from random tokens: all that training has which is not a constant is
// the adapter, the optimiser, the step and the dice.
template <class P>
class Training {
 public:
  Training(Adapter<P> adapter, AdamW<P> optimizer, TrainingPosition position)
      : adapter_(std::move(adapter)),
        optimizer_(std::move(optimizer)),
        gradients_(adapter_.layout()),
        step_(position.step),
        tokens_(std::stoull(position.data)) {}

  static Training start(const Scheme& scheme) {
    const Layout layout(one_kind(2, 7, 5), scheme, 3);
    Adapter<P> adapter(layout);
    adapter.initialize(11);
    // Values that are not short decimal fractions.
    AdamW<P> optimizer(layout, {.learning_rate = 1.0 / 300,
                                .rates = PerFactor{.A = 1, .B = 1, .u = 1.0 / 3, .v = 3},
                                .beta1 = 0.9,
                                .beta2 = 1 - 1.0 / 700,
                                .epsilon = 1e-7,
                                .weight_decay = 0.01});
    return {std::move(adapter), std::move(optimizer), {.data = "123456789"}};
  }

  void run(int steps) {
    for (int i = 0; i < steps; ++i, ++step_) {
      Dice dice(tokens_);
      tokens_ = dice.bits();
      gradients_.set_zero();
      for (Index m = 0; m < 2; ++m) {
        const Matrix<P> x = dice.matrix<P>(7, 4), target = x.topRows(5);
        Matrix<P> y = Matrix<P>::Zero(5, 4), h(3, 4);
        forward(adapter_.factors(m), x, y, h);
        const Matrix<P> dy = y - target;
        backward(adapter_.factors(m), x, h, dy, gradients_.factors(m));
      }
      optimizer_.step(adapter_.trainable(), gradients_.values(),
                      {.rate_factor = 1 / (1 + 0.1 * static_cast<double>(step_))});
    }
  }

  void save(const std::filesystem::path& path) const {
    save_checkpoint(path, adapter_, optimizer_, {.step = step_, .data = std::to_string(tokens_)},
                    {.base_model = "toy"});
  }
  static Training resume(const std::filesystem::path& path) {
    Checkpoint<P> checkpoint = load_checkpoint<P>(path);
    EXPECT_EQ(checkpoint.base_model, "toy");
    return {std::move(checkpoint.adapter), std::move(checkpoint.optimizer), checkpoint.position};
  }

  const Adapter<P>& adapter() const { return adapter_; }
  const AdamW<P>& optimizer() const { return optimizer_; }

 private:
  Adapter<P> adapter_;
  AdamW<P> optimizer_;
  Gradients<P> gradients_;
  std::int64_t step_;
  std::uint64_t tokens_;
};

template <class P>
class CheckpointTypes : public testing::Test {};
using TrainedTypes = testing::Types<float, double>;
TYPED_TEST_SUITE(CheckpointTypes, TrainedTypes);

TYPED_TEST(CheckpointTypes, TrainingGoesOnBitByBit) {
  using P = TypeParam;
  const Folder folder;
  for (const Scheme& scheme : {schemes::tied_lora(), schemes::vera(3), schemes::lora_fa()}) {
    auto whole = Training<P>::start(scheme);
    whole.run(9);
    const std::vector<P> at_9(whole.adapter().trainable().begin(), whole.adapter().trainable().end());
    whole.run(8);
    EXPECT_FALSE(same_bits<P>(at_9, whole.adapter().trainable()));

    auto part = Training<P>::start(scheme);
    part.run(4);
    part.save(folder / "x");
    auto resumed = Training<P>::resume(folder / "x");
    resumed.run(5);
    resumed.save(folder / "x");  // over the old one
    auto again = Training<P>::resume(folder / "x");
    again.run(8);
    expect_same_adapter(again.adapter(), whole.adapter());
    EXPECT_TRUE(same_bits<P>(again.optimizer().first_moment(), whole.optimizer().first_moment()));
    EXPECT_TRUE(same_bits<P>(again.optimizer().second_moment(), whole.optimizer().second_moment()));
    EXPECT_EQ(again.optimizer().step_count(), 17);
  }
}

TEST(Checkpoint, IsANativeFile) {
  const Folder folder;
  auto training = Training<float>::start(schemes::tied_lora());
  training.run(3);
  training.save(folder / "x");
  expect_same_adapter(load_adapter<float>(folder / "x"), training.adapter());
  EXPECT_TRUE(
      same_bits<float>(map_adapter<float>(folder / "x").view().trainable(), training.adapter().trainable()));
  const safetensors::File file = safetensors::open(folder / "x");
  for (const char* name : {"trainable", "optimizer.first_moment", "optimizer.second_moment"})
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(file.find(name)->bytes.data()) % 64, 0) << name;
}

TEST(Checkpoint, AnAdapterAloneIsNone) {
  const Folder folder;
  const auto training = Training<float>::start(schemes::tied_lora());
  save_adapter(folder / "x", training.adapter());
  expect_failure(try_load_checkpoint<float>(folder / "x"),
                 {"x\" holds an adapter but no training", "load_adapter"});
}

TEST(Checkpoint, GoesOnInItsOwnTypeOnly) {
  const Folder folder;
  Training<float>::start(schemes::tied_lora()).save(folder / "x");
  expect_failure(try_load_checkpoint<double>(folder / "x"), {"in F32, not F64"});
}

TEST(Checkpoint, AnotherBaseModelAndACutFileAreRefused) {
  const Folder folder;
  Training<float>::start(schemes::tied_lora()).save(folder / "x");
  const ModuleList other = one_kind(2, 7, 6);
  expect_failure(try_load_checkpoint<float>(folder / "x", {.modules = &other}),
                 {"\"layers.0.proj\" of 5x7", "\"layers.0.proj\" of 6x7"});
  const std::string whole = read_text(folder / "x");
  for (std::size_t size = 0; size < whole.size(); size += 7) {
    write_text(folder / "y", whole.substr(0, size));
    EXPECT_FALSE(try_load_checkpoint<float>(folder / "y"));
  }
}

TEST(Checkpoint, DamagedMetadataAndTensorsAreRefused) {
  const Folder folder;
  Training<float>::start(schemes::tied_lora()).save(folder / "x");
  const safetensors::File file = safetensors::open(folder / "x");
  const auto with = [&](const std::string& from, const std::string& to, const std::string& left_out = {}) {
    std::map<std::string, std::string> metadata = file.metadata();
    metadata.erase("tiedlora_checksum");  // or any change is damage
    std::string& text = metadata["tiedlora_checkpoint"];
    const std::size_t at = text.find(from);
    EXPECT_NE(at, text.npos) << from << " is not in " << text;
    if (at != text.npos) text.replace(at, from.size(), to);
    std::vector<safetensors::Entry> entries;
    for (const safetensors::Tensor& tensor : file.tensors())
      if (tensor.name != left_out)
        entries.push_back({tensor.name, tensor.dtype, tensor.shape, tensor.bytes.data(), tensor.dtype_name});
    safetensors::save(folder / "y", entries, metadata);
    return try_load_checkpoint<float>(folder / "y");
  };
  EXPECT_TRUE(with("\"step\":0", "\"step\":7"));
  expect_failure(with("\"step\":0", "\"step\":-7"), {"y\" its metadata", "\"step\""});
  expect_failure(with("\"step\":0", "\"step\":0,\"x\":0"), {"unknown field \"x\""});
  expect_failure(with("\"adamw\"", "\"sgd\""), {"\"sgd\"", "adamw"});
  expect_failure(with("\"beta1\":0.9", "\"beta1\":1.0"), {"betas in [0, 1)"});
  expect_failure(with("\"beta1\":0.9", "\"beta1\":null"), {"\"beta1\"", "not a number"});
  expect_failure(with("\"rates\":{", "\"rates\":{\"C\":1,"), {"optimizer.rates", "\"C\""});
  expect_failure(with("\"step\":0", "\"step\":0", "optimizer.second_moment"),
                 {"\"optimizer.second_moment\" is missing"});
}

TEST(Checkpoint, AnOptimizerOfAnotherLayoutIsNotSaved) {
  const Folder folder;
  const auto training = Training<float>::start(schemes::tied_lora());
  const AdamW<float> other(Layout(one_kind(3, 7, 5), schemes::tied_lora(), 3));
  expect_failure(try_save_checkpoint(folder / "x", training.adapter(), other, {}), {"different layouts"});
  expect_failure(
      try_save_checkpoint(folder / "x", training.adapter(), training.optimizer(), {.data = "\xff"}),
      {"x\": ", "UTF-8"});
  // What could not be loaded again.
  expect_failure(try_save_checkpoint(folder / "x", training.adapter(), training.optimizer(), {.step = -1}),
                 {"step is -1; steps are counted from 0"});
  EXPECT_EQ(folder.entries(), 0);
}

}  // namespace
}  // namespace tiedlora_test
