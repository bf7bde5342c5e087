// What a tokenizer.json may say: small ones by hand, right and refused.
#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "support/io_files.hpp"
#include "tokenizer.hpp"

namespace llama {
namespace {

using nlohmann::json;
using Pieces = std::vector<std::string>;

/// SentencePiece's kind, with the letters of a few words.
json small() {
  json model = {{"type", "BPE"},          {"unk_token", "<unk>"}, {"fuse_unk", true},
                {"byte_fallback", false}, {"dropout", nullptr},   {"vocab", json::object()},
                {"merges", json::array()}};
  int id = 0;
  for (const char* token : {"<unk>", "<s>", "</s>", "▁", "a", "b", "c", "ab", "▁a", "b▁", "b▁a", "▁▁"})
    model["vocab"][token] = id++;
  for (const auto& [left, right] : {std::pair("b", "▁"), {"b▁", "a"}, {"▁", "a"}, {"a", "b"}, {"▁", "▁"}})
    model["merges"].push_back({left, right});
  json added = json::array();
  for (int i = 0; i < 3; ++i)
    added.push_back({{"id", i},
                     {"content", Pieces{"<unk>", "<s>", "</s>"}[static_cast<std::size_t>(i)]},
                     {"special", true},
                     {"normalized", false}});
  return {{"added_tokens", added},
          {"normalizer", nullptr},
          {"pre_tokenizer",
           {{"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "first"}, {"split", false}}},
          {"post_processor", nullptr},
          {"model", model}};
}

class TokenizerJsonTest : public ::testing::Test {
 protected:
  Tokenizer open(const json& tokenizer, const json& config = json::object()) const {
    tiedlora_test::write_text(folder / "tokenizer.json", tokenizer.dump());
    tiedlora_test::write_text(folder / "tokenizer_config.json", config.dump());
    return Tokenizer::from_hugging_face(folder.path());
  }
  static Pieces pieces(const Tokenizer& tokenizer, std::string_view text) {
    Pieces result;
    for (const Token token : tokenizer.encode(text, true)) result.push_back(tokenizer.piece(token));
    return result;
  }
  /// Changed like that it is refused, with this in the message.
  void expect_refusal(const std::function<void(json&)>& change, std::string_view part) const {
    json tokenizer = small();
    change(tokenizer);
    try {
      open(tokenizer);
      ADD_FAILURE() << "no error; expected \"" << part << "\"";
    } catch (const std::runtime_error& error) {
      const std::string_view text = error.what();
      EXPECT_NE(text.find(part), text.npos) << "no \"" << part << "\" in: " << text;
      EXPECT_NE(text.find("tokenizer.json\": "), text.npos) << text;
    }
  }

  tiedlora_test::Folder folder;
};

TEST_F(TokenizerJsonTest, MergesAcrossBlanksWhereTokensDo) {
  EXPECT_EQ(pieces(open(small()), "ab ac"), (Pieces{"▁a", "b▁a", "c"}));
  json without = small();
  for (const char* token : {"b▁", "b▁a"}) without["model"]["vocab"].erase(token);
  without["model"]["merges"].erase(0), without["model"]["merges"].erase(0);
  EXPECT_EQ(pieces(open(without), "ab ac"), (Pieces{"▁a", "b", "▁a", "c"}));
}

TEST_F(TokenizerJsonTest, WhatIsNoTokenIsUnknown) {
  EXPECT_EQ(pieces(open(small()), "axyz b"), (Pieces{"▁a", "<unk>", "▁", "b"}));
  json several = small();
  several["model"]["fuse_unk"] = false;
  EXPECT_EQ(pieces(open(several), "axyb"), (Pieces{"▁a", "<unk>", "<unk>", "b"}));
  several["model"]["unk_token"] = nullptr;
  try {
    open(several).encode("x", false);
    ADD_FAILURE() << "no error";
  } catch (const std::invalid_argument& error) {
    EXPECT_NE(std::string(error.what()).find("no token for the character \"x\""), std::string::npos)
        << error.what();
  }
}

TEST_F(TokenizerJsonTest, BlanksBeforeText) {
  const auto with = [this](const char* scheme, bool split) {
    json tokenizer = small();
    tokenizer["pre_tokenizer"]["prepend_scheme"] = scheme;
    tokenizer["pre_tokenizer"]["split"] = split;
    return open(tokenizer);
  };
  EXPECT_EQ(pieces(with("first", false), "a<s>a"), (Pieces{"▁a", "<s>", "a"}));
  EXPECT_EQ(pieces(with("always", false), "a<s>a"), (Pieces{"▁a", "<s>", "▁a"}));
  EXPECT_EQ(pieces(with("never", false), "a<s>a"), (Pieces{"a", "<s>", "a"}));
  EXPECT_EQ(pieces(with("always", false), " a"), (Pieces{"▁a"}));
  EXPECT_EQ(pieces(with("never", false), "c  c"), (Pieces{"c", "▁▁", "c"}));
  EXPECT_EQ(pieces(with("never", true), "c  c"), (Pieces{"c", "▁", "▁", "c"}));
}

TEST_F(TokenizerJsonTest, LongestNameCounts) {
  json tokenizer = small();
  for (const char* name : {"<s", "<s>c"})
    tokenizer["added_tokens"].push_back({{"id", 9 + std::string_view(name).size()},
                                         {"content", name},
                                         {"special", true},
                                         {"normalized", false}});
  EXPECT_EQ(pieces(open(tokenizer), "<s>c<s>a<sc"), (Pieces{"<s>c", "<s>", "a", "<s", "c"}));
}

TEST_F(TokenizerJsonTest, WordsThatAreTokensMayIgnoreMerges) {
  json tokenizer = small();
  tokenizer["pre_tokenizer"]["prepend_scheme"] = "never";
  tokenizer["model"]["vocab"]["bc"] = 12;  // no merge makes it
  EXPECT_EQ(pieces(open(tokenizer), "bc"), (Pieces{"b", "c"}));
  tokenizer["model"]["ignore_merges"] = true;
  EXPECT_EQ(pieces(open(tokenizer), "bc"), (Pieces{"bc"}));
}

TEST_F(TokenizerJsonTest, ConfigNamesTokens) {
  json tokenizer = small();
  Tokenizer plain = open(tokenizer);
  EXPECT_EQ(plain.bos(), std::nullopt);
  EXPECT_FALSE(plain.adds_bos());
  EXPECT_FALSE(plain.is_end(2));
  const json bos = {{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}}, text = {{"Sequence", {{"id", "A"}}}};
  tokenizer["post_processor"] = {{"type", "TemplateProcessing"}, {"single", {bos, text}}};
  const Tokenizer with = open(tokenizer, {{"eos_token", {{"content", "</s>"}}}});
  EXPECT_EQ(with.bos(), Token{1});
  EXPECT_TRUE(with.adds_bos());
  EXPECT_TRUE(with.is_end(2));
  EXPECT_EQ(with.eos(), Token{2});
  EXPECT_FALSE(open(tokenizer, {{"bos_token", "<s>"}, {"add_bos_token", false}}).adds_bos());
  expect_refusal(
      [&](json& t) { t["post_processor"] = {{"type", "TemplateProcessing"}, {"single", {text, bos}}}; },
      "adds tokens other than one at the start");
}

TEST_F(TokenizerJsonTest, RefusesWhatIsNotRead) {
  expect_refusal([](json& t) { t["model"]["vocab"]["z"] = 16777215; }, "token id 16777215");
  expect_refusal([](json& t) { t.erase("model"); }, "it has no \"model\"");
  expect_refusal([](json& t) { t["model"]["type"] = "Unigram"; },
                 "\"model.type\" is \"Unigram\"; only \"BPE\"");
  expect_refusal([](json& t) { t["model"]["dropout"] = 0.1; }, "\"model.dropout\"");
  expect_refusal([](json& t) { t["model"]["end_of_word_suffix"] = "</w>"; }, "end_of_word_suffix");
  expect_refusal([](json& t) { t["model"]["merges"].push_back("ab"); }, "element 5 that is not a pair");
  expect_refusal([](json& t) { t["model"]["merges"].push_back("c c"); },
                 "element 5 that joins texts that are not tokens");
  expect_refusal([](json& t) { t["model"]["vocab"]["x"] = -1; }, "not a token id");
  expect_refusal([](json& t) { t["model"]["vocab"]["x"] = 1u << 24; }, "not a token id from 0 to 16777215");
  expect_refusal([](json& t) { t["normalizer"] = {{"type", "NFKC"}}; }, "\"normalizer\" is of type \"NFKC\"");
  expect_refusal([](json& t) { t["pre_tokenizer"] = nullptr; }, "neither \"ByteLevel\" nor SentencePiece's");
  expect_refusal([](json& t) { t["pre_tokenizer"]["type"] = "Whitespace"; },
                 "is of type \"Whitespace\", which is not supported");
  expect_refusal([](json& t) { t["added_tokens"][0]["single_word"] = true; },
                 "added_tokens[0]\" counts only as");
  expect_refusal([](json& t) { t["post_processor"] = {{"type", "RobertaProcessing"}}; }, "RobertaProcessing");
  const json split = {
      {"type", "Split"}, {"pattern", {{"Regex", "\\d+|\\D+"}}}, {"behavior", "Isolated"}, {"invert", false}};
  const json bytes = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
  expect_refusal(
      [&](json& t) { t["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {split, bytes}}}; },
      "\"pre_tokenizer.pretokenizers[0]\" has the pattern \"\\d+|\\D+\", which is not supported; supported "
      "are those of gpt-2");
  expect_refusal([&](json& t) { t["pre_tokenizer"] = bytes; }, "does not cut into words");
  expect_refusal(
      [&](json& t) {
        t["pre_tokenizer"] = bytes;
        t["pre_tokenizer"]["add_prefix_space"] = true;
      },
      "add_prefix_space");
  EXPECT_THROW(Tokenizer::from_hugging_face(folder / "absent"), std::runtime_error);
}

}  // namespace
}  // namespace llama
