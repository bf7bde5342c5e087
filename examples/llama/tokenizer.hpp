// Byte-pair encoding as GPT-2 has it, with the vocabulary and merges of a GGUF file: text is cut into words,
// each word into bytes, and neighbours are merged, those first that the file lists first.
#pragma once

#include <algorithm>      // sort
#include <array>          // array
#include <cstddef>        // size_t
#include <cstdint>        // int32_t, uint64_t
#include <functional>     // greater
#include <optional>       // optional
#include <queue>          // priority_queue
#include <stdexcept>      // runtime_error, invalid_argument
#include <string>         // string
#include <string_view>    // string_view
#include <tuple>          // tie
#include <unordered_map>  // unordered_map
#include <utility>        // move
#include <vector>         // vector

#include <fmt/format.h>
#include <tiedlora/io/gguf.hpp>

#include "unicode.hpp"

namespace llama {

using Token = std::int32_t;

/// Cuts text as the pre-tokenizer "smollm" does: every number character alone, and between them GPT-2's
/// words: 's 't 're 've 'm 'll 'd, letters or other characters with at most one blank before them, spaces.
inline std::vector<std::string_view> split_words(std::string_view text) {
  const std::vector<Char> chars = characters(text);
  std::vector<std::string_view> words;
  std::size_t at = 0, end = 0;  // `end`: of the part without numbers that `at` is in
  const auto kind_is = [&](std::size_t i, CharKind kind) { return i < end && chars[i].kind == kind; };
  const auto code_is = [&](std::size_t i, char32_t code) { return i < end && chars[i].code == code; };
  const auto word_length = [&]() -> std::size_t {
    if (code_is(at, '\'')) {
      for (const char32_t c : {U's', U't', U'm', U'd'})
        if (code_is(at + 1, c)) return 2;
      for (const auto& [c, d] : {std::pair(U'r', U'e'), {U'v', U'e'}, {U'l', U'l'}})
        if (code_is(at + 1, c) && code_is(at + 2, d)) return 3;
    }
    const std::size_t first = code_is(at, ' ') ? at + 1 : at;
    for (const CharKind kind : {CharKind::letter, CharKind::other}) {
      std::size_t i = first;
      while (kind_is(i, kind)) ++i;
      if (i > first) return i - at;
    }
    std::size_t i = at;
    while (kind_is(i, CharKind::space)) ++i;
    // The last of several spaces belongs to the word behind them.
    return i - at > 1 && i < end ? i - at - 1 : i - at;
  };
  while (at < chars.size()) {
    std::size_t length = 1;
    if (chars[at].kind != CharKind::number) {
      if (at >= end)
        for (end = at; end < chars.size() && chars[end].kind != CharKind::number;) ++end;
      length = word_length();
    }
    const std::size_t begin = chars[at].begin;
    at += length;
    words.push_back(text.substr(begin, (at < chars.size() ? chars[at].begin : text.size()) - begin));
  }
  return words;
}

class Tokenizer {
 public:
  /// Throws std::runtime_error for a file without such a vocabulary. The file must outlive it.
  explicit Tokenizer(const tiedlora::gguf::File& file) {
    const auto text = [&file](std::string_view key) {
      const auto* value = file.find_value(key);
      return value ? value->text().value_or("?") : std::string_view("(none)");
    };
    if (text("tokenizer.ggml.model") != "gpt2" || text("tokenizer.ggml.pre") != "smollm")
      throw std::runtime_error(
          fmt::format("the model's tokenizer is \"{}\" with pre-tokenizer \"{}\"; this engine has \"gpt2\" "
                      "with \"smollm\"",
                      text("tokenizer.ggml.model"), text("tokenizer.ggml.pre")));
    const auto strings = [&file](const char* key) {
      const auto* value = file.find_value(key);
      auto found = value ? value->texts() : std::nullopt;
      if (!found) throw std::runtime_error(fmt::format("the model has no list of texts \"{}\"", key));
      return *std::move(found);
    };
    pieces_ = strings("tokenizer.ggml.tokens");
    std::unordered_map<std::string_view, Token> token_of;
    for (std::size_t i = 0; i < pieces_.size(); ++i) token_of.emplace(pieces_[i], static_cast<Token>(i));

    read_bytes(token_of);
    const std::vector<std::string_view> merges = strings("tokenizer.ggml.merges");
    std::string merged;
    for (std::size_t rank = 0; rank < merges.size(); ++rank) {
      const std::size_t blank = merges[rank].find(' ', 1);
      if (blank == merges[rank].npos)
        throw std::runtime_error(fmt::format("merge {} of the model's vocabulary is no pair", rank));
      const auto left = merges[rank].substr(0, blank), right = merges[rank].substr(blank + 1);
      merged.assign(left).append(right);
      const auto l = token_of.find(left), r = token_of.find(right), m = token_of.find(merged);
      if (l == token_of.end() || r == token_of.end() || m == token_of.end())
        throw std::runtime_error(
            fmt::format("merge {} of the model's vocabulary joins what are no tokens", rank));
      merges_.try_emplace(pair_key(l->second, r->second), Merge{static_cast<Token>(rank), m->second});
    }
    read_special(file);
  }

  std::size_t size() const { return pieces_.size(); }

