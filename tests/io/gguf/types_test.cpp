// Values and types of tensors in a file that GGUF's own package wrote.
#include <gtest/gtest.h>

#include <filesystem>
#include <limits>
#include <tiedlora/io/gguf.hpp>

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using gguf::Type;

TEST(GgufValue, HasEveryType) {
  const gguf::File file = gguf::open(std::filesystem::path(TIEDLORA_GOLDEN_DIR) / "gguf" / "model.gguf");
  const auto value = [&file](std::string_view key) -> const gguf::Value& {
    const gguf::Value* found = file.find_value(key);
    if (!found) throw std::runtime_error("no value " + std::string(key));
    return *found;
  };
  EXPECT_EQ(value("test.uint8").natural(), 200);
  EXPECT_EQ(value("test.int8").number(), -100);
  EXPECT_EQ(value("test.uint16").natural(), 60000);
  EXPECT_EQ(value("test.int16").number(), -30000);
  EXPECT_EQ(value("test.uint32").natural(), 4000000000);
  EXPECT_EQ(value("test.int32").number(), -2000000000);
  EXPECT_EQ(value("test.float32").number(), 0.5);
  EXPECT_EQ(value("test.bool").boolean(), true);
  EXPECT_EQ(value("test.uint64").natural(), std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(value("test.int64").number(), -0x1p63);
  EXPECT_EQ(value("test.float64").number(), 0.1);
  EXPECT_EQ(value("test.text").text(), std::string_view("m\xC3\xB6\0del", 7));
  EXPECT_EQ(value("general.alignment").natural(), 64);
  EXPECT_EQ(value("test.array.uint8").numbers<std::uint8_t>(), (std::vector<std::uint8_t>{200, 200}));
  EXPECT_EQ(value("test.array.int64").numbers<std::int64_t>(),
            (std::vector<std::int64_t>(2, std::numeric_limits<std::int64_t>::min())));
  EXPECT_EQ(value("test.array.float64").numbers<double>(), (std::vector<double>{0.1, 0.1}));
  EXPECT_EQ(value("test.array.bool").count, 2);
  EXPECT_EQ(value("tokenizer.ggml.tokens").texts(),
            (std::vector<std::string_view>{"<s>", "", "\xC4\xA0the"}));
  EXPECT_EQ(file.find_value("test"), nullptr);
}

TEST(GgufValue, OfAnotherTypeGivesNothing) {
  const gguf::File file = gguf::open(std::filesystem::path(TIEDLORA_GOLDEN_DIR) / "gguf" / "model.gguf");
  EXPECT_EQ(file.find_value("test.uint8")->text(), std::nullopt);
  EXPECT_EQ(file.find_value("test.uint8")->boolean(), std::nullopt);
  EXPECT_EQ(file.find_value("test.int8")->natural(), std::nullopt) << "it is negative";
  EXPECT_EQ(file.find_value("test.float32")->natural(), std::nullopt);
  EXPECT_EQ(file.find_value("test.bool")->number(), std::nullopt);
  EXPECT_EQ(file.find_value("test.text")->texts(), std::nullopt);
  EXPECT_EQ(file.find_value("test.array.uint8")->numbers<std::int8_t>(), std::nullopt);
  EXPECT_EQ(file.find_value("test.array.uint8")->natural(), std::nullopt);
}

TEST(GgufType, IsKnownByItsNumber) {
  EXPECT_EQ(gguf::to_string(Type::BF16), "BF16");
  EXPECT_EQ(gguf::to_string(Type{14}), "Q6_K");
  EXPECT_EQ(gguf::to_string(Type{99}), "?");
  EXPECT_EQ(gguf::find_type(Type{4}), nullptr) << "Q4_2 is gone";
  ASSERT_NE(gguf::find_type(Type::Q8_0), nullptr);
  EXPECT_EQ(gguf::find_type(Type::Q8_0)->block, 32);
  EXPECT_EQ(gguf::find_type(Type::Q8_0)->bytes, 34);
}

}  // namespace
}  // namespace tiedlora_test
