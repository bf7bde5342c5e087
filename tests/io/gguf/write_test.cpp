// GGUF files that are written: what is refused, and that the rest is read as it was.
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <span>
#include <tiedlora/io/gguf/file.hpp>
#include <tiedlora/io/gguf/write.hpp>

#include "support/io_files.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using gguf::Type;

TEST(GgufWrite, WritesNothingThatIsWrong) {
  const Folder folder;
  write_text(folder / "x", "old");
  const std::string text(64, 'n');
  const auto data = [bytes = std::array<std::byte, 8>()]() -> Result<std::span<const std::byte>> {
    return std::span<const std::byte>(bytes);
  };
  const auto save = [&](std::vector<gguf::Entry> entries) {
    return gguf::try_save(folder / "x", std::span<const gguf::MetadataEntry>(), entries);
  };
  expect_failure(save({{text, Type::F32, {2}, data}}), {"x\": the tensor name", "64 bytes; GGUF allows 63"});
  expect_failure(save({{"a", Type::F32, {2}, data}, {"a", Type::F32, {2}, data}}),
                 {"two tensors are named \"a\""});
  expect_failure(save({{"a", Type::F32, {3}, data}}), {"tensor \"a\" takes 12 bytes, but 8 were given"});
  expect_failure(save({{"a", Type::F32, {1, 1, 1, 1, 2}, data}}), {"cannot express"});
  EXPECT_EQ(read_text(folder / "x"), "old");
  EXPECT_EQ(folder.entries(), 1);
  ASSERT_TRUE(save({{"a", Type::F32, {2}, data}}));
  EXPECT_TRUE(gguf::try_open(folder / "x"));
}

TEST(GgufWrite, MetadataAndTensorsAreReadAsTheyWere) {
  const Folder folder;
  const gguf::MetadataEntry metadata[] = {
      {"a.text", "abc"}, {"a.list", std::vector<std::string>{"x", ""}}, {"a.u32", 7u}, {"a.f32", 0.5f}};
  std::array<float, 3> first = {1, 2, 3};
  std::array<float, 2> second = {4, 5};
  const auto bytes_of = [](auto& numbers) {
    return [&numbers]() -> Result<std::span<const std::byte>> {
      return std::span<const std::byte>(std::as_bytes(std::span(numbers)));
    };
  };
  const gguf::Entry entries[] = {{"first", Type::F32, {3}, bytes_of(first)},
                                 {"second", Type::F32, {1, 2}, bytes_of(second)}};
  ASSERT_TRUE(gguf::try_save(folder / "x", metadata, entries));

  const gguf::File file = gguf::open(folder / "x");
  EXPECT_EQ(file.find_value("a.text")->text(), "abc");
  EXPECT_EQ(file.find_value("a.list")->texts(), (std::vector<std::string_view>{"x", ""}));
  EXPECT_EQ(file.find_value("a.u32")->natural(), 7u);
  EXPECT_EQ(file.find_value("a.f32")->number(), 0.5);
  const auto* tensor = file.find_tensor("second");
  ASSERT_NE(tensor, nullptr);
  EXPECT_EQ(tensor->shape, (std::vector<Index>{1, 2}));
  ASSERT_EQ(tensor->bytes.size(), sizeof second);
  EXPECT_EQ(std::memcmp(tensor->bytes.data(), second.data(), sizeof second), 0);
}

TEST(GgufWrite, AFailureOfATensorsNumbersLeavesTheOldFile) {
  const Folder folder;
  write_text(folder / "x", "old");
  const gguf::Entry entries[] = {
      {"a", Type::F32, {2}, []() -> Result<std::span<const std::byte>> { return Failure{"no values"}; }}};
  expect_failure(gguf::try_save(folder / "x", {}, entries), {"x\": no values"});
  EXPECT_EQ(read_text(folder / "x"), "old");
}

}  // namespace
}  // namespace tiedlora_test
