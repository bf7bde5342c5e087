// A training's state on disk: what was written comes back, and a flipped bit is noticed.
#include "checked_file.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <fstream>
#include <iterator>

#include <finetune/data/expect_error.hpp>
#include <finetune/test_folder.hpp>

namespace finetune {
namespace {

TEST(CheckedFile, NoticesAFlippedBit) {
  const TestFolder folder;
  const auto path = folder.path() / "weights";
  const std::vector<float> a = {1, 2, 3}, b = {4};
  save_checked(path, {{"b", b}, {"a", a}}, "{\"step\": 12}");
  std::vector<float> read(3);
  const auto file = open_checked(path);
  ASSERT_TRUE(tiedlora::safetensors::try_read(*file.find("a"), std::span(read)));
  EXPECT_EQ(read, a);
  EXPECT_EQ(file.metadata().at("finetune"), "{\"step\": 12}");
  std::ifstream in(path, std::ios::binary);
  const std::string whole{std::istreambuf_iterator<char>(in), {}};
  for (const std::size_t at : {whole.size() - 1, whole.size() - 16, whole.find("12")}) {
    std::string spoilt = whole;
    spoilt[at] = static_cast<char>(spoilt[at] ^ 1);
    std::ofstream(path, std::ios::binary) << spoilt;
    expect_error<tiedlora::Error>([&] { open_checked(path); }, {path.string(), "is damaged"});
  }
}

}  // namespace
}  // namespace finetune
