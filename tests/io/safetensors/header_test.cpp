// The header of a safetensors file: sizes that do not overflow, and its text.
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <tiedlora/io/safetensors/header.hpp>
#include <vector>

#include "support/io_files.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using tiedlora::detail::safetensors_bytes;
using tiedlora::detail::try_safetensors_header;

TEST(SafetensorsHeader, CountsBytes) {
  const auto bytes = [](std::string_view dtype, std::vector<Index> shape) {
    return safetensors_bytes(dtype, shape);
  };
  EXPECT_EQ(bytes("F32", {2, 3}), 24u);
  EXPECT_EQ(bytes("BF16", {}), 2u);
  EXPECT_EQ(bytes("F4", {4}), 2u);
  EXPECT_EQ(bytes("F4", {3}), std::nullopt) << "half a byte";
  EXPECT_EQ(bytes("F32", {0, 5}), 0u);
  EXPECT_EQ(bytes("F33", {1}), std::nullopt);
  EXPECT_EQ(bytes("F32", {-1}), std::nullopt);
  constexpr Index most = std::numeric_limits<Index>::max();
  EXPECT_EQ(bytes("U8", {most}), std::nullopt);
  EXPECT_EQ(bytes("U8", {most, 2, 0}), std::nullopt) << "an overflow before a size of zero";
  EXPECT_EQ(bytes("U8", {0, most, most}), 0u);
}

TEST(SafetensorsHeader, IsCompactAndAligned) {
  const std::vector<tiedlora::detail::SafetensorsItem> items = {{"a\"b", "F32", {2, 3}, 0, 24},
                                                                {"c", "U8", {}, 24, 25}};
  const auto header = try_safetensors_header(items, {{"format", "pt"}}, 64);
  ASSERT_TRUE(header) << header.error();
  std::uint64_t length = 0;
  std::memcpy(&length, header->data(), 8);
  EXPECT_EQ(length, header->size() - 8);
  EXPECT_EQ(header->size() % 64, 0u);
  const std::string text = header->substr(8, header->find_last_not_of(' ') - 7);
  EXPECT_EQ(text,
            R"({"__metadata__":{"format":"pt"},"a\"b":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
            R"("c":{"dtype":"U8","shape":[],"data_offsets":[24,25]}})");
}

TEST(SafetensorsHeader, WithoutTensorsIsAnEmptyObject) {
  const auto header = try_safetensors_header({}, {}, 8);
  ASSERT_TRUE(header);
  EXPECT_EQ(header->substr(8), "{}      ");
}

TEST(SafetensorsHeader, RefusesNamesThatJsonCannotHold) {
  const std::vector<tiedlora::detail::SafetensorsItem> items = {{"\xff", "F32", {1}, 0, 4}};
  expect_failure(try_safetensors_header(items, {}, 8), {"tensor name"});
  expect_failure(try_safetensors_header({}, {{"key", "\xff"}}, 8), {"the metadata"});
}

}  // namespace
}  // namespace tiedlora_test
