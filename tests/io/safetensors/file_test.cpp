#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <tiedlora/io/safetensors.hpp>

#include "support/io_files.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using safetensors::Dtype;
using safetensors::Entry;
using safetensors::File;
using safetensors::Tensor;

/// The bytes of a file with that header. `length`: what its first eight bytes claim.
std::string file_of(std::string_view header, std::string_view data = {},
                    std::optional<std::uint64_t> length = std::nullopt) {
  const std::uint64_t claimed = length.value_or(header.size());
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &claimed, 8);
  return bytes.append(header).append(data);
}

Result<File> parse(const std::string& bytes) {
  return safetensors::try_parse(std::as_bytes(std::span(bytes.data(), bytes.size())));
}
Result<File> parse(std::string_view header, std::string_view data) {
  static std::string bytes;  // outlives the File
  bytes = file_of(header, data);
  return parse(bytes);
}

/// A tensor's header entry.
std::string item(const std::string& name, const std::string& dtype, const std::string& shape, int begin,
                 int end) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":[" +
         std::to_string(begin) + "," + std::to_string(end) + "]}";
}

TEST(Safetensors, ReadsTensorsAndMetadata) {
  const auto file = parse("{\"__metadata__\":{\"format\":\"pt\"}," + item("b", "F32", "[2,1]", 4, 12) + "," +
                              item("a", "F16", "[2]", 0, 4) + "," + item("empty", "F64", "[0,3]", 4, 4) +
                              "," + item("one", "BF16", "[]", 12, 14) + "}",
                          "0123456789abcd");
  ASSERT_TRUE(file) << file.error();
  ASSERT_EQ(file->tensors().size(), 4);
  EXPECT_EQ(file->tensors()[0].name, "a");  // by their data, not by the header's order
  EXPECT_EQ(file->tensors()[1].name, "empty");
  EXPECT_EQ(file->metadata().at("format"), "pt");
  const Tensor* b = file->find("b");
  ASSERT_TRUE(b);
  EXPECT_EQ(b->dtype, Dtype::F32);
  EXPECT_EQ(b->dtype_name, "F32");
  EXPECT_EQ(b->shape, (std::vector<Index>{2, 1}));
  EXPECT_EQ(b->count(), 2);
  EXPECT_EQ(std::memcmp(b->bytes.data(), "456789ab", 8), 0);
  EXPECT_EQ(file->find("one")->count(), 1);
  EXPECT_EQ(file->find("empty")->count(), 0);
  EXPECT_EQ(file->find("c"), nullptr);
}

TEST(Safetensors, ReadsWhatTheReferenceReads) {
  EXPECT_TRUE(parse("{}", ""));
  EXPECT_TRUE(parse(" \n{}  ", ""));
  EXPECT_TRUE(
      parse("{\"a\":{\"dtype\":\"F32\",\"x\":[1,{\"shape\":{}}],\"shape\":[1],\"data_offsets\":[0,4]}}",
            "0123"));  // a field that the format does not name
  EXPECT_TRUE(parse("{" + item("a", "F32", "[0,9223372036854775807,9223372036854775807]", 0, 0) + "}", ""));
  const auto file =
      parse("{" + item("a", "F4", "[4]", 0, 2) + "," + item("b", "I64", "[1]", 2, 10) + "}", "0123456789");
  ASSERT_TRUE(file) << file.error();
  EXPECT_EQ(file->find("a")->dtype, Dtype::other);
  EXPECT_EQ(file->find("b")->dtype_name, "I64");
}

TEST(Safetensors, RefusesWhatIsNotOne) {
  expect_failure(parse(std::string()), {"it has 0 bytes", "takes 8"});
  expect_failure(parse(std::string("abc")), {"it has 3 bytes"});
  expect_failure(parse(file_of("{}", "", 3)), {"cut short", "takes 3 bytes", "only 2 follow"});
  expect_failure(parse(file_of("{}", "", 100'000'001)), {"100000001 bytes", "allows 100000000"});
  expect_failure(parse(file_of("{}", "", ~std::uint64_t{0})), {"18446744073709551615"});
  expect_failure(parse("", ""), {"not a JSON object"});
  expect_failure(parse("   ", ""), {"not a JSON object"});
  expect_failure(parse("[]", ""), {"not a JSON object"});
  expect_failure(parse("\xef\xbb\xbf{}", ""), {"not a JSON object"});  // a byte order mark
  expect_failure(parse("{\"a\xff\":1}", ""), {"not valid JSON"});      // not UTF-8
  expect_failure(parse("{} {}", ""), {"not valid JSON", "byte 4"});
  expect_failure(parse("{\"a\":", ""), {"not valid JSON"});
}