  /// Tokens of a text. With `special`, names of control tokens in it ("<|im_end|>") become those tokens: for
  /// templates, not for what a user says. Throws std::invalid_argument for what is no UTF-8 and for bytes
  /// that the vocabulary does not have.
  std::vector<Token> encode(std::string_view text, bool special) const {
    std::vector<Token> tokens;
    while (!text.empty()) {
      std::size_t at = text.npos;
      const Special* found = nullptr;
      for (const Special& candidate : special_) {
        const std::size_t place = special ? text.find(candidate.name) : text.npos;
        if (place < at) at = place, found = &candidate;
      }
      for (const std::string_view word : split_words(text.substr(0, at))) append_word(word, tokens);
      if (!found) break;
      tokens.push_back(found->token);
      text.remove_prefix(at + found->name.size());
    }
    return tokens;
  }

  /// The bytes of a token; nothing for control tokens.
  std::string decode(Token token) const {
    const std::string_view piece = pieces_.at(static_cast<std::size_t>(token));
    for (const Special& special : special_)
      if (special.token == token) return {};
    std::string bytes;
    for (const Char& c : characters(piece)) {
      const auto byte = byte_of_.find(c.code);
      if (byte != byte_of_.end()) bytes += static_cast<char>(byte->second);
    }
    return bytes;
  }

  /// The control token of that name.
  std::optional<Token> find_special(std::string_view name) const {
    for (const Special& special : special_)
      if (special.name == name) return special.token;
    return std::nullopt;
  }
  /// Whether an answer ends there.
  bool is_end(Token token) const { return token == end_of_text_ || token == end_of_turn_; }

 private:
  struct Merge {
    Token rank, merged;
  };
  struct Special {
    std::string_view name;
    Token token;
  };
  static std::uint64_t pair_key(Token left, Token right) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
           static_cast<std::uint32_t>(right);
  }

  void read_bytes(const std::unordered_map<std::string_view, Token>& token_of) {
    const std::array<char32_t, 256> alphabet = byte_characters();
    for (unsigned byte = 0; byte < 256; ++byte) {
      byte_of_[alphabet[byte]] = static_cast<unsigned char>(byte);
      const auto found = token_of.find(short_utf8(alphabet[byte]));
      byte_tokens_[byte] = found == token_of.end() ? -1 : found->second;
    }
  }

  void read_special(const tiedlora::gguf::File& file) {
    const auto* value = file.find_value("tokenizer.ggml.token_type");
    const auto types = value ? value->numbers<std::int32_t>() : std::nullopt;
    if (!types || types->size() != pieces_.size())
      throw std::runtime_error(
          "the model's \"tokenizer.ggml.token_type\" does not say of every token what it is");
    constexpr std::int32_t control = 3;
    for (std::size_t i = 0; i < pieces_.size(); ++i)
      if ((*types)[i] == control && !pieces_[i].empty())
        special_.push_back({pieces_[i], static_cast<Token>(i)});
    // Where several begin at one place, the longest counts.
    std::sort(special_.begin(), special_.end(),
              [](const Special& a, const Special& b) { return a.name.size() > b.name.size(); });
    end_of_text_ = find_special("<|endoftext|>").value_or(-1);
    const auto* id = file.find_value("tokenizer.ggml.eos_token_id");
    end_of_turn_ = id ? static_cast<Token>(id->natural().value_or(0)) : -1;
  }

  void append_word(std::string_view word, std::vector<Token>& tokens) const {
    // A list of parts; a part that was merged into the one before it has no token.
    struct Piece {
      Token token;
      std::ptrdiff_t before, after;
    };
    std::vector<Piece> parts;
    for (const char c : word) {
      const auto byte = static_cast<unsigned char>(c);
      if (byte_tokens_[byte] < 0)
        throw std::invalid_argument(
            fmt::format("the model's vocabulary has no token for the byte {:#04x}", byte));
      const auto place = static_cast<std::ptrdiff_t>(parts.size());
      parts.push_back({byte_tokens_[byte], place - 1, place + 1});
    }
    const auto count = static_cast<std::ptrdiff_t>(parts.size());
    const auto part = [&parts](std::ptrdiff_t i) -> Piece& { return parts[static_cast<std::size_t>(i)]; };
    struct Candidate {
      Token rank;
      std::ptrdiff_t left;
      Token left_token, right_token, merged;
      bool operator>(const Candidate& other) const {
        return std::tie(rank, left) > std::tie(other.rank, other.left);
      }
    };
    std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
    const auto consider = [&](std::ptrdiff_t left) {
      if (left < 0 || part(left).after >= count) return;
      const Token l = part(left).token, r = part(part(left).after).token;
      const auto merge = merges_.find(pair_key(l, r));
      if (merge != merges_.end()) queue.push({merge->second.rank, left, l, r, merge->second.merged});
    };
    for (std::ptrdiff_t i = 0; i < count; ++i) consider(i);
    while (!queue.empty()) {
      const Candidate best = queue.top();
      queue.pop();
      Piece& left = part(best.left);
      if (left.token != best.left_token || left.after >= count || part(left.after).token != best.right_token)
        continue;  // one of the two was merged meanwhile
      Piece& right = part(left.after);
      left.token = best.merged;
      left.after = right.after;
      right.token = -1;
      if (left.after < count) part(left.after).before = best.left;
      consider(left.before);
      consider(best.left);
    }
    for (std::ptrdiff_t i = 0; i < count; i = part(i).after) tokens.push_back(part(i).token);
  }

  std::vector<std::string_view> pieces_;  // by token, in the file
  std::array<Token, 256> byte_tokens_ = {};
  std::unordered_map<char32_t, unsigned char> byte_of_;
  std::unordered_map<std::uint64_t, Merge> merges_;
  std::vector<Special> special_;
  Token end_of_text_ = -1, end_of_turn_ = -1;
};

}  // namespace llama
