// A folder for PEFT: tensors made when their turn comes, in any type.
#include <gtest/gtest.h>

#include <tiedlora/io/peft/write.hpp>
#include <vector>

#include "support/io_files.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using safetensors::Dtype;
using tiedlora::detail::PeftEntry;
using tiedlora::detail::try_write_peft_folder;

std::vector<PeftEntry<float>> entries(int& made) {
  const auto fill = [&made](float first, int count) {
    return [&made, first, count](float* to) {
      ++made;
      for (int i = 0; i < count; ++i) to[i] = first + static_cast<float>(i);
    };
  };
  return {{"b", {2, 3}, fill(10, 6)}, {"a", {4}, fill(1, 4)}};
}

TEST(PeftWrite, EveryTypeHoldsTheNumbers) {
  for (const Dtype dtype : {Dtype::F64, Dtype::F32, Dtype::F16, Dtype::BF16}) {
    const Folder folder;
    int made = 0;
    const auto bytes = try_write_peft_folder(folder / "x", Json{{"r", 2}}, entries(made), dtype);
    ASSERT_TRUE(bytes) << bytes.error();
    EXPECT_EQ(made, 2);
    const auto weights = folder / "x" / "adapter_model.safetensors",
               config = folder / "x" / "adapter_config.json";
    EXPECT_EQ(*bytes, std::filesystem::file_size(weights) + std::filesystem::file_size(config));
    const safetensors::File file = safetensors::open(weights);
    const auto* tensor = file.find("b");
    ASSERT_NE(tensor, nullptr);
    EXPECT_EQ(tensor->dtype, dtype);
    EXPECT_EQ(tensor->shape, (std::vector<Index>{2, 3}));
    std::vector<float> numbers(6);
    ASSERT_TRUE(safetensors::try_read(*tensor, std::span<float>(numbers)));
    EXPECT_EQ(numbers, (std::vector<float>{10, 11, 12, 13, 14, 15}));
  }
}

TEST(PeftWrite, RefusesOtherTypesAndLeavesNothing) {
  const Folder folder;
  int made = 0;
  expect_failure(try_write_peft_folder(folder / "x", Json::object(), entries(made), Dtype::other),
                 {"F64, F32, F16 and BF16"});
  EXPECT_TRUE(std::filesystem::is_empty(folder / "x"));
  expect_failure(try_write_peft_folder(folder / "y", Json{{"name", "\xff"}}, entries(made), Dtype::F32),
                 {"the base model, task type or a module's name"});
  EXPECT_FALSE(std::filesystem::exists(folder / "y"));
  EXPECT_EQ(made, 0);
}

#ifndef _WIN32  // which moves aside what is in the way
// Something takes the weights' place at the last moment: what is left is what a program leaves that is killed
// between the two files.
TEST(PeftWrite, AnOldConfigNeverStandsBesideNewWeights) {
  const Folder folder;
  const auto weights = folder / "adapter_model.safetensors", config = folder / "adapter_config.json";
  int made = 0;
  const auto first = try_write_peft_folder(folder.path(), Json{{"r", 2}}, entries(made), Dtype::F32);
  ASSERT_TRUE(first) << first.error();
  std::vector<PeftEntry<float>> more = entries(made);
  more.push_back({"c", {1}, [&](float*) {
                    EXPECT_EQ(read_text(config), R"({"r":2})") << "before all is ready";
                    std::filesystem::remove(weights);
                    std::filesystem::create_directory(weights);
                  }});
  expect_failure(try_write_peft_folder(folder.path(), Json{{"r", 3}}, std::move(more), Dtype::F32),
                 {"adapter_model.safetensors\" cannot be written"});
  EXPECT_FALSE(std::filesystem::exists(config));
  EXPECT_EQ(folder.entries(), 1);
  std::filesystem::remove(weights);
  const auto again = try_write_peft_folder(folder.path(), Json{{"r", 3}}, entries(made), Dtype::F32);
  ASSERT_TRUE(again) << again.error();
  EXPECT_EQ(read_text(config), R"({"r":3})");
}
#else
// Found before the old config is gone.
TEST(PeftWrite, WeightsThatAreReadOnlyKeepTheirConfig) {
  const Folder folder;
  const auto weights = folder / "adapter_model.safetensors";
  int made = 0;
  ASSERT_TRUE(try_write_peft_folder(folder.path(), Json{{"r", 2}}, entries(made), Dtype::F32));
  std::filesystem::permissions(weights, std::filesystem::perms::owner_read);
  const auto refused = try_write_peft_folder(folder.path(), Json{{"r", 3}}, entries(made), Dtype::F32);
  std::filesystem::permissions(weights, std::filesystem::perms::owner_all);
  expect_failure(refused, {"adapter_model.safetensors\" cannot be written"});
  EXPECT_EQ(read_text(folder / "adapter_config.json"), R"({"r":2})");
}
#endif

}  // namespace
}  // namespace tiedlora_test