TEST(Safetensors, RefusesAHeaderOfAnotherForm) {
  expect_failure(parse("{\"a\":1}", ""), {"a number where an object belongs"});
  expect_failure(parse("{\"a\":[]}", ""), {"an array where an object belongs"});
  expect_failure(parse("{\"a\":{}}", ""), {"tensor \"a\" is missing dtype, shape or data_offsets"});
  expect_failure(parse("{\"__metadata__\":{\"a\":1}}", ""), {"metadata \"a\"", "a number", "string belongs"});
  expect_failure(parse("{\"__metadata__\":{\"a\":{}}}", ""), {"metadata \"a\"", "an object"});
  expect_failure(parse("{\"__metadata__\":null}", ""), {"null"});
  expect_failure(parse("{\"__metadata__\":{\"a\":\"\",\"a\":\"\"}}", ""), {"one name twice"});
  expect_failure(parse("{\"__metadata__\":{},\"__metadata__\":{}}", ""), {"__metadata__ twice"});
  const auto with = [](const std::string& shape, const std::string& offsets) {
    return parse("{\"a\":{\"dtype\":\"F32\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}}",
                 "0123");
  };
  EXPECT_TRUE(with("[1]", "[0,4]"));
  expect_failure(with("1", "[0,4]"), {"\"a\"", "a number in the wrong place"});
  expect_failure(with("[[1]]", "[0,4]"), {"\"a\"", "an array"});
  expect_failure(with("[-1]", "[0,4]"), {"\"a\"", "a negative number"});
  expect_failure(with("[1.0]", "[0,4]"), {"\"a\"", "not an integer"});
  expect_failure(with("[-0]", "[0,4]"), {"\"a\"", "a negative number"});
  expect_failure(with("[9223372036854775808]", "[0,4]"), {"\"a\"", "9223372036854775808"});
  expect_failure(with("[1]", "[0]"), {"\"a\"", "not [begin, end]"});
  expect_failure(with("[1]", "[0,4,4]"), {"\"a\"", "not [begin, end]"});
  expect_failure(with("[1]", "{}"), {"\"a\"", "an object"});
  expect_failure(
      parse("{\"a\":{\"shape\":[1],\"dtype\":\"F32\",\"data_offsets\":[0,4],\"shape\":[1]}}", "0123"),
      {"\"a\"", "shape twice"});
  // Depth in a field that is skipped.
  const std::string deep(1000, '[');
  expect_failure(parse("{\"a\":{\"x\":" + deep, ""), {"nested too deeply"});
}

TEST(Safetensors, RefusesSizesThatDisagree) {
  const auto one = [](const std::string& dtype, const std::string& shape, int begin, int end,
                      std::string_view data) {
    return parse("{" + item("a", dtype, shape, begin, end) + "}", data);
  };
  expect_failure(one("F32", "[2]", 0, 4, "0123"), {"\"a\"", "[0, 4]", "take 8 bytes"});
  expect_failure(one("F32", "[1]", 0, 8, "01234567"), {"\"a\"", "take 4 bytes"});
  expect_failure(one("F32", "[1]", 4, 0, "0123"), {"\"a\"", "[4, 0]", "ends at 0"});
  expect_failure(one("F32", "[1]", 4, 8, "01234567"), {"\"a\"", "[4, 8]", "ends at 0"});  // a hole
  expect_failure(one("F32", "[1]", 0, 4, "012"), {"\"a\"", "only 3", "cut short"});
  expect_failure(one("F32", "[1]", 0, 4, "01234"), {"5 bytes of data", "end at 4"});
  expect_failure(one("F4", "[3]", 0, 2, "01"), {"\"a\"", "F4", "whole number of bytes"});
  expect_failure(one("F7", "[3]", 0, 2, "01"), {"\"a\"", "\"F7\"", "does not know"});
  expect_failure(one("F32", "[9223372036854775807,9223372036854775807]", 0, 4, "0123"),
                 {"\"a\"", "overflows"});
  expect_failure(one("F32", "[4611686018427387904]", 0, 4, "0123"), {"\"a\"", "overflows"});
  expect_failure(one("F32", "[9223372036854775807,2,0]", 0, 0, ""), {"\"a\"", "overflows"});

  expect_failure(
      parse("{" + item("a", "F32", "[1]", 0, 4) + "," + item("b", "F32", "[1]", 2, 6) + "}", "012345"),
      {"\"b\"", "[2, 6]", "ends at 4", "overlaps"});
  expect_failure(
      parse("{" + item("a", "F32", "[1]", 0, 4) + "," + item("b", "F32", "[1]", 0, 4) + "}", "0123"),
      {"[0, 4]", "ends at 4"});
  expect_failure(
      parse("{" + item("a", "F32", "[1]", 0, 4) + "," + item("a", "F32", "[1]", 4, 8) + "}", "01234567"),
      {"two tensors named \"a\""});
  expect_failure(parse("{" + item("a", "F32", "[]", 0, 4) + "," + item("b", "F32", "[0]", 0, 0) + "," +
                           item("b", "F32", "[0]", 4, 4) + "}",
                       "0123"),
                 {"two tensors named \"b\""});
}

