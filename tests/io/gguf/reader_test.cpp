// Bytes of a GGUF file, read one after the other; never beyond their end.
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <tiedlora/io/gguf/reader.hpp>

#include "support/gguf_bytes.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using gguf::ValueType;
using gguf::detail::Reader;

TEST(GgufReader, TakesNumbersAndTexts) {
  const GgufBytes bytes = GgufBytes().number(std::uint16_t{7}).text("abc").number(0.5);
  Reader reader(bytes.span());
  EXPECT_EQ(reader.number<std::uint16_t>(), 7);
  EXPECT_EQ(reader.text(), "abc");
  EXPECT_EQ(reader.position(), 13u);
  EXPECT_EQ(reader.remaining(), 8u);
  EXPECT_EQ(reader.number<double>(), 0.5);
  EXPECT_FALSE(reader.failed());
}

TEST(GgufReader, StaysFailedAtTheEnd) {
  const GgufBytes bytes = GgufBytes().number(std::uint32_t{7});
  Reader reader(bytes.span());
  EXPECT_EQ(reader.number<std::uint64_t>(), 0u);
  EXPECT_TRUE(reader.failed());
  EXPECT_EQ(reader.number<std::uint32_t>(), 0u) << "though that many bytes are there";
  EXPECT_TRUE(reader.failed());
}

TEST(GgufReader, BelievesNoLength) {
  const GgufBytes text = GgufBytes().number(~std::uint64_t{0}).raw("abc");
  Reader reader(text.span());
  EXPECT_EQ(reader.text(), "");
  EXPECT_TRUE(reader.failed());

  const GgufBytes array =
      GgufBytes().number(ValueType::array).number(ValueType::u32).number(std::uint64_t{1} << 62);
  Reader of_array(array.span());
  EXPECT_FALSE(of_array.value());
  EXPECT_TRUE(of_array.failed());
}

TEST(GgufReader, GivesNothingForTypesThatDoNotExist) {
  for (const std::uint32_t type : {13u, 1000u}) {
    const GgufBytes bytes = GgufBytes().number(type).number(std::uint64_t{0});
    EXPECT_FALSE(Reader(bytes.span()).value()) << type;
  }
  const GgufBytes nested =
      GgufBytes().number(ValueType::array).number(ValueType::array).number(std::uint64_t{0});
  EXPECT_FALSE(Reader(nested.span()).value());
}

}  // namespace
}  // namespace tiedlora_test
