// The vocabulary of a Hugging Face tokenizer.json, as the package tokenizers reads it.
#pragma once

#include <cstddef>        // size_t
#include <cstdint>        // int32_t
#include <filesystem>     // path, is_directory, exists
#include <optional>       // optional
#include <string>         // string
#include <string_view>    // string_view
#include <unordered_map>  // unordered_map
#include <utility>        // move
#include <vector>         // vector

#include <fmt/format.h>

#include "json_file.hpp"
#include "vocabulary.hpp"

namespace llama {

class JsonVocabulary {
 public:
  /// Of a tokenizer.json; `config` is tokenizer_config.json, or null.
  Vocabulary read(const JsonNode& root, const JsonNode* config) {
    const JsonNode model = root["model"];
    if (!model) root.fail("has no \"model\": is it a tokenizer.json?");
    if (model["type"] && model["type"].text() != "BPE")
      model["type"].fail(fmt::format("is \"{}\"; only \"BPE\" is read", model["type"].text()));
    for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"})
      if (model[name] && !model[name].text().empty()) model[name].fail("is set, which is not supported");
    if (model["dropout"])
      model["dropout"].fail("is set: random tokenisation is not supported; set it to null");

    read_normalizer(root["normalizer"]);
    read_pre_tokenizer(root["pre_tokenizer"]);
    if (!has_byte_level_ && !has_blanks_)
      root["pre_tokenizer"].fail(
          "is neither \"ByteLevel\" nor SentencePiece's (\"Metaspace\", or a normalizer that replaces "
          "blanks)");
    if (has_byte_level_ && has_blanks_)
      root["pre_tokenizer"].fail("is both \"ByteLevel\" and SentencePiece's");
    v_.is_byte_level = has_byte_level_;
    v_.ignores_merges = model["ignore_merges"].boolean(false);
    v_.fuses_unknown = model["fuse_unk"].boolean(false);
    const JsonNode added = root["added_tokens"];
    entries_ = model["vocab"].object().size() + (added ? added.array().size() : 0);
    read_tokens(model);
    read_added(added);
    read_merges(model);
    if (model["unk_token"]) v_.unknown = find(model["unk_token"].text());
    if (root["post_processor"]) read_post_processor(root["post_processor"]);
    if (config) read_config(*config);
    v_.collect_ends();
    return std::move(v_);
  }

 private:
  static std::string_view type(const JsonNode& node) { return node["type"].text(); }
  /// The members of a "Sequence"; otherwise the node itself.
  static std::vector<JsonNode> steps(const JsonNode& node, const char* list) {
    if (!node) return {};
    if (type(node) != "Sequence") return {node};
    std::vector<JsonNode> result;
    const JsonNode members = node[list];
    for (std::size_t i = 0; i < members.array().size(); ++i)
      for (JsonNode& step : steps(members.element(i), list)) result.push_back(std::move(step));
    return result;
  }
  std::optional<Token> find(std::string_view name) const {
    for (std::size_t i = 0; i < names_.size(); ++i)
      if (names_[i] == name) return static_cast<Token>(i);
    return std::nullopt;
  }

  void read_normalizer(const JsonNode& node) {
    for (const JsonNode& step : steps(node, "normalizers")) {
      if (type(step) == "NFC") {
        v_.reads_nfc = true;
      } else if (type(step) == "Prepend" && step["prepend"].text() == blank_mark && !has_blanks_) {
        v_.prefix = Prefix::always;
      } else if (type(step) == "Replace" && step["pattern"]["String"] &&
                 step["pattern"]["String"].text() == " " && step["content"].text() == blank_mark) {
        has_blanks_ = true;
      } else {
        step.fail(fmt::format(
            "is of type \"{}\", which is not supported; supported are \"NFC\", \"Prepend\" of \"▁\" and "
            "\"Replace\" of \" \" by \"▁\"",
            type(step)));
      }
    }
  }

