// The GGUF container: what is read, and what is refused.
#include <gtest/gtest.h>

#include <limits>
#include <tiedlora/io/gguf.hpp>
#include <tiedlora/io/gguf/write.hpp>

#include "support/gguf_bytes.hpp"
#include "support/io_files.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using gguf::Type;
using gguf::ValueType;

constexpr auto huge = std::numeric_limits<std::uint64_t>::max();

std::filesystem::path golden(const std::string& name) {
  return std::filesystem::path(TIEDLORA_GOLDEN_DIR) / "gguf" / name;
}

void expect_refused(const GgufBytes& bytes, std::initializer_list<std::string_view> parts) {
  expect_failure(gguf::try_parse(bytes.span()), parts);
}

/// Two tensors of F32 with 4 and 8 bytes.
GgufBytes two_tensors(std::uint64_t second_offset = 32, std::string_view data = {}) {
  const std::string all(40, 'x');
  GgufBytes bytes;
  bytes.head(2, 0).tensor("a", {1}, Type::F32, 0).tensor("b", {1, 2}, Type::F32, second_offset).pad();
  bytes.raw(data.empty() ? std::string_view(all) : data);
  return bytes;
}

TEST(Gguf, KeepsTensorsOfEveryType) {
  const gguf::File file = gguf::open(golden("model.gguf"));
  ASSERT_EQ(file.tensors().size(), 3);
  const gguf::Tensor* q = file.find_tensor("blk.0.attn_q.weight");
  ASSERT_TRUE(q);
  EXPECT_EQ(to_string(q->type), "Q4_1");
  EXPECT_EQ(q->shape, (std::vector<Index>{32, 32}));
  EXPECT_EQ(q->bytes.size(), 32 * 20);
  std::vector<float> numbers(1024);
  expect_failure(gguf::try_read(*q, std::span(numbers)), {"\"blk.0.attn_q.weight\"", "Q4_1"});
  const gguf::Tensor* embedding = file.find_tensor("token_embd.weight");
  EXPECT_EQ(embedding->type, Type::Q8_0);
  EXPECT_EQ(embedding->shape, (std::vector<Index>{32, 3}));
  const gguf::Tensor* norm = file.find_tensor("blk.0.attn_norm.weight");
  expect_failure(gguf::try_read(*norm, std::span(numbers)), {"32 values, but there is room for 1024"});
  std::vector<double> floats(32);
  ASSERT_TRUE(gguf::try_read(*norm, std::span(floats)));
  for (std::size_t i = 0; i < floats.size(); ++i)
    EXPECT_EQ(floats[i], (static_cast<double>((7 * i + 31) % 255) - 127) / 8) << i;
  EXPECT_EQ(file.find_tensor("blk"), nullptr);
}

TEST(Gguf, KeepsTensorsOfUnknownTypesUpToTheNext) {
  GgufBytes bytes;
  bytes.head(3, 0)
      .tensor("a", {5}, Type{99}, 0)
      .tensor("b", {1}, Type::F32, 64)
      .tensor("c", {7}, Type{77}, 96);
  bytes.pad().raw(std::string(64, 'a')).raw("bbbb").pad().raw("ccccc");
  const auto file = gguf::try_parse(bytes.span());
  ASSERT_TRUE(file) << file.error();
  EXPECT_EQ(file->find_tensor("a")->bytes.size(), 64);
  EXPECT_EQ(file->find_tensor("b")->bytes.size(), 4);
  EXPECT_EQ(file->find_tensor("c")->bytes.size(), 5);
  EXPECT_EQ(to_string(Type{99}), "?");

  const auto none =
      GgufBytes().head(2, 0).tensor("a", {5}, Type{99}, 0).tensor("b", {1}, Type::F32, 0).pad().raw("bbbb");
  const auto of_none = gguf::try_parse(none.span());
  ASSERT_TRUE(of_none) << of_none.error();
  EXPECT_EQ(of_none->find_tensor("a")->bytes.size(), 0) << "the next begins where it does";
}

