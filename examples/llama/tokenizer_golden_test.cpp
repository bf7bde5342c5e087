// Tokens as the package tokenizers and llama.cpp give them, for every kind of tokenizer that is read.
#include <gtest/gtest.h>

#include "tokenizer.hpp"
#include "tokenizer_golden.hpp"

namespace llama {
namespace {

using llama_test::GoldenTokenizer;
using llama_test::json;

class TokenizerGoldenTest : public ::testing::TestWithParam<const char*> {
 protected:
  GoldenTokenizer golden{GetParam()};
  tiedlora_test::Folder folder;

  Tokenizer from_folder() const {
    golden.write_folder(folder.path());
    return Tokenizer::from_hugging_face(folder.path());
  }
  void compare(const Tokenizer& tokenizer, const char* plain, const char* special) const {
    for (std::size_t i = 0; i < golden.texts.size(); ++i) {
      const std::string& text = golden.texts[i];
      SCOPED_TRACE(json(text).dump());
      EXPECT_EQ(json(tokenizer.encode(text, false)), golden.expected(plain, "plain", i));
      json with_control = golden.golden[special][i];
      if (with_control.is_null()) with_control = golden.expected("special", "plain", i);
      EXPECT_EQ(json(tokenizer.encode(text, true)), with_control);
    }
  }
};

class GgufGoldenTest : public TokenizerGoldenTest {};   // those that llama.cpp has
class WordsGoldenTest : public TokenizerGoldenTest {};  // the byte-level ones

TEST_P(TokenizerGoldenTest, TokenizerJsonIsThatOfTokenizers) {
  const Tokenizer tokenizer = from_folder();
  compare(tokenizer, "plain", "special");
  golden.merges_as_pairs = false;
  golden.write_folder(folder.path());
  compare(Tokenizer::from_hugging_face(folder / "tokenizer.json"), "plain", "special");
}

TEST_P(GgufGoldenTest, IsThatOfLlamaCpp) {
  tiedlora_test::write_text(folder / "model.gguf", golden.gguf());
  const auto file = tiedlora::gguf::open(folder / "model.gguf");
  const Tokenizer tokenizer = Tokenizer::from_gguf(file);
  EXPECT_EQ(tokenizer.size(), golden.tokens.size());
  compare(tokenizer, "llama_cpp_plain", "llama_cpp_special");
  const Tokenizer other = from_folder();
  EXPECT_EQ(tokenizer.bos(), other.bos());
  EXPECT_EQ(tokenizer.adds_bos(), other.adds_bos());
  if (golden.golden["config"]["eos_token"].is_string()) {
    EXPECT_EQ(tokenizer.eos(), other.eos());
  }
}

TEST_P(WordsGoldenTest, AreThoseOfThePreTokenizer) {
  const auto kind = find_pre_tokenizer(golden.golden["gguf"]["pre"].get<std::string>());
  ASSERT_TRUE(kind);
  for (std::size_t i = 0; i < golden.texts.size(); ++i) {
    std::vector<std::size_t> sizes;
    WordCutter words(*kind, golden.texts[i]);
    for (auto word = words.next(); !word.empty(); word = words.next()) sizes.push_back(word.size());
    EXPECT_EQ(json(sizes), golden.golden["words"][i]) << json(golden.texts[i]);
  }
}

TEST_P(TokenizerGoldenTest, TextsComeBack) {
  const Tokenizer tokenizer = from_folder();
  for (std::size_t i = 0; i < golden.texts.size(); ++i) {
    const json& decoded = golden.golden["decoded"][i];
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(golden.texts[i], false)),
              decoded.is_null() ? golden.texts[i] : decoded.get<std::string>());
  }
}

TEST_P(TokenizerGoldenTest, EndsAreTheTexts) {
  const Tokenizer tokenizer = from_folder();
  for (const std::string& text : golden.texts) {
    const Encoding encoding = tokenizer.encode_with_ends(text);
    EXPECT_EQ(encoding.tokens, tokenizer.encode(text, false));
    ASSERT_EQ(encoding.ends.size(), encoding.tokens.size());
    if (tokenizer.normalized(text) != text) continue;
    std::size_t begin = 0;
    for (std::size_t i = 0; i < encoding.ends.size(); ++i) {
      const std::size_t end = encoding.ends[i];
      ASSERT_GE(end, begin);
      std::string part = text.substr(begin, end - begin), decoded = tokenizer.decode(encoding.tokens[i]);
      begin = end;
      if (tokenizer.piece(encoding.tokens[i]) == "import") continue;  // takes blanks in
      if (decoded.empty()) decoded = tokenizer.piece(encoding.tokens[i]);
      // The blank before a text is in the token, not in the text; a "▁" of the text comes back as a blank.
      if (part.find(blank_mark) != part.npos) continue;
      if (decoded != part) {
        EXPECT_EQ(decoded, " " + part) << json(text) << " token " << i;
      }
    }
    EXPECT_EQ(begin, text.size());
  }
}

const auto name_of = [](const auto& test) { return std::string(test.param); };
INSTANTIATE_TEST_SUITE_P(All, TokenizerGoldenTest,
                         ::testing::Values("gpt2", "smollm", "llama3", "qwen2", "llama2", "mistral",
                                           "metaspace", "no_prefix"),
                         name_of);
INSTANTIATE_TEST_SUITE_P(All, GgufGoldenTest,
                         ::testing::Values("gpt2", "smollm", "llama3", "qwen2", "llama2", "no_prefix"),
                         name_of);
INSTANTIATE_TEST_SUITE_P(All, WordsGoldenTest, ::testing::Values("gpt2", "smollm", "llama3", "qwen2"),
                         name_of);

TEST(Nfc, IsThatOfUnicode) {
  EXPECT_EQ(to_nfc("abc \u00e9"), "abc \u00e9");
  EXPECT_EQ(to_nfc("e\u0301"), "\u00e9");
  EXPECT_EQ(to_nfc("\u212b"), "\u00c5");                // a singleton
  EXPECT_EQ(to_nfc("q\u0307\u0323"), "q\u0323\u0307");  // the order of classes
  EXPECT_EQ(to_nfc("a\u0327\u0301"), "\u00e1\u0327");   // past a mark of a lower class
  EXPECT_EQ(to_nfc("a\u0301\u0301"), "\u00e1\u0301");   // the second stays
  EXPECT_EQ(to_nfc("a\u033d\u0301"), "a\u033d\u0301");  // not past a mark of its own class
  EXPECT_EQ(to_nfc("\u0958"), "\u0915\u093c");          // excluded from composition
  EXPECT_EQ(to_nfc("\u1100\u1161\u11a8"), "\uac01");    // Hangul
  EXPECT_EQ(to_nfc("\uac00\u11a7"), "\uac00\u11a7");    // no trailing consonant
  EXPECT_EQ(to_nfc("\u01d6"), "\u01d6");
  EXPECT_EQ(to_nfc("u\u0308\u0304"), "\u01d6");  // in two steps
  EXPECT_TRUE(is_surely_nfc("天地 \uac00 é"));
  EXPECT_FALSE(is_surely_nfc("e\u0301"));
}

}  // namespace
}  // namespace llama
