// Files of format version 1, made from its description alone (tests/golden/native_golden.py): they must be
// readable for ever, without a checksum as the first version wrote them too, and this version writes the same
// bytes.
#include <gtest/gtest.h>

#include <tiedlora/io/native.hpp>

#include "support/io_files.hpp"
#include "support/native.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

std::filesystem::path golden(const std::string& name) {
  return std::filesystem::path(TIEDLORA_GOLDEN_DIR) / "native" / (name + ".safetensors");
}

template <class P>
P number(std::size_t i) {
  return static_cast<P>(static_cast<float>(i + 1) / 8 * (i % 2 ? -1 : 1));
}

template <class P>
void expect_numbers(std::span<const P> numbers, Index count) {
  ASSERT_EQ(static_cast<Index>(numbers.size()), count);
  for (std::size_t i = 0; i < numbers.size(); ++i) ASSERT_EQ(numbers[i], number<P>(i)) << "number " << i;
}

/// Two layers of q 4 → 6 and v 4 → 2, which read one x.
ModuleList q_and_v() {
  ModuleList modules;
  for (int layer = 0; layer < 2; ++layer)
    for (const auto& [kind, out] : {std::pair("q", 6), std::pair("v", 2)})
      modules.add({.name = "layers." + std::to_string(layer) + "." + kind,
                   .layer = layer,
                   .input = "x",
                   .in_features = 4,
                   .out_features = out});
  return modules;
}

template <class P>
void expect_saved_alike(const std::string& name) {
  const Folder folder;
  const auto with_checksum = golden(name + "_checksum");
  for (const auto& path : {golden(name), with_checksum}) {
    save_adapter(folder / "x", load_adapter<P>(path), {.base_model = open_native(path).metadata.base_model});
    EXPECT_TRUE(read_text(folder / "x") == read_text(with_checksum)) << read_text(folder / "x");
  }
}

TEST(NativeGolden, TiedLora) {
  const auto adapter = load_adapter<float>(golden("tied_lora"));
  EXPECT_TRUE(adapter.layout() == Layout(q_and_v(), schemes::tied_lora(), 2, {.scaling = 0.5}));
  EXPECT_EQ(adapter.seed(), ~std::uint64_t{0});
  expect_numbers<float>(adapter.trainable(), 44);
  EXPECT_EQ(open_native(golden("tied_lora")).metadata.base_model, "some/mödel");
  expect_saved_alike<float>("tied_lora");
}

TEST(NativeGolden, RanksAndScalingsOfSingleModules) {
  const auto adapter = load_adapter<Eigen::half>(golden("lora_patterns"));
  ModuleList modules = q_and_v();
  modules.add({.name = "lm_head", .in_features = 4, .out_features = 3});
  EXPECT_TRUE(adapter.layout() == Layout(modules, schemes::lora(), 2,
                                         {.scaling = 2,
                                          .ranks = {{"layers.0.v", 1}, {"layers.1.q", 0}},
                                          .scalings = {{"layers.0.v", 0.1}}}));
  expect_numbers<Eigen::half>(adapter.trainable(), 52);
  expect_saved_alike<Eigen::half>("lora_patterns");
}

TEST(NativeGolden, VeraWithSeededFactors) {
  const auto adapter = load_adapter<Eigen::bfloat16>(golden("vera_seeded"));
  Adapter<Eigen::bfloat16> expected(Layout(q_and_v(), schemes::vera(7), 3));
  expected.initialize(1);
  EXPECT_TRUE(adapter.layout() == expected.layout());
  EXPECT_TRUE(same_bits<Eigen::bfloat16>(adapter.frozen(), expected.frozen()));
  expect_numbers<Eigen::bfloat16>(adapter.trainable(), 28);
  expect_saved_alike<Eigen::bfloat16>("vera_seeded");
}

TEST(NativeGolden, Checkpoint) {
  const auto checkpoint = load_checkpoint<double>(golden("checkpoint"));
  Scheme scheme = schemes::lora_fa();
  scheme.A.tying = {2, Across::kind};
  EXPECT_TRUE(checkpoint.adapter.layout() == Layout(q_and_v(), scheme, 2));
  expect_numbers<double>(checkpoint.adapter.trainable(), 32);
  expect_numbers<double>(checkpoint.adapter.frozen(), 16);
  expect_numbers<double>(checkpoint.optimizer.first_moment(), 32);
  expect_numbers<double>(checkpoint.optimizer.second_moment(), 32);
  EXPECT_EQ(checkpoint.optimizer.step_count(), 11);
  EXPECT_EQ(checkpoint.optimizer.rates().learning_rate, 0.003);
  EXPECT_EQ(checkpoint.optimizer.rates().factors.u, 32);
  EXPECT_EQ(checkpoint.optimizer.options().weight_decay, 0.01);
  EXPECT_EQ(checkpoint.optimizer.options().decays.u, 0);
  EXPECT_EQ(checkpoint.position.step, 12);
  EXPECT_EQ(checkpoint.position.data, "epoch 3, \"line\" 4\n");

  const Folder folder;
  save_checkpoint(folder / "x", checkpoint.adapter, checkpoint.optimizer, checkpoint.position);
  EXPECT_TRUE(read_text(folder / "x") == read_text(golden("checkpoint_checksum"))) << read_text(folder / "x");
  EXPECT_TRUE(try_load_checkpoint<double>(golden("checkpoint_checksum")));
}

}  // namespace
}  // namespace tiedlora_test