TEST(Gguf, ReadsWhatIsOddButRight) {
  EXPECT_TRUE(gguf::try_parse(GgufBytes().head(0, 0).span()));
  const auto empty = GgufBytes().head(0, 1).value("", std::string_view());
  EXPECT_EQ(gguf::try_parse(empty.span())->find_value("")->text(), "");
  EXPECT_TRUE(gguf::try_parse(GgufBytes().head(0, 0, 2).span())) << "version 2 has the same form";
  EXPECT_TRUE(gguf::try_parse(two_tensors(32, std::string(40, 'x')).span())) << "unpadded end";
  EXPECT_TRUE(gguf::try_parse(two_tensors(32, std::string(64, 'x')).span())) << "padded end";
  EXPECT_TRUE(gguf::try_parse(
      GgufBytes().head(1, 1).value("general.alignment", 1u).tensor("a", {0, 4}, Type::F32, 0).span()));
  const std::string longest(63, 'n');
  EXPECT_TRUE(
      gguf::try_parse(GgufBytes().head(1, 0).tensor(longest, {}, Type::F32, 0).pad().raw("1234").span()));
}

TEST(Gguf, RefusesWhatIsNoGguf) {
  expect_refused(GgufBytes(), {"is not a GGUF file"});
  expect_refused(GgufBytes().raw("GGU"), {"is not a GGUF file"});
  expect_refused(GgufBytes().raw("GGML").raw(std::string(40, '\0')), {"does not begin with \"GGUF\""});
  expect_refused(GgufBytes().raw("GGUF").number(3u), {"cut short within the first 24 bytes"});
  expect_refused(GgufBytes().head(0, 0, 1), {"of GGUF version 1;"});
  expect_refused(GgufBytes().head(0, 0, 4), {"of GGUF version 4; versions 2 and 3 are read"});
  expect_refused(GgufBytes().head(0, 0, 0x03000000), {"big-endian"});
}

TEST(Gguf, BelievesNoClaimsOfCountsAndLengths) {
  expect_refused(GgufBytes().head(huge, 0),
                 {"claims 0 values and 18446744073709551615 tensors", "only 0 bytes"});
  expect_refused(GgufBytes().head(0, huge), {"claims 18446744073709551615 values"});
  expect_refused(GgufBytes().head(0, 1).number(huge).raw(std::string(20, 'x')), {"a metadata key"});
  expect_refused(GgufBytes().head(0, 1).text("key").number(ValueType::text).number(huge),
                 {"the metadata value of \"key\"", "within the file"});
  for (const ValueType element : {ValueType::u8, ValueType::f64, ValueType::text})
    expect_refused(GgufBytes().head(0, 1).text("key").number(ValueType::array).number(element).number(huge),
                   {"the metadata value of \"key\""});
  expect_refused(GgufBytes()
                     .head(0, 1)
                     .text("key")
                     .number(ValueType::array)
                     .number(ValueType::text)
                     .number(std::uint64_t{2})
                     .text("one")
                     .number(std::uint64_t{9})
                     .raw("two"),
                 {"the metadata value of \"key\""});
  expect_refused(GgufBytes().head(1, 0).number(huge).raw(std::string(40, 'x')), {"list of tensors"});
  expect_refused(GgufBytes().head(1, 0).text("a").number(1u).number(huge).number(0u).number(std::uint64_t{0}),
                 {"tensor \"a\" has a dimension of 18446744073709551615"});
  expect_refused(GgufBytes().head(1, 0).tensor("a", {1, 1, 1, 1, 1}, Type::F32, 0).pad().raw("1234"),
                 {"tensor \"a\" has 5 dimensions"});
  expect_refused(GgufBytes().head(1, 0).tensor("a", {}, Type::F32, 0).raw("").pad(),
                 {"takes 4 bytes, but only 0"});
}

