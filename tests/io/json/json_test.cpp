// A program of its own: it replaces operator new to see what parsing takes.
#include <gtest/gtest.h>
#include <malloc.h>

#include <cstdlib>
#include <new>
#include <tiedlora/io/json/json.hpp>

#include "support/io_files.hpp"

namespace {

std::size_t in_use = 0, peak = 0;  // single-threaded, as these tests are

// Not inlined: GCC would see free() behind a new that it does not take for ours.
[[gnu::noinline]] void release(void* p) {
  in_use -= ::malloc_usable_size(p);
  std::free(p);
}

}  // namespace

void* operator new(std::size_t size) {
  void* const p = std::malloc(size);
  if (!p) throw std::bad_alloc();
  in_use += ::malloc_usable_size(p);
  peak = std::max(peak, in_use);
  return p;
}
void operator delete(void* p) noexcept { release(p); }
void operator delete(void* p, std::size_t) noexcept { release(p); }

namespace tiedlora_test {
namespace {

using namespace tiedlora;

TEST(Json, ReadsEveryKindOfValue) {
  const auto json = try_parse_json(R"({"a":[1,-2,3.5,true,false,null,"x\u00e9"],"b":{"c":{}}, "d": [] })");
  ASSERT_TRUE(json) << json.error();
  EXPECT_EQ(json->dump(), R"({"a":[1,-2,3.5,true,false,null,"xé"],"b":{"c":{}},"d":[]})");
  EXPECT_EQ(try_parse_json(" 7 ")->dump(), "7");
}

TEST(Json, RefusesWhatIsNotJson) {
  for (const char* text : {"", " ", "{", "[1,]", "{\"a\":1,}", "{'a':1}", "nul", "1 2", "NaN", "1e999",
                           "\"\xff\"", "[1]]", "/* */ 1", "\"\\ud800\""})
    expect_failure(try_parse_json(text), {"not valid JSON"});
}

TEST(Json, RefusesANameTwice) {
  expect_failure(try_parse_json(R"({"a":1,"b":2,"a":1})"), {"name \"a\" twice"});
  expect_failure(try_parse_json(R"([{"x":{"k":1,"\u006b":1}}])"), {"name \"k\" twice"});
  EXPECT_TRUE(try_parse_json(R"([{"a":1},{"a":1,"b":{"a":1}}])"));
}

TEST(Json, RefusesDepth) {
  const auto nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_TRUE(try_parse_json(nested(32)));
  expect_failure(try_parse_json(nested(33)), {"deeper than 32"});
  expect_failure(try_parse_json(nested(5), 4), {"deeper than 4"});
  expect_failure(try_parse_json(std::string(3'000'000, '[')), {"deeper than 32"});
}

TEST(Json, SaysWhatPythonWritesThatIsNoJson) {
  for (const char* text :
       {R"({"lora_alpha": NaN})", R"({"lora_alpha": Infinity})", R"({"lora_alpha": -Infinity})"})
    expect_failure(try_parse_json(text), {"not valid JSON", "are Python's, not JSON"});
  expect_failure(try_parse_json(R"({"lora_alpha": 1e999})"), {"not valid JSON", "1e999"});
}

TEST(Json, TakesMemoryInProportionToTheText) {
  const auto repeated = [](std::string_view part, int times) {
    std::string text = "[";
    for (int i = 0; i < times; ++i) text += part;
    return text + "0]";
  };
  std::string names = "{";
  for (int i = 0; i < 50'000; ++i) names += "\"" + std::to_string(i) + "\":{},";
  names += "\"\":0}";
  for (const std::string& text :
       {repeated("0,", 100'000), repeated("[],", 100'000), repeated("{},", 100'000),
        repeated("\"\",", 100'000), repeated("[0],", 100'000), repeated("{\"\":0},", 50'000), names,
        std::string(1'000'000, '['), "\"" + std::string(1'000'000, 'x') + "\""}) {
    const std::size_t before = in_use;
    peak = in_use;
    const auto json = try_parse_json(text);
    EXPECT_LT(peak - before, 64 * text.size()) << text.substr(0, 20);
  }
}

TEST(Json, DumpsOnlyWhatReadsBack) {
  EXPECT_EQ(*try_dump_json(Json{{"b", 1}, {"a", "\n\"é"}}), R"({"a":"\n\"é","b":1})");
  EXPECT_EQ(*try_dump_json(Json(0.1)), "0.1");
  expect_failure(try_dump_json(Json("\xff")), {"UTF-8"});
  expect_failure(try_dump_json(Json{{"\xc3", 1}}), {"UTF-8"});
  expect_failure(try_dump_json(Json(std::numeric_limits<double>::infinity())), {"not finite"});
}

}  // namespace
}  // namespace tiedlora_test