TEST(Safetensors, MessagesShowNoControlCharactersAndCutLongNames) {
  const std::string name = "\\u001b[2J" + std::string(5000, 'x');
  const auto file = parse("{" + item(name, "F7", "[1]", 0, 4) + "}", "0123");
  expect_failure(file, {R"("\x1b[2Jxxx)", "xxx…\""});
  EXPECT_LT(file.error().size(), 400);
}

// Values that every one of the four types can hold, so that conversions are exact.
TEST(Safetensors, ConvertsBetweenTheFourTypes) {
  const std::vector<double> numbers = {0, 1, -2.5, 0.15625, -96};
  const auto check = [&]<class From, class To>(From, To) {
    std::string data = "x";  // an odd address
    for (const double number : numbers) {
      const From value = static_cast<From>(number);
      data.append(reinterpret_cast<const char*>(&value), sizeof value);
    }
    const std::span<const std::byte> bytes = std::as_bytes(std::span(data)).subspan(1);
    const Tensor tensor{.name = "t", .dtype = safetensors::dtype_of<From>, .shape = {5}, .bytes = bytes};
    std::vector<To> out(5);
    ASSERT_TRUE(safetensors::try_read(tensor, std::span(out)));
    for (std::size_t i = 0; i < 5; ++i) EXPECT_EQ(static_cast<double>(out[i]), numbers[i]);
  };
  const auto check_from = [&](auto from) {
    check(from, double());
    check(from, float());
    check(from, Eigen::half());
    check(from, Eigen::bfloat16());
  };
  check_from(double());
  check_from(float());
  check_from(Eigen::half());
  check_from(Eigen::bfloat16());
}

TEST(Safetensors, TheSameTypeIsCopiedBitByBit) {
  const std::vector<std::uint32_t> bits = {0x7fc0dead, 0x7f800001, 0x80000000,
                                           1};  // quiet and signalling NaN
  const Tensor tensor{
      .name = "t", .dtype = Dtype::F32, .shape = {2, 2}, .bytes = std::as_bytes(std::span(bits))};
  std::vector<float> out(4);
  ASSERT_TRUE(safetensors::try_read(tensor, std::span(out)));
  EXPECT_EQ(std::memcmp(out.data(), bits.data(), 16), 0);
}

TEST(Safetensors, ReadRefusesOtherSizesAndTypes) {
  const std::vector<std::byte> data(8);
  std::vector<float> out(3);
  Tensor tensor{.name = "t", .dtype = Dtype::F32, .dtype_name = "F32", .shape = {2}, .bytes = data};
  expect_failure(safetensors::try_read(tensor, std::span(out)),
                 {"\"t\"", "2 values, but there is room for 3"});
  tensor.dtype = Dtype::other;
  tensor.dtype_name = "I32";
  expect_failure(safetensors::try_read(tensor, std::span(out).first(2)), {"\"t\"", "dtype I32", "F32"});
}

TEST(Safetensors, InPlaceOnlyWhereTypeAndAlignmentAllow) {
  alignas(8) std::byte data[16] = {};
  Tensor tensor{.name = "t", .dtype = Dtype::F32, .shape = {2}, .bytes = std::span(data).subspan(4, 8)};
  EXPECT_EQ(safetensors::in_place<float>(tensor).size(), 2);
  EXPECT_EQ(static_cast<const void*>(safetensors::in_place<float>(tensor).data()), data + 4);
  EXPECT_TRUE(safetensors::in_place<double>(tensor).empty());
  EXPECT_TRUE(safetensors::in_place<Eigen::half>(tensor).empty());
  tensor.bytes = std::span(data).subspan(2, 8);
  EXPECT_TRUE(safetensors::in_place<float>(tensor).empty());
}