TEST(Gguf, RefusesTypesOfValuesThatDoNotExist) {
  expect_refused(GgufBytes().head(0, 1).text("key").number(13u).raw("12345678"),
                 {"\"key\" at byte 35", "type"});
  expect_refused(
      GgufBytes().head(0, 1).text("key").number(9u).number(9u).number(std::uint64_t{0}).raw("12345678"),
      {"\"key\"", "type that is not supported"});
}

TEST(Gguf, RefusesNamesThatAreThereTwice) {
  expect_refused(GgufBytes().head(0, 2).value("key", 1u).value("key", 2u),
                 {"two metadata values named \"key\""});
  expect_refused(GgufBytes()
                     .head(2, 0)
                     .tensor("a", {1}, Type::F32, 0)
                     .tensor("a", {1}, Type::F32, 32)
                     .pad()
                     .raw(std::string(36, 'x')),
                 {"two tensors named \"a\""});
  expect_refused(GgufBytes().head(1, 0).tensor(std::string(64, 'n'), {1}, Type::F32, 0).pad().raw("1234"),
                 {"has a name of 64 bytes; the format allows 63"});
}

TEST(Gguf, RefusesHolesOverlapsAndWrongSizes) {
  EXPECT_TRUE(gguf::try_parse(two_tensors().span()));
  for (const std::uint64_t offset : {std::uint64_t{0}, std::uint64_t{4}, std::uint64_t{31}, std::uint64_t{33},
                                     std::uint64_t{64}, huge - 31})
    expect_refused(two_tensors(offset), {"tensor \"b\" is at offset", "ends at 4"});
  expect_refused(two_tensors(32, std::string(39, 'x')), {"tensor \"b\" takes 8 bytes, but only 7 are there"});
  expect_refused(two_tensors(32, std::string(31, 'x')), {"tensor \"b\" begins at byte 32", "only 31"});
  expect_refused(two_tensors(32, std::string(72, 'x')), {"has 32 bytes after its last tensor"});
  expect_refused(GgufBytes().head(1, 0).tensor("a", {1u << 31, 1u << 31, 1u << 31}, Type::F32, 0).pad(),
                 {"tensor \"a\"", "overflows"});
  expect_refused(GgufBytes().head(1, 0).tensor("a", {std::uint64_t{1} << 62}, Type::F32, 0).pad(),
                 {"overflows"});
  const Type unknown{1000};  // of which the size in bytes is not known, but the count must fit
  expect_refused(GgufBytes().head(1, 0).tensor("a", {std::uint64_t{1} << 62, 4}, unknown, 0).pad(),
                 {"tensor \"a\" has a shape whose size overflows"});
  expect_refused(GgufBytes().head(1, 0).tensor("a", {33}, Type::Q8_0, 0).pad().raw(std::string(68, 'x')),
                 {"tensor \"a\"", "Q8_0", "not a whole number of blocks"});
  for (const std::uint32_t alignment : {0u, 3u, 48u})
    expect_refused(GgufBytes().head(0, 1).value("general.alignment", alignment), {"general.alignment"});
  expect_refused(GgufBytes().head(0, 1).value("general.alignment", std::uint64_t{32}), {"general.alignment"});
}

// Every cut of a whole file is refused, and none is read beyond its end (AddressSanitizer looks).
TEST(Gguf, RefusesEveryCut) {
  const std::string whole = read_text(golden("model.gguf"));
  for (std::size_t size = 0; size < whole.size() - 63; ++size) {
    const std::vector<char> cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    ASSERT_FALSE(gguf::try_parse(std::as_bytes(std::span(cut)))) << size;
  }
}

TEST(Gguf, NamesTheFile) {
  const Folder folder;
  expect_failure(gguf::try_open(folder / "none.gguf"), {"none.gguf\" cannot be opened"});
  write_text(folder / "x.gguf", "GGXX");
  expect_failure(gguf::try_open(folder / "x.gguf"),
                 {"x.gguf\" is a text file (\"GGXX\")", "a GGUF file is expected"});
}

}  // namespace
}  // namespace tiedlora_test
