// Text to tokens and back, with the small vocabulary of TinyModel.
#include "tokenizer.hpp"

#include <gtest/gtest.h>

#include "chat.hpp"
#include "support/io_files.hpp"
#include "tiny_model.hpp"

namespace llama {
namespace {

using llama_test::TinyModel;
using Words = std::vector<std::string_view>;

Words split_words(std::string_view text, PreTokenizer kind = PreTokenizer::smollm) {
  Words result;
  WordCutter words(kind, text);
  for (auto word = words.next(); !word.empty(); word = words.next()) result.push_back(word);
  return result;
}

TEST(SplitWords, IsGpt2sWithNumbersApart) {
  EXPECT_EQ(split_words("Hello world"), (Words{"Hello", " world"}));
  EXPECT_EQ(split_words("I'm we'll 'tis O'Neil"),
            (Words{"I", "'m", " we", "'ll", " '", "tis", " O", "'", "Neil"}));
  EXPECT_EQ(split_words("x12 34"), (Words{"x", "1", "2", " ", "3", "4"}));
  EXPECT_EQ(split_words("a  b"), (Words{"a", " ", " b"}));
  EXPECT_EQ(split_words("a \n b  "), (Words{"a", " \n", " b", "  "}));
  EXPECT_EQ(split_words("\nx\t!"), (Words{"\n", "x", "\t", "!"}));
  EXPECT_EQ(split_words("Straße 你好。½"), (Words{"Straße", " 你好", "。", "½"}));
  EXPECT_EQ(split_words(""), Words{});
  EXPECT_EQ(split_words("x12 34", PreTokenizer::gpt2), (Words{"x", "12", " 34"}));
  EXPECT_EQ(split_words("a  1", PreTokenizer::gpt2), (Words{"a", " ", " 1"}));
}

TEST(SplitWords, IsLlama3s) {
  const auto split = [](std::string_view text) { return split_words(text, PreTokenizer::llama3); };
  EXPECT_EQ(split("12345 x"), (Words{"123", "45", " x"}));
  EXPECT_EQ(split("I'LL we'Re"), (Words{"I", "'LL", " we", "'Re"}));
  EXPECT_EQ(split("f(x)\n\ny"), (Words{"f", "(x", ")\n\n", "y"}));
  EXPECT_EQ(split("a \n \n  b"), (Words{"a", " \n \n", " ", " b"}));
  EXPECT_EQ(split("\tx\ry"), (Words{"\tx", "\r", "y"}));
  EXPECT_EQ(split_words("12 3", PreTokenizer::qwen2), (Words{"1", "2", " ", "3"}));
}

TEST(Unicode, RefusesWhatIsNoUtf8) {
  for (const std::string& text :
       {std::string("ab\xff"), std::string("\xc3"), std::string("\xc0\x80"), std::string("\xed\xa0\x80"),
        std::string("\xf4\x90\x80\x80"), std::string("\x80")}) {
    try {
      check_utf8(text);
      ADD_FAILURE() << "no error";
    } catch (const std::invalid_argument& error) {
      EXPECT_NE(std::string(error.what()).find("not UTF-8: byte "), std::string::npos) << error.what();
    }
  }
  EXPECT_NO_THROW(check_utf8("aß你🙂\xf4\x8f\xbf\xbf"));
}

class TokenizerTest : public ::testing::Test {
 protected:
  TokenizerTest() { write(); }
  void write() {
    model.write(folder / "model.gguf");
    file.emplace(tiedlora::gguf::open(folder / "model.gguf"));
  }
  std::vector<std::string> pieces(const Tokenizer& tokenizer, std::string_view text) const {
    std::vector<std::string> result;
    for (const Token token : tokenizer.encode(text, true))
      result.push_back(model.tokens[static_cast<std::size_t>(token)]);
    return result;
  }
  template <class Call>
  static void expect_error(const Call& call, std::string_view part) {
    std::string text;
    try {
      call();
    } catch (const std::exception& error) {
      text = error.what();
    }
    EXPECT_NE(text.find(part), text.npos) << "no \"" << part << "\" in: \"" << text << "\"";
  }

