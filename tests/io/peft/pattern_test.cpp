// Python's re says what matches: the expectations here are its answers.
#include <gtest/gtest.h>

#include <string>
#include <tiedlora/io/peft/pattern.hpp>

#include "support/io_files.hpp"

namespace tiedlora_test {
namespace {

using tiedlora::detail::Pattern;

bool full(std::string_view pattern, std::string_view text) {
  const auto made = Pattern::try_make(pattern);
  EXPECT_TRUE(made) << pattern << " " << (made ? "" : made.error());
  return made && made->matches(text);
}
bool name(std::string_view pattern, std::string_view text) {
  const auto made = Pattern::try_make(pattern);
  EXPECT_TRUE(made) << pattern;
  return made && made->matches_name(text);
}

TEST(Pattern, MatchesTheWholeText) {
  EXPECT_TRUE(full("abc", "abc"));
  EXPECT_FALSE(full("abc", "abcd"));
  EXPECT_FALSE(full("abc", "xabc"));
  EXPECT_FALSE(full("abc", "ab"));
  EXPECT_TRUE(full("", ""));
  EXPECT_FALSE(full("", "a"));
  EXPECT_TRUE(full("a.c", "abc"));
  EXPECT_FALSE(full("a\\.c", "abc"));
  EXPECT_FALSE(full("a.c", "a\nc"));
}

TEST(Pattern, Repeats) {
  EXPECT_TRUE(full("ab*c", "ac"));
  EXPECT_TRUE(full("ab*c", "abbbc"));
  EXPECT_FALSE(full("ab+c", "ac"));
  EXPECT_TRUE(full("ab+?c", "abbc"));
  EXPECT_TRUE(full("ab?c", "abc"));
  EXPECT_FALSE(full("ab?c", "abbc"));
  EXPECT_TRUE(full("(ab)*", "abab"));
  EXPECT_FALSE(full("(ab)*", "aba"));
  EXPECT_TRUE(full("(a*)*b", "aaab"));
  EXPECT_TRUE(full("(?:a|b)+", "abba"));
  EXPECT_TRUE(full("(a?)?c", "ac"));
  EXPECT_TRUE(full(".*decoder.*(SelfAttention|EncDecAttention).*(q|v)$", "m.decoder.0.SelfAttention.q"));
}

TEST(Pattern, CountsInBraces) {
  EXPECT_TRUE(full("a{2}", "aa"));
  EXPECT_FALSE(full("a{2}", "a"));
  EXPECT_FALSE(full("a{2}", "aaa"));
  for (const auto& [text, right] : {std::pair("", false), {"a", true}, {"aaa", true}, {"aaaa", false}})
    EXPECT_EQ(full("a{1,3}", text), right) << text;
  EXPECT_TRUE(full("a{,2}", ""));
  EXPECT_FALSE(full("a{,2}", "aaa"));
  EXPECT_TRUE(full("a{2,}", "aaaaa"));
  EXPECT_FALSE(full("a{2,}", "a"));
  EXPECT_TRUE(full("a{,}b", "aaab"));
  EXPECT_TRUE(full("xa{0}y", "xy"));
  EXPECT_TRUE(full("(ab|c){2,3}?", "abcab"));
  EXPECT_FALSE(full("(ab|c){2,3}", "abcabc"));
  EXPECT_TRUE(full("((a|b){2}c){2}", "abcbac"));
  EXPECT_TRUE(full("[0-9]{1,2}\\.q", "17.q"));
  EXPECT_TRUE(name("model\\.layers\\.\\d{1,2}\\.self_attn\\.q_proj", "model.layers.0.self_attn.q_proj"));
  EXPECT_FALSE(name("layers\\.\\d{1}\\.q", "layers.10.q"));
  // A brace that is not a count stands for itself.
  EXPECT_TRUE(full("a{b}", "a{b}"));
  EXPECT_TRUE(full("{a", "{a"));
  EXPECT_TRUE(full("a{}", "a{}"));
  EXPECT_TRUE(full("a{1,x}", "a{1,x}"));
}

TEST(Pattern, NamesOfGroupsAndAnchorsOfTexts) {
  EXPECT_TRUE(full("(?P<layer>\\d+)\\.q", "3.q"));
  EXPECT_TRUE(full("\\Aab\\Z", "ab"));
  EXPECT_FALSE(full("a\\Ab", "ab"));
}

TEST(Pattern, Alternates) {
  EXPECT_TRUE(full("a|bc|d", "bc"));
  EXPECT_FALSE(full("a|bc|d", "ac"));
  EXPECT_TRUE(full("x(|y)z", "xz"));
  EXPECT_TRUE(full("(a|ab)(c|bcd)", "abcd"));
}

TEST(Pattern, KnowsSetsOfCharacters) {
  EXPECT_TRUE(full("[a-c0]+", "abc0"));
  EXPECT_FALSE(full("[^a-c]", "b"));
  EXPECT_TRUE(full("[^a-c]", "d"));
  EXPECT_TRUE(full("[]x]+", "x]"));
  EXPECT_TRUE(full("[a-]+", "a-"));
  EXPECT_TRUE(full("[\\d_]+", "1_2"));
  EXPECT_TRUE(full("\\d\\w\\s\\D\\W\\S", "1_ x.y"));
  EXPECT_FALSE(full("\\d", "x"));
  EXPECT_TRUE(full("\\[\\]\\(\\)\\*\\\\", "[]()*\\"));
  EXPECT_TRUE(full("[\\]\\-]+", "]-"));
  EXPECT_TRUE(full("[\\w-]+", "a-"));
}

TEST(Pattern, KnowsAnchors) {
  EXPECT_TRUE(full("^abc$", "abc"));
  EXPECT_FALSE(full("a^bc", "abc"));
  EXPECT_FALSE(full("ab$c", "abc"));
  EXPECT_TRUE(full("(^a|b)c", "ac"));
}

TEST(Pattern, MatchesNamesFromADotOn) {
  EXPECT_TRUE(name("q_proj", "q_proj"));
  EXPECT_TRUE(name("q_proj", "layers.0.q_proj"));
  EXPECT_FALSE(name("q_proj", "layers.0.xq_proj"));
  EXPECT_FALSE(name("^q_proj", "layers.0.q_proj"));
  EXPECT_TRUE(name("layers\\.(0|2)\\..*_proj", "model.layers.2.mlp.up_proj"));
  EXPECT_FALSE(name("layers\\.(0|2)\\..*_proj", "model.layers.12.mlp.up_proj"));
  EXPECT_TRUE(name("a|b", "x.b"));
}

TEST(Pattern, LooksAround) {
  // What people write to leave a model's vision tower alone.
  const char* text_only = "^(?!.*(?:vision|visual)).*\\.(?:q|v)_proj$";
  EXPECT_TRUE(full(text_only, "model.layers.0.self_attn.q_proj"));
  EXPECT_FALSE(full(text_only, "model.vision_tower.layers.0.self_attn.q_proj"));
  EXPECT_TRUE(full("(?!a)b", "b"));
  EXPECT_FALSE(full("(?!b)b", "b"));
  EXPECT_TRUE(full("a(?=bc)b.", "abc"));
  EXPECT_FALSE(full("a(?=bc)b.", "abd"));
  EXPECT_TRUE(full("a(?=b*c$)[bc]+", "abbc"));
  EXPECT_FALSE(full("a(?=b*c$)[bc]+", "abbcb"));
  EXPECT_TRUE(full("(?=.*b).(?=.*a)..", "xba"));
  EXPECT_TRUE(full("(?=.*b).(?=.*a)..", "xab"));
  EXPECT_FALSE(full("(?=.*b).(?=.*a)..", "axb"));
  EXPECT_TRUE(full(".*(?<=mlp)\\.up", "x.mlp.up"));
  EXPECT_FALSE(full(".*(?<=mlp)\\.up", "x.mlq.up"));
  EXPECT_TRUE(full(".*(?<!vision\\.)q", "text.q"));
  EXPECT_FALSE(full(".*(?<!vision\\.)q", "vision.q"));
  EXPECT_TRUE(full("(?!(?!ab)).*", "abc"));  // one inside another
  EXPECT_FALSE(full("(?!(?!ab)).*", "acb"));
  EXPECT_TRUE(full("(?=(a|bb){2,3}c)[abc]*", "abbc"));
  EXPECT_FALSE(full("(?=(a|bb){2,3}c)[abc]*", "abc"));
  // After a dot, the whole name is looked at.
  EXPECT_TRUE(name("(?<=mlp\\.)up", "layers.0.mlp.up"));
  EXPECT_FALSE(name("(?<=mlp\\.)up", "layers.0.attn.up"));
  expect_failure(Pattern::try_make([] {
                   std::string many;
                   for (int i = 0; i < 65; ++i) many += "(?=a)";
                   return many;
                 }()),
                 {"too many look-arounds"});
}

TEST(Pattern, KnowsTheEdgesOfWordsAndComments) {
  EXPECT_TRUE(full("\\bmodel\\b.*", "model.layers"));
  EXPECT_FALSE(full("\\bmodel\\b.*", "models"));
  EXPECT_FALSE(full("model\\B.*", "model.layers"));
  EXPECT_TRUE(full("model\\B.*", "models"));
  EXPECT_TRUE(full("a\\b", "a"));
  EXPECT_TRUE(full("a(?#the first)b", "ab"));
}

// The default of a popular trainer for models of language and vision.
TEST(Pattern, ReadsALongOneFromPractice) {
  const char* pattern =
      "(?:.*?(?:language|text).*?(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense).*?(?:k_proj|v_proj|"
      "q_proj|o_proj).*?)|(?:\\bmodel\\.layers\\.[\\d]{1,}\\.(?:self_attn|attention|attn|mlp|feed_forward|"
      "ffn|"
      "dense)\\.(?:(?:k_proj|v_proj|q_proj|o_proj)))";
  EXPECT_TRUE(full(pattern, "model.language_model.layers.3.self_attn.q_proj"));
  EXPECT_TRUE(full(pattern, "model.layers.13.self_attn.o_proj"));
  EXPECT_FALSE(full(pattern, "model.visual.blocks.3.attn.qkv"));
  EXPECT_FALSE(full(pattern, "model.layers.x.self_attn.o_proj"));
}

TEST(Pattern, IgnoresTheCaseIfTold) {
  EXPECT_TRUE(full("(?i).*Q_proj", "a.q_PROJ"));
  EXPECT_FALSE(full(".*Q_proj", "a.q_proj"));
  EXPECT_TRUE(full("(?i)[a-c]+", "aBC"));
  EXPECT_FALSE(full("(?i)[^a]", "A"));
}

TEST(Pattern, SaysWhatItDoesNotRead) {
  for (const char* pattern :
       {"(?=a",   "(?!a))",  "a(?i)", "(?P=x)", "(?P<", "a{2}{3}", "a{2,1}",  "{2}",    "(a{999}){999}",
        "(a)\\1", "(?>a)b",  "*a",    "a**",    "(a",   "a)",      "[a",      "[z-a]",  "a\\",
        "+",      "[a-\\d]", "a*+",   "(?<a)",  "(?#a", "(?<=[a)", "[\\.-9]", "[\\d-x]"})
    expect_failure(Pattern::try_make(pattern), {"at character", "not supported"});
  expect_failure(Pattern::try_make(std::string(65537, 'a')), {"has 65537 characters; at most 65536"});
  expect_failure(Pattern::try_make(std::string(101, '(') + std::string(101, ')')), {"nested too deeply"});
}

// Backtracking takes 2^30 steps for these; a stack frame per character would not survive the second.
TEST(Pattern, TakesLinearTimeAndNoStack) {
  std::string optional, required;
  for (int i = 0; i < 30; ++i) optional += "a?", required += "a";
  EXPECT_TRUE(full(optional + required, required));
  EXPECT_FALSE(full("(a*)*b", std::string(100'000, 'a')));
  EXPECT_TRUE(full("(a|b|ab)*", std::string(100'000, 'a')));
  EXPECT_TRUE(full("((?=a*$)a)*", std::string(100'000, 'a')));
  EXPECT_FALSE(full("((?<!a*)a)*", std::string(100'000, 'a')));
  // A count of a part that takes long to read.
  std::string set = "[";
  for (int i = 0; i < 21'000; ++i) set += "!-~";
  expect_failure(Pattern::try_make(set + "]{262000}"), {"make the pattern too large"});
}

}  // namespace
}  // namespace tiedlora_test