  void read_pre_tokenizer(const JsonNode& node) {
    bool digits_apart = false;
    std::optional<PreTokenizer> kind;
    for (const JsonNode& step : steps(node, "pretokenizers")) {
      if (type(step) == "Metaspace") {
        read_metaspace(step);
      } else if (type(step) == "Digits" && step["individual_digits"].boolean(false)) {
        digits_apart = true;
      } else if (type(step) == "Split") {
        kind = read_split(step);
      } else if (type(step) == "ByteLevel") {
        has_byte_level_ = true;
        if (step["add_prefix_space"].boolean(true))
          step.fail("has \"add_prefix_space\", which is not supported");
        if (!step["use_regex"].boolean(true)) continue;
        if (kind) step.fail("cuts into words after \"Split\" did, which is not supported");
        kind = digits_apart ? PreTokenizer::smollm : PreTokenizer::gpt2;
      } else {
        step.fail(fmt::format(
            "is of type \"{}\", which is not supported; supported are \"ByteLevel\", \"Digits\" of single "
            "digits, \"Split\" with the regular expressions of {}, and \"Metaspace\"",
            type(step), known_pre_tokenizers()));
      }
    }
    if (has_byte_level_ && !kind) node.fail("does not cut into words, which is not supported");
    if (digits_apart && kind != PreTokenizer::smollm)
      node.fail("has \"Digits\" in a place other than before \"ByteLevel\", which is not supported");
    if (kind) v_.pre_tokenizer = *kind;
  }

  static PreTokenizer read_split(const JsonNode& step) {
    const JsonNode regex = step["pattern"]["Regex"];
    const auto kind = regex.is_text() ? pre_tokenizer_of_regex(regex.text()) : std::nullopt;
    if (kind && step["behavior"].text() == "Isolated" && !step["invert"].boolean(false)) return *kind;
    if (kind) step.fail("has a \"behavior\" other than \"Isolated\", or \"invert\", which is not supported");
    step.fail(fmt::format("has the pattern {}, which is not supported; supported are those of {}",
                          tiedlora::detail::in_quotes(regex.is_text() ? regex.text() : "(no \"Regex\")"),
                          known_pre_tokenizers()));
  }

  void read_metaspace(const JsonNode& step) {
    v_.normalizes_blanks = has_blanks_;
    has_blanks_ = true;
    if (step["replacement"].text() != blank_mark) step.fail("has a \"replacement\" other than \"▁\"");
    v_.cuts_at_every_blank = step["split"].boolean(true);
    // Files of old versions say only whether.
    const JsonNode scheme = step["prepend_scheme"];
    const std::string name = scheme                                   ? scheme.text()
                             : step["add_prefix_space"].boolean(true) ? "always"
                                                                      : "never";
    if (name == "always")
      v_.prefix = Prefix::always_but_one;
    else if (name == "first")
      v_.prefix = Prefix::first_but_one;
    else if (name != "never")
      scheme.fail(fmt::format("is \"{}\", not \"always\", \"first\" or \"never\"", name));
  }

  // Token numbers may have gaps, but what a file claims must not fill the memory.
  void place(Token token, const std::string& name, const JsonNode& node) {
    const auto at = static_cast<std::size_t>(token);
    if (at >= 16 * entries_ + 4096)
      node.fail(fmt::format("has the token id {}, but the file has {} tokens", token, entries_));
    if (at >= names_.size()) {
      names_.resize(at + 1);
      v_.pieces.resize(at + 1);
      v_.kinds.resize(at + 1, TokenKind::unused);
    }
    names_[at] = name;
  }

  void read_tokens(const JsonNode& model) {
    const ByteAlphabet alphabet;
    const bool has_bytes = model["byte_fallback"].boolean(false);
    const JsonNode vocabulary = model["vocab"];
    for (const auto& [name, value] : vocabulary.object()) {
      const Token token = vocabulary.natural(&value);
      place(token, name, vocabulary);
      const auto at = static_cast<std::size_t>(token);
      const auto byte = has_bytes && !v_.is_byte_level ? byte_of_piece(name) : std::nullopt;
      v_.kinds[at] = byte ? TokenKind::byte : TokenKind::text;
      v_.pieces[at] = byte ? std::string(1, *byte) : v_.is_byte_level ? alphabet.bytes(name) : name;
      token_of_.emplace(name, token);
    }
  }