  tiedlora_test::Folder folder;
  TinyModel model{TinyModel::Numbers::floats};
  std::optional<tiedlora::gguf::File> file;
};

using Pieces = std::vector<std::string>;

TEST_F(TokenizerTest, MergesByRank) {
  const Tokenizer tokenizer(*file);
  EXPECT_EQ(pieces(tokenizer, "hello"), (Pieces{"hello"}));
  EXPECT_EQ(pieces(tokenizer, "hell"), (Pieces{"hell"}));
  // "ll" comes before "he": of three l the first two are merged, and "el" is not a pair.
  EXPECT_EQ(pieces(tokenizer, "helllo"), (Pieces{"hell", "l", "o"}));
  EXPECT_EQ(pieces(tokenizer, "hello world"), (Pieces{"hello", "Ġwor", "l", "d"}));
  EXPECT_EQ(pieces(tokenizer, "ho or"), (Pieces{"h", "o", "Ġ", "or"}));
}

TEST_F(TokenizerTest, Llama3TakesWordsThatAreTokens) {
  std::erase(model.merges, "hell o");
  write();
  EXPECT_EQ(pieces(Tokenizer(*file), "hello"), (Pieces{"hell", "o"}));
  model.pre = "llama-bpe";
  write();
  EXPECT_EQ(pieces(Tokenizer(*file), "hello"), (Pieces{"hello"}));
}

TEST_F(TokenizerTest, BytesComeBack) {
  const Tokenizer tokenizer(*file);
  for (const std::string text : {"hello world 42", "Straße 你好 🙂\n\t", " two  blanks", "\x01\x7f"}) {
    std::string back;
    for (const Token token : tokenizer.encode(text, false)) back += tokenizer.decode(token);
    EXPECT_EQ(back, text);
  }
}

TEST_F(TokenizerTest, ControlTokensOnlyWhereWanted) {
  const Tokenizer tokenizer(*file);
  EXPECT_EQ(pieces(tokenizer, "<|im_start|>he<|im_end|>"), (Pieces{"<|im_start|>", "he", "<|im_end|>"}));
  EXPECT_EQ(tokenizer.encode("<|im_end|>", false).size(), 10u);
  EXPECT_EQ(tokenizer.decode(1), "");
  EXPECT_TRUE(tokenizer.is_end(2));
  EXPECT_TRUE(tokenizer.is_end(0));
  EXPECT_FALSE(tokenizer.is_end(1));
}

TEST_F(TokenizerTest, ChatFollowsTheTemplate) {
  const Tokenizer tokenizer(*file);
  const Chat chat(*file, tokenizer);
  EXPECT_EQ(chat.default_system(), "Be brief");
  EXPECT_EQ(chat.begin("Be brief", "hello"),
            tokenizer.encode("<|im_start|>system\nBe "
                             "brief<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n",
                             true));
  EXPECT_EQ(chat.next("hello"),
            tokenizer.encode("\n<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n", true));
  // What a user says cannot end his turn.
  const auto tokens = chat.begin("", "<|im_end|>");
  EXPECT_EQ(std::count(tokens.begin(), tokens.end(), 2), 1);
}

TEST_F(TokenizerTest, RefusesOtherVocabularies) {
  model.pre = "tekken";
  write();
  expect_error([&] { Tokenizer tokenizer(*file); },
               "is \"tekken\"; known are gpt-2, gpt2, phi-2, smollm, llama-bpe");
  model.pre = "smollm", model.merges.emplace_back("x y");
  write();
  expect_error([&] { Tokenizer tokenizer(*file); },
               "merge 8 of the model's vocabulary joins texts that are not tokens");
  model.merges.back() = "xy";
  write();
  expect_error([&] { Tokenizer tokenizer(*file); }, "merge 8 of the model's vocabulary is not a pair");
  model.merges.pop_back(), model.token_types.pop_back();
  write();
  expect_error([&] { Tokenizer tokenizer(*file); }, "token_type");
  model.token_types.push_back(1), model.tokens[3 + 'a'] = "aaa", model.chat_template = "none";
  write();
  const Tokenizer tokenizer(*file);
  expect_error([&] { tokenizer.encode("abc", false); }, "no token for the byte 0x61");
  expect_error([&] { Chat chat(*file, tokenizer); }, "--raw");
}

}  // namespace
}  // namespace llama
