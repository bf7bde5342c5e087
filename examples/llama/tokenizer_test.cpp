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
}

TEST(Characters, RefuseWhatIsNoUtf8) {
  for (const std::string& text :
       {std::string("ab\xff"), std::string("\xc3"), std::string("\xc0\x80"), std::string("\xed\xa0\x80"),
        std::string("\xf4\x90\x80\x80"), std::string("\x80")}) {
    try {
      characters(text);
      ADD_FAILURE() << "no error";
    } catch (const std::invalid_argument& error) {
      EXPECT_NE(std::string(error.what()).find("no UTF-8: byte "), std::string::npos) << error.what();
    }
  }
  EXPECT_EQ(characters("aß你🙂").size(), 4u);
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
  // "ll" comes before "he": of three l the first two are merged, and "el" is no pair.
  EXPECT_EQ(pieces(tokenizer, "helllo"), (Pieces{"hell", "l", "o"}));
  EXPECT_EQ(pieces(tokenizer, "hello world"), (Pieces{"hello", "Ġwor", "l", "d"}));
  EXPECT_EQ(pieces(tokenizer, "ho or"), (Pieces{"h", "o", "Ġ", "or"}));
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
  model.pre = "llama-bpe";
  write();
  expect_error([&] { Tokenizer tokenizer(*file); }, "pre-tokenizer \"llama-bpe\"");
  model.pre = "smollm", model.merges.emplace_back("x y");
  write();
  expect_error([&] { Tokenizer tokenizer(*file); },
               "merge 8 of the model's vocabulary joins what are no tokens");
  model.merges.back() = "xy";
  write();
  expect_error([&] { Tokenizer tokenizer(*file); }, "merge 8 of the model's vocabulary is no pair");
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
