// For the tests: the tokenizers of tests/golden/tokenizer as files, and what the originals make of the texts.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <tiedlora/io/gguf.hpp>
#include <vector>

#include "support/gguf_bytes.hpp"
#include "support/io_files.hpp"

namespace llama_test {

using nlohmann::json;

inline json golden_json(const std::string& name) {
  const auto path = std::filesystem::path(TIEDLORA_GOLDEN_DIR) / "tokenizer" / name;
  std::ifstream file(path);
  EXPECT_TRUE(file) << path << " cannot be opened; tests/golden/tokenizer_golden.py writes it";
  return json::parse(file);
}

/// tokenizer_golden.py explains the fields.
struct GoldenTokenizer {
  json golden;
  std::vector<std::string> tokens, texts;
  std::vector<std::pair<std::size_t, std::size_t>> merges;
  bool merges_as_pairs = true;  ///< in tokenizer.json; else as texts "left right", the older form

  explicit GoldenTokenizer(const std::string& name) : golden(golden_json(name + ".json")) {
    const json vocabulary = golden_json("vocabularies.json")[golden["vocabulary"].get<std::string>()];
    tokens = vocabulary["tokens"].get<std::vector<std::string>>();
    merges = vocabulary["merges"].get<std::vector<std::pair<std::size_t, std::size_t>>>();
    const json list = golden_json("texts.json");
    for (const json& text : list["texts"]) texts.push_back(text[0]);
    EXPECT_EQ(texts.size(), golden["plain"].size());
  }

  /// What a field has for a text, or what `otherwise` has where that is null.
  json expected(const char* field, const char* otherwise, std::size_t text) const {
    const json& value = golden[field][text];
    return value.is_null() ? golden[otherwise][text] : value;
  }

  json tokenizer_json() const {
    json result = golden["tokenizer"];
    json& model = result["model"];
    for (std::size_t i = 0; i < tokens.size(); ++i) model["vocab"][tokens[i]] = i;
    model["merges"] = json::array();
    for (const auto& [left, right] : merges)
      if (merges_as_pairs)
        model["merges"].push_back({tokens[left], tokens[right]});
      else
        model["merges"].push_back(tokens[left] + " " + tokens[right]);
    return result;
  }
  void write_folder(const std::filesystem::path& folder) const {
    std::filesystem::create_directories(folder);
    tiedlora_test::write_text(folder / "tokenizer.json", tokenizer_json().dump());
    tiedlora_test::write_text(folder / "tokenizer_config.json", golden["config"].dump());
  }

  /// Metadata only.
  std::string gguf(std::string_view chat_template = "") const {
    using tiedlora::gguf::ValueType;
    const bool is_byte_level = golden["vocabulary"] == "byte_level";
    std::vector<std::int32_t> types(tokens.size(), 1);
    std::vector<float> scores(tokens.size());
    for (const json& added : golden["tokenizer"]["added_tokens"])
      types[added["id"].get<std::size_t>()] = added["content"] == "<unk>"    ? 2
                                              : added["special"].get<bool>() ? 3
                                                                             : 4;
    if (!is_byte_level)
      for (std::size_t i = 3; i < tokens.size(); ++i)
        i < 259 ? void(types[i] = 6) : void(scores[i] = 259.0f - static_cast<float>(i));
    tiedlora_test::GgufBytes bytes;
    bytes.head(0, golden["gguf"].size() + (chat_template.empty() ? 3 : 4));
    for (const auto& [name, value] : golden["gguf"].items()) {
      const std::string key = "tokenizer.ggml." + name;
      if (value.is_boolean())
        bytes.value(key, value.get<bool>());
      else if (value.is_string())
        bytes.value(key, std::string_view(value.get_ref<const std::string&>()));
      else
        bytes.value(key, value.get<std::uint32_t>());
    }
    if (!chat_template.empty()) bytes.value("tokenizer.chat_template", chat_template);
    const auto array = [&bytes](std::string_view key, ValueType type, std::size_t size) {
      bytes.text(key).number(ValueType::array).number(type).number(static_cast<std::uint64_t>(size));
    };
    array("tokenizer.ggml.tokens", ValueType::text, tokens.size());
    for (const std::string& token : tokens) bytes.text(token);
    array("tokenizer.ggml.token_type", ValueType::i32, types.size());
    for (const std::int32_t type : types) bytes.number(type);
    if (is_byte_level) {
      array("tokenizer.ggml.merges", ValueType::text, merges.size());
      for (const auto& [left, right] : merges) bytes.text(tokens[left] + " " + tokens[right]);
    } else {
      array("tokenizer.ggml.scores", ValueType::f32, scores.size());
      for (const float score : scores) bytes.number(score);
    }
    return bytes.pad().str();
  }
};

}  // namespace llama_test
