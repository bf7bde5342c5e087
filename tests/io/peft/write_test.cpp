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
                 {"y\""});
  EXPECT_FALSE(std::filesystem::exists(folder / "y"));
  EXPECT_EQ(made, 0);
}

}  // namespace
}  // namespace tiedlora_test
