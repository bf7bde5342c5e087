// Fields of an object: the first thing that is wrong, and nothing after it.
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <tiedlora/io/json/fields.hpp>

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using tiedlora::detail::JsonFields;

TEST(JsonFields, GiveWhatIsThere) {
  const Json json = {{"text", "abc"}, {"yes", true},    {"half", 0.5},
                     {"minus", -3},   {"list", {1, 2}}, {"kind", "b"}};
  std::string problem;
  JsonFields fields(json, "x", problem);
  constexpr std::string_view kinds[] = {"a", "b"};
  EXPECT_EQ(fields.text("text"), "abc");
  EXPECT_TRUE(fields.boolean("yes"));
  EXPECT_EQ(fields.number("half"), 0.5);
  EXPECT_EQ(fields.integer("minus", -5, 5), -3);
  EXPECT_EQ(fields.array("list").size(), 2u);
  EXPECT_EQ(fields.one_of("kind", kinds), 1u);
  EXPECT_FALSE(fields.has("other"));
  fields.finish();
  EXPECT_EQ(problem, "");
}

std::string problem_of(const Json& json, const auto& read) {
  std::string problem;
  JsonFields fields(json, "x", problem);
  read(fields);
  fields.finish();
  return problem;
}

TEST(JsonFields, SayWhatIsWrong) {
  const Json json = {{"a", 1}};
  EXPECT_EQ(problem_of(json, [](auto& f) { f.text("a"); }), "x has \"a\", which is not a string");
  EXPECT_EQ(problem_of(json, [](auto& f) { f.boolean("a"); }),
            "x has \"a\", which is neither true nor false");
  EXPECT_EQ(problem_of(json, [](auto& f) { f.array("a"); }), "x has \"a\", which is not an array");
  EXPECT_EQ(problem_of(json, [](auto& f) { f.integer("a", 2, 3); }),
            "x has \"a\", which is not an integer from 2 to 3");
  EXPECT_EQ(problem_of(json, [](auto& f) { f.number("a"), f.number("b"); }), "x has no \"b\"");
  EXPECT_EQ(problem_of(json, [](auto&) {}), "x has the unknown field \"a\"");
  EXPECT_EQ(problem_of(Json(3), [](auto&) {}), "x is not an object");
  constexpr std::string_view kinds[] = {"u", "v"};
  EXPECT_EQ(problem_of({{"k", "w"}}, [&](auto& f) { f.one_of("k", kinds); }),
            "x has \"k\", which is \"w\", not one of u, v");
}

TEST(JsonFields, KeepTheFirstProblemAndReadNothingMore) {
  std::string problem;
  const Json json = {{"a", 1}, {"b", "text"}};
  JsonFields fields(json, "x", problem);
  fields.text("a");
  EXPECT_EQ(fields.text("b"), "");
  fields.number("missing");
  fields.finish();
  EXPECT_EQ(problem, "x has \"a\", which is not a string");
}

TEST(JsonFields, AFieldThatIsTakenTwiceHidesNoUnknownOne) {
  const Json json = {{"a", 1}, {"b", 2}};
  EXPECT_EQ(problem_of(json, [](auto& f) { f.value("a"), f.integer("a", 0); }),
            "x has the unknown field \"b\"");
}

TEST(JsonFields, IntegersOfAllSizes) {
  const Json json = {{"most", std::numeric_limits<std::uint64_t>::max()}, {"least", -1}, {"real", 1.0}};
  std::string problem;
  EXPECT_EQ(JsonFields(json, "x", problem).natural("most"), std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(problem, "");
  for (const char* name : {"least", "real"}) {
    problem.clear();
    EXPECT_EQ(JsonFields(json, "x", problem).natural(name), 0u);
    EXPECT_NE(problem, "") << name;
  }
  problem.clear();
  JsonFields(json, "x", problem).integer("most", 0);
  EXPECT_NE(problem, "");
}

}  // namespace
}  // namespace tiedlora_test