TEST(Safetensors, SavesInCanonicalOrder) {
  const Folder folder;
  const double wide = 1;
  const float a[] = {2, 3, 4}, b[] = {5};
  const std::uint16_t narrow = 0x3c00;
  safetensors::save(folder / "x.safetensors",
                    {{.name = "h", .dtype = Dtype::F16, .shape = {}, .data = &narrow},
                     {.name = "b", .dtype = Dtype::F32, .shape = {1, 1}, .data = b},
                     {.name = "a", .dtype = Dtype::F32, .shape = {3}, .data = a},
                     {.name = "z", .dtype = Dtype::F64, .shape = {1}, .data = &wide}},
                    {{"format", "pt"}});
  const std::string text = read_text(folder / "x.safetensors");
  const std::string expected =
      "{\"__metadata__\":{\"format\":\"pt\"},"
      "\"z\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,8]},"
      "\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[8,20]},"
      "\"b\":{\"dtype\":\"F32\",\"shape\":[1,1],\"data_offsets\":[20,24]},"
      "\"h\":{\"dtype\":\"F16\",\"shape\":[],\"data_offsets\":[24,26]}}";
  EXPECT_EQ(text.substr(8, expected.size()), expected);
  EXPECT_EQ((text.size() - 26) % 8, 0);  // spaces fill up the header
  EXPECT_EQ(folder.entries(), 1);        // nothing temporary is left

  const File file = safetensors::open(folder / "x.safetensors");
  std::vector<float> out(3);
  ASSERT_TRUE(safetensors::try_read(*file.find("a"), std::span(out)));
  EXPECT_EQ(out, (std::vector<float>{2, 3, 4}));
  EXPECT_EQ(safetensors::in_place<double>(*file.find("z"))[0], 1);
  ASSERT_TRUE(safetensors::try_read(*file.find("h"), std::span(out).first(1)));
  EXPECT_EQ(out[0], 1);
}

TEST(Safetensors, KeepsDtypesThatItDoesNotReadAndAlignsTheData) {
  const Folder folder;
  const std::int64_t number = 7;
  const Entry entry{.name = "n", .dtype = Dtype::other, .shape = {1}, .data = &number, .dtype_name = "I64"};
  ASSERT_TRUE(safetensors::try_save_in_order(folder / "x", std::span(&entry, 1), {}, 64));
  const std::string text = read_text(folder / "x");
  EXPECT_EQ((text.size() - 8) % 64, 0);
  const File file = safetensors::open(folder / "x");
  EXPECT_EQ(file.find("n")->dtype_name, "I64");
  EXPECT_EQ(std::memcmp(file.find("n")->bytes.data(), &number, 8), 0);
}

TEST(Safetensors, NamesSurviveWhateverIsInThem) {
  const Folder folder;
  const std::string name = std::string("\"\\ \n\x01 ü \xf0\x9f\x98\x80 /") + '\0';
  const float number = 1;
  safetensors::save(folder / "x", {{.name = name, .shape = {}, .data = &number}}, {{name, name}});
  const File file = safetensors::open(folder / "x");
  EXPECT_TRUE(file.find(name));
  EXPECT_EQ(file.metadata().at(name), name);
}

TEST(Safetensors, SaveRefusesWhatNoReaderTakesAndLeavesTheOldFile) {
  const Folder folder;
  write_text(folder / "x", "old");
  const float number = 1;
  const auto save = [&](std::vector<Entry> entries, std::map<std::string, std::string> metadata = {}) {
    return safetensors::try_save(folder / "x", std::move(entries), metadata);
  };
  const Entry good{.name = "a", .shape = {}, .data = &number};
  Entry bad = good;
  expect_failure(save({good, bad}), {"x\"", "two tensors are named \"a\""});
  bad.name = "__metadata__";
  expect_failure(save({bad}), {"reserves the name"});
  bad.name = "\xff";
  expect_failure(save({bad}), {"UTF-8"});
  expect_failure(save({good}, {{"k", "\xff"}}), {"metadata", "UTF-8"});
  bad = good;
  bad.shape = {std::numeric_limits<Index>::max()};
  expect_failure(save({bad}), {"overflows"});
  bad.shape = {-1};
  expect_failure(save({bad}), {"\"a\""});
  bad = good;
  bad.dtype = Dtype::other;
  bad.dtype_name = "F7";
  expect_failure(save({bad}), {"\"F7\"", "does not know"});
  EXPECT_EQ(read_text(folder / "x"), "old");
  EXPECT_EQ(folder.entries(), 1);
}

TEST(Safetensors, OpenNamesTheFile) {
  const Folder folder;
  write_text(folder / "broken.safetensors", "12345678{");
  expect_failure(safetensors::try_open(folder / "broken.safetensors"),
                 {"broken.safetensors\" is a text file (\"12345678{\")", "a safetensors file is expected"});
  write_text(folder / "broken.safetensors", "12345678\1");
  expect_failure(safetensors::try_open(folder / "broken.safetensors"),
                 {"broken.safetensors\" is not a safetensors file"});
  expect_failure(safetensors::try_open(folder / "missing"), {"missing\" cannot be opened", not_there});
  write_text(folder / "empty", "");
  expect_failure(safetensors::try_open(folder / "empty"), {"empty\" is empty"});
}

}  // namespace
}  // namespace tiedlora_test