  void read_added(const JsonNode& list) {
    if (!list) return;
    for (std::size_t i = 0; i < list.array().size(); ++i) {
      const JsonNode node = list.element(i);
      const std::string& name = node["content"].text();
      const Token token = node["id"].natural();
      if (node["single_word"].boolean(false))
        node.fail("counts only as a whole word (\"single_word\"), which is not supported");
      const bool is_control = node["special"].boolean(false);
      place(token, name, node);
      const auto at = static_cast<std::size_t>(token);
      v_.kinds[at] = is_control ? TokenKind::control : TokenKind::named;
      v_.pieces[at] = name;
      v_.added.push_back({.name = name,
                          .token = token,
                          .is_control = is_control,
                          .in_normalized = node["normalized"].boolean(!is_control),
                          .takes_blanks_left = node["lstrip"].boolean(false),
                          .takes_blanks_right = node["rstrip"].boolean(false)});
    }
  }

  void read_merges(const JsonNode& model) {
    const JsonNode merges = model["merges"];
    const auto token = [this](const std::string& name) {
      const auto found = token_of_.find(name);
      return found == token_of_.end() ? Token{-1} : found->second;
    };
    std::int32_t rank = 0;
    for (const Json& merge : merges.array()) {
      std::string left, right;
      if (const auto* text = merge.get_ptr<const std::string*>()) {
        const std::size_t blank = text->find(' ', 1);
        if (blank != text->npos) left = text->substr(0, blank), right = text->substr(blank + 1);
      } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
        left = merge[0].get<std::string>(), right = merge[1].get<std::string>();
      }
      if (left.empty() || right.empty())
        merges.fail(fmt::format("has an element {} that is not a pair", rank));
      const Merge made = {token(left), token(right), token(left + right), rank};
      if (made.left < 0 || made.right < 0 || made.merged < 0)
        merges.fail(fmt::format("has an element {} that joins texts that are not tokens", rank));
      v_.merges.push_back(made);
      ++rank;
    }
  }

  void read_post_processor(const JsonNode& node) {
    for (const JsonNode& step : steps(node, "processors")) {
      if (type(step) == "ByteLevel") continue;
      if (type(step) != "TemplateProcessing")
        step.fail(
            fmt::format("is of type \"{}\", which is not supported; supported are \"ByteLevel\" and "
                        "\"TemplateProcessing\"",
                        type(step)));
      const JsonNode single = step["single"];
      const std::size_t count = single.array().size();
      if (count == 0 || count > 2 || !single.element(count - 1)["Sequence"] ||
          (count == 2 && !single.element(0)["SpecialToken"]))
        single.fail("adds tokens other than one at the start, which is not supported");
      if (count == 1) continue;
      const JsonNode name = single.element(0)["SpecialToken"]["id"];
      v_.bos = find(name.text());
      if (!v_.bos) name.fail("is the name of no token");
      v_.adds_bos = true;
    }
  }

  void read_config(const JsonNode& config) {
    const auto token = [&](const char* name) -> std::optional<Token> {
      const JsonNode node = config[name].is_object() ? config[name]["content"] : config[name];
      if (!node) return std::nullopt;
      const auto found = find(node.text());
      if (!found) node.fail(fmt::format("is \"{}\", which is not a token", node.text()));
      return found;
    };
    if (const auto bos = token("bos_token")) v_.bos = bos;
    v_.eos = token("eos_token");
    v_.adds_bos = config["add_bos_token"].boolean(v_.adds_bos) && v_.bos;
  }

  Vocabulary v_;
  std::vector<std::string> names_;  // as in the file
  std::size_t entries_ = 0;         // tokens that the file names
  std::unordered_map<std::string, Token> token_of_;
  bool has_byte_level_ = false, has_blanks_ = false;
};

/// Of a tokenizer.json or a folder with one. Throws std::runtime_error, with the place in the file.
inline Vocabulary read_vocabulary(const std::filesystem::path& path) {
  const std::filesystem::path file = std::filesystem::is_directory(path) ? path / "tokenizer.json" : path;
  const std::filesystem::path config_path = file.parent_path() / "tokenizer_config.json";
  const JsonFile json(file);
  if (!std::filesystem::exists(config_path)) return JsonVocabulary().read(json.root(), nullptr);
  const JsonFile config(config_path);
  const JsonNode node = config.root();
  return JsonVocabulary().read(json.root(), &node);
}

}  // namespace llama
