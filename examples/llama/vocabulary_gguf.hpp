// The vocabulary of a GGUF file, as llama.cpp reads it.
#pragma once

#include <algorithm>      // sort, unique, lower_bound
#include <cmath>          // isfinite
#include <cstddef>        // size_t
#include <cstdint>        // int32_t, uint64_t
#include <functional>     // greater
#include <optional>       // optional
#include <stdexcept>      // runtime_error
#include <string>         // string
#include <string_view>    // string_view
#include <unordered_map>  // unordered_map
#include <utility>        // move
#include <vector>         // vector

#include <fmt/format.h>
#include <tiedlora/io/gguf.hpp>

#include "vocabulary.hpp"

namespace llama {

class GgufVocabulary {
 public:
  explicit GgufVocabulary(const tiedlora::gguf::File& file) : file_(file) {}

  Vocabulary read() {
    const std::string_view model = text("tokenizer.ggml.model");
    if (model != "gpt2" && model != "llama")
      throw std::runtime_error(fmt::format(
          "the model's tokenizer (tokenizer.ggml.model) is {}; known are \"gpt2\", byte-level BPE, and "
          "\"llama\", SentencePiece's BPE",
          tiedlora::detail::in_quotes(model)));
    v_.is_byte_level = model == "gpt2";
    read_tokens();
    if (v_.is_byte_level)
      read_byte_level();
    else
      read_sentence_piece();
    v_.bos = token("tokenizer.ggml.bos_token_id", v_.is_byte_level ? std::nullopt : std::optional<Token>(1));
    v_.eos = token("tokenizer.ggml.eos_token_id", v_.is_byte_level ? std::nullopt : std::optional<Token>(2));
    const bool adds_bos = !v_.is_byte_level || v_.pre_tokenizer == PreTokenizer::llama3;
    v_.adds_bos = boolean("tokenizer.ggml.add_bos_token", adds_bos) && v_.bos;
    for (const char* key : {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"})
      if (const auto end = token(key, std::nullopt)) v_.ends.push_back(*end);
    v_.collect_ends();
    return std::move(v_);
  }

 private:
  std::string_view text(std::string_view key) const {
    const auto* value = file_.find_value(key);
    return value ? value->text().value_or("?") : std::string_view("(none)");
  }
  bool boolean(std::string_view key, bool otherwise) const {
    const auto* value = file_.find_value(key);
    return value ? value->boolean().value_or(otherwise) : otherwise;
  }
  std::optional<Token> token(std::string_view key, std::optional<Token> otherwise) const {
    const auto* value = file_.find_value(key);
    const auto id = value ? value->natural() : std::optional<std::uint64_t>();
    if (id && *id < v_.pieces.size()) return static_cast<Token>(*id);
    if (id) throw std::runtime_error(fmt::format("the model has \"{}\" {}, which is not a token", key, *id));
    return otherwise && static_cast<std::size_t>(*otherwise) < v_.pieces.size() ? otherwise : std::nullopt;
  }
  std::vector<std::string_view> strings(std::string_view key) const {
    const auto* value = file_.find_value(key);
    auto found = value ? value->texts() : std::nullopt;
    if (!found) throw std::runtime_error(fmt::format("the model has no list of texts \"{}\"", key));
    return *std::move(found);
  }
  /// One number for every token.
  template <class T>
  std::vector<T> numbers(std::string_view key, std::string_view what) const {
    const auto* value = file_.find_value(key);
    auto found = value ? value->numbers<T>() : std::nullopt;
    if (!found || found->size() != names_.size())
      throw std::runtime_error(fmt::format("the model's \"{}\" does not say for every token {}", key, what));
    return *std::move(found);
  }

  void read_tokens() {
    names_ = strings("tokenizer.ggml.tokens");
    constexpr const char* key = "tokenizer.ggml.token_type";
    constexpr std::int32_t normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6;
    // A file may be without, which is all text then, as for llama.cpp.
    const auto types = file_.find_value(key) ? numbers<std::int32_t>(key, "what it is")
                                             : std::vector<std::int32_t>(names_.size(), normal);
    const ByteAlphabet alphabet;
    for (std::size_t i = 0; i < names_.size(); ++i) {
      const std::string name(names_[i]);
      if (const std::size_t at = broken_utf8(name); at != name.npos)
        throw std::runtime_error(
            fmt::format("token {} of the model (tokenizer.ggml.tokens) is not UTF-8: its byte {} is {:#04x}",
                        i, at, static_cast<unsigned char>(name[at])));
      const auto id = static_cast<Token>(i);
      const auto value = byte_of_piece(name);
      TokenKind kind = TokenKind::text;
      if (types[i] == control || types[i] == unknown || types[i] == user_defined) {
        kind = types[i] == user_defined ? TokenKind::named : TokenKind::control;
        if (types[i] == unknown) v_.unknown = id;
        v_.added.push_back({.name = name, .token = id, .is_control = kind == TokenKind::control});
      } else if (types[i] == unused) {
        kind = TokenKind::unused;
      } else if (types[i] == byte && value) {
        kind = TokenKind::byte;
      }
      v_.kinds.push_back(kind);
      if (kind == TokenKind::byte && value)
        v_.pieces.emplace_back(1, *value);
      else
        v_.pieces.push_back(kind == TokenKind::text && v_.is_byte_level ? alphabet.bytes(name) : name);
    }
  }

  void read_byte_level() {
    const std::string_view name = text("tokenizer.ggml.pre");
    const auto known = find_pre_tokenizer(name);
    if (!known)
      throw std::runtime_error(
          fmt::format("the model's pre-tokenizer (tokenizer.ggml.pre) is {}; known are {}",
                      tiedlora::detail::in_quotes(name), known_pre_tokenizers()));
    v_.pre_tokenizer = *known;
    v_.ignores_merges = *known == PreTokenizer::llama3;
    std::unordered_map<std::string_view, Token> token_of;
    for (std::size_t i = 0; i < names_.size(); ++i) token_of.emplace(names_[i], static_cast<Token>(i));
    const std::vector<std::string_view> merges = strings("tokenizer.ggml.merges");
    std::string merged;
    for (std::size_t rank = 0; rank < merges.size(); ++rank) {
      const std::size_t blank = merges[rank].find(' ', 1);
      if (blank == merges[rank].npos)
        throw std::runtime_error(fmt::format("merge {} of the model's vocabulary is not a pair", rank));
      const auto left = merges[rank].substr(0, blank), right = merges[rank].substr(blank + 1);
      merged.assign(left).append(right);
      const auto l = token_of.find(left), r = token_of.find(right), m = token_of.find(merged);
      if (l == token_of.end() || r == token_of.end() || m == token_of.end())
        throw std::runtime_error(
            fmt::format("merge {} of the model's vocabulary joins texts that are not tokens", rank));
      v_.merges.push_back({l->second, r->second, m->second, static_cast<std::int32_t>(rank)});
    }
  }

  // Two neighbours are merged if together they are a token, those of the highest score first.
  void read_sentence_piece() {
    v_.fuses_unknown = true;
    v_.prefix = boolean("tokenizer.ggml.add_space_prefix", true) ? Prefix::always : Prefix::none;
    const auto scores = numbers<float>("tokenizer.ggml.scores", "its score");
    for (std::size_t i = 0; i < scores.size(); ++i)
      if (!std::isfinite(scores[i]))
        throw std::runtime_error(
            fmt::format("the model's \"tokenizer.ggml.scores\" has no finite number for token {}", i));
    std::vector<float> ranks = scores;
    std::sort(ranks.begin(), ranks.end(), std::greater<>());
    ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
    std::unordered_map<std::string_view, Token> token_of;
    for (std::size_t i = 0; i < names_.size(); ++i)
      if (v_.kinds[i] == TokenKind::text) token_of.emplace(names_[i], static_cast<Token>(i));
    std::vector<std::size_t> sizes;  // that occur, so that a very long token is not split at every byte
    for (const auto& entry : token_of) sizes.push_back(entry.first.size());
    std::sort(sizes.begin(), sizes.end());
    sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
    for (const auto& [name, id] : token_of)
      for (const std::size_t at : sizes) {
        if (at >= name.size()) break;
        if (at == 0 || !std::binary_search(sizes.begin(), sizes.end(), name.size() - at)) continue;
        const auto left = token_of.find(name.substr(0, at));
        const auto right = left == token_of.end() ? left : token_of.find(name.substr(at));
        if (right == token_of.end()) continue;
        const auto rank = std::lower_bound(ranks.begin(), ranks.end(), scores[static_cast<std::size_t>(id)],
                                           std::greater<>()) -
                          ranks.begin();
        v_.merges.push_back({left->second, right->second, id, static_cast<std::int32_t>(rank)});
      }
  }

  const tiedlora::gguf::File& file_;
  Vocabulary v_;
  std::vector<std::string_view> names_;
};

/// Throws std::runtime_error for a file without a vocabulary of a kind that is known.
inline Vocabulary read_vocabulary(const tiedlora::gguf::File& file) { return GgufVocabulary(file).read(); }

}  // namespace llama
