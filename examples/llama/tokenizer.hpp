// Text to tokens and back by byte-pair encoding, byte-level (GPT-2, SmolLM, Llama 3, Qwen) or SentencePiece's
// (Llama 2, Mistral).
#pragma once

#include <algorithm>      // find, min
#include <array>          // array
#include <cstddef>        // size_t
#include <filesystem>     // path
#include <optional>       // optional
#include <span>           // span
#include <stdexcept>      // invalid_argument
#include <string>         // string
#include <string_view>    // string_view
#include <unordered_map>  // unordered_map
#include <utility>        // move
#include <vector>         // vector

#include <fmt/format.h>
#include <tiedlora/io/gguf.hpp>

#include "added_tokens.hpp"
#include "blanks.hpp"
#include "merges.hpp"
#include "nfc.hpp"
#include "vocabulary.hpp"
#include "vocabulary_gguf.hpp"
#include "vocabulary_json.hpp"

namespace llama {

/// Tokens, and where in the text each of them ends.
struct Encoding {
  std::vector<Token> tokens;
  std::vector<std::size_t> ends;  ///< bytes; inside a character where its bytes are tokens
};

/// Gives the tokens that llama.cpp gives for the GGUF file, and the package tokenizers for the
/// tokenizer.json. Constant after construction: threads may share one.
class Tokenizer {
 public:
  explicit Tokenizer(Vocabulary vocabulary) : vocabulary_(std::move(vocabulary)) { prepare(); }
  /// Likewise from_gguf.
  explicit Tokenizer(const tiedlora::gguf::File& file) : Tokenizer(read_vocabulary(file)) {}

  /// Throws std::runtime_error for a file without such a vocabulary.
  static Tokenizer from_gguf(const tiedlora::gguf::File& file) { return Tokenizer(file); }
  /// A tokenizer.json, or a folder with one; tokenizer_config.json beside it is read too. Throws
  /// std::runtime_error likewise.
  static Tokenizer from_hugging_face(const std::filesystem::path& path) {
    return Tokenizer(read_vocabulary(path));
  }

  Tokenizer(Tokenizer&&) = default;
  Tokenizer(const Tokenizer&) = delete;  // texts_ and words_ point into the pieces

  std::size_t size() const { return vocabulary_.pieces.size(); }
  std::optional<Token> bos() const { return vocabulary_.bos; }
  std::optional<Token> eos() const { return vocabulary_.eos; }
  /// Whether the model wants bos before a text. `encode` never adds it.
  bool adds_bos() const { return vocabulary_.adds_bos; }
  /// Whether an answer ends there.
  bool is_end(Token token) const {
    return std::find(vocabulary_.ends.begin(), vocabulary_.ends.end(), token) != vocabulary_.ends.end();
  }
  /// The control or named token of that name.
  std::optional<Token> find_special(std::string_view name) const { return vocabulary_.find_added(name); }
  /// The name of a control token, what others look like in a text.
  const std::string& piece(Token token) const {
    return vocabulary_.pieces.at(static_cast<std::size_t>(token));
  }

  /// Tokens of a text. With `special`, names of control tokens in it ("<|im_end|>") become those tokens: for
  /// templates, not for what a user says. Names of added tokens that are not control tokens ("<think>")
  /// always become those tokens. Throws std::invalid_argument for what is not UTF-8 (the originals get text,
  /// or put replacement characters where it is broken, of which a model learns nothing) and for bytes that
  /// the vocabulary does not have.
  std::vector<Token> encode(std::string_view text, bool special) const {
    check_utf8(text);
    Output output;
    encode(text, special, output);
    return std::move(output.encoding.tokens);
  }
  /// Likewise of a text without control tokens, with the places. `is_first`: nothing stands before it. Where
  /// NFC changes the text, places are near the right ones.
  Encoding encode_with_ends(std::string_view text, bool is_first = true) const {
    check_utf8(text);
    Output output;
    output.wants_ends = true;
    encode(text, false, output, is_first);
    return std::move(output.encoding);
  }
  /// A text as the tokenizer reads it: in NFC where it wants that.
  std::string normalized(std::string_view text) const {
    check_utf8(text);
    return vocabulary_.reads_nfc ? to_nfc(text) : std::string(text);
  }
  /// Calls on_text(begin, end) for what is between names of control tokens, on_token(token, end) for those.
  template <class OnText, class OnToken>
  void cut_control(std::string_view text, const OnText& on_text, const OnToken& on_token) const {
    control_names_.cut(text, true, on_text,
                       [&](const AddedToken& token, std::size_t end) { on_token(token.token, end); });
  }

  /// The bytes of a token, also of one that is only a part of a character; nothing for control tokens.
  std::string decode(Token token) const {
    const auto at = static_cast<std::size_t>(token);
    const std::string& piece = vocabulary_.pieces.at(at);
    const TokenKind kind = vocabulary_.kinds[at];
    if (kind == TokenKind::control || kind == TokenKind::unused) return {};
    if (vocabulary_.is_byte_level || kind != TokenKind::text) return piece;
    return unmark_blanks(piece);
  }
  /// The text of all of them. The blank that SentencePiece puts before a text does not come back.
  std::string decode(std::span<const Token> tokens) const {
    std::string result;
    for (const Token token : tokens) result += decode(token);
    if (vocabulary_.prefix != Prefix::none && result.starts_with(' ')) result.erase(0, 1);
    return result;
  }

 private:
  struct Output {
    Encoding encoding = {};
    bool wants_ends = false;
    void push(Token token, std::size_t end) {
      encoding.tokens.push_back(token);
      if (wants_ends) encoding.ends.push_back(end);
    }
  };

  void prepare() {
    const Vocabulary& v = vocabulary_;
    merges_ = MergeTable(v.merges);
    byte_tokens_.fill(-1);
    const TokenKind byte_kind = v.is_byte_level ? TokenKind::text : TokenKind::byte;
    for (std::size_t i = 0; i < v.pieces.size(); ++i) {
      if (v.kinds[i] == byte_kind && v.pieces[i].size() == 1)
        byte_tokens_[static_cast<unsigned char>(v.pieces[i][0])] = static_cast<Token>(i);
      if (v.kinds[i] == TokenKind::text && !v.pieces[i].empty())
        texts_.try_emplace(v.pieces[i], static_cast<Token>(i));
    }
    std::vector<AddedToken> raw, late, control;
    for (const AddedToken& token : v.added) {
      (token.in_normalized ? late : raw).push_back(token);
      if (token.is_control) control.push_back(token);
      if (token.in_normalized && !v.is_byte_level) late.back().name = normalize(token.name);
    }
    raw_names_ = AddedTokens(std::move(raw));
    late_names_ = AddedTokens(std::move(late));
    control_names_ = AddedTokens(std::move(control));
    cuts_at_blanks_ = true;
    for (const auto& [text, token] : texts_) cuts_at_blanks_ = cuts_at_blanks_ && !has_inner_blank(text);
    // Most words of a text are tokens, and merging makes those of them: what that gives is found out here,
    // once.
    Merger merger(merges_);
    for (const auto& [text, token] : texts_)
      if (v.ignores_merges || becomes(text, token, merger)) words_.emplace(text, token);
  }
  // Whether merging makes this one token of a word.
  bool becomes(std::string_view word, Token token, Merger& merger) const {
    if (!split(word, merger)) return false;
    merger.merge();
    bool is_whole = false;
    merger.for_each([&](Token made, std::size_t) { is_whole = made == token; });
    return is_whole;
  }

  void encode(std::string_view text, bool special, Output& output, bool is_first = true) const {
    raw_names_.cut(
        text, special,
        [&](std::size_t begin, std::size_t end) {
          encode_part(text.substr(begin, end - begin), is_first && begin == 0, special, begin, output);
        },
        [&](const AddedToken& token, std::size_t end) { output.push(token.token, end); });
  }

  // A text between added tokens, `offset` bytes after the start of the whole.
  void encode_part(std::string_view text, bool is_first, bool special, std::size_t offset,
                   Output& output) const {
    const bool is_as_it_is = vocabulary_.is_byte_level && (!vocabulary_.reads_nfc || is_surely_nfc(text));
    const std::string changed = is_as_it_is ? std::string() : normalize(text);
    const std::string_view normal = is_as_it_is ? text : std::string_view(changed);
    const std::size_t first = output.encoding.ends.size();
    late_names_.cut(
        normal, special,
        [&](std::size_t begin, std::size_t end) {
          merge_words(normal.substr(begin, end - begin), is_first && begin == 0, begin, output);
        },
        [&](const AddedToken& token, std::size_t end) { output.push(token.token, end); });
    if (!output.wants_ends || output.encoding.ends.size() == first) return;
    const std::span<std::size_t> ends = std::span(output.encoding.ends).subspan(first);
    if (!vocabulary_.is_byte_level && vocabulary_.normalizes_blanks) unmark_places(text, ends);
    for (std::size_t& end : ends) end = std::min(end, text.size());
    ends.back() = text.size();  // where NFC changed the size
    for (std::size_t& end : ends) end += offset;
  }

  std::string normalize(std::string_view text) const {
    if (vocabulary_.is_byte_level) return vocabulary_.reads_nfc ? to_nfc(text) : std::string(text);
    std::string result(vocabulary_.prefix == Prefix::always ? blank_mark : "");
    return vocabulary_.normalizes_blanks ? result + mark_blanks(text) : result.append(text);
  }
  // Cuts into words and merges within each. `offset`: where the text begins in the normalized one.
  void merge_words(std::string_view text, bool is_first, std::size_t offset, Output& output) const {
    Merger merger(merges_);
    std::size_t at = vocabulary_.normalizes_blanks ? offset : 0;
    const auto add = [&](std::string_view word) {
      if (const auto known = words_.find(word); known != words_.end()) {
        output.push(known->second, at += word.size());
        return;
      }
      split_or_throw(word, merger);
      merger.merge();
      merger.for_each([&](Token token, std::size_t size) { output.push(token, at += size); });
    };
    if (vocabulary_.is_byte_level) {
      WordCutter words(vocabulary_.pre_tokenizer, text);
      for (std::string_view word = words.next(); !word.empty(); word = words.next()) add(word);
      return;
    }
    const auto cut = [&](std::string_view marked) {
      if (cuts_at_blanks_ || vocabulary_.cuts_at_every_blank)
        cut_at_blanks(marked, vocabulary_.cuts_at_every_blank, add);
      else
        add(marked);
    };
    if (vocabulary_.normalizes_blanks) return cut(text);
    std::string marked = mark_blanks(text);
    const Prefix prefix = vocabulary_.prefix;
    if ((prefix == Prefix::always_but_one || (prefix == Prefix::first_but_one && is_first)) &&
        !marked.starts_with(blank_mark))
      marked.insert(0, blank_mark);
    const std::size_t first = output.encoding.ends.size();
    cut(marked);
    if (!output.wants_ends) return;
    const std::span<std::size_t> ends = std::span(output.encoding.ends).subspan(first);
    unmark_places(text, ends);
    for (std::size_t& end : ends) end += offset;
  }

  // The parts that a word has before anything is merged: bytes, or characters as far as they are tokens.
  // False where there is none for one of them.
  bool split(std::string_view word, Merger& merger) const {
    merger.clear();
    for (std::size_t at = 0; at < word.size();) {
      if (vocabulary_.is_byte_level) {
        const Token token = byte_tokens_[static_cast<unsigned char>(word[at++])];
        if (token < 0) return false;
        merger.append(token, 1);
        continue;
      }
      const std::string_view character = word.substr(at, char_at(word, at).size);
      at += character.size();
      if (const auto found = texts_.find(character); found != texts_.end())
        merger.append(found->second, character.size());
      else if (!split_bytes(character, merger))
        return false;
    }
    return true;
  }
  bool split_bytes(std::string_view character, Merger& merger) const {
    bool has_bytes = true;
    for (const char c : character) has_bytes = has_bytes && byte_tokens_[static_cast<unsigned char>(c)] >= 0;
    if (has_bytes) {
      for (const char c : character) merger.append(byte_tokens_[static_cast<unsigned char>(c)], 1);
      return true;
    }
    if (!vocabulary_.unknown) return false;
    if (vocabulary_.fuses_unknown && !merger.is_empty() && merger.last().token == *vocabulary_.unknown)
      merger.last().size += static_cast<std::uint32_t>(character.size());
    else
      merger.append(*vocabulary_.unknown, character.size());
    return true;
  }
  void split_or_throw(std::string_view word, Merger& merger) const {
    if (split(word, merger)) return;
    std::string what;
    for (std::size_t at = 0; at < word.size() && what.empty();) {
      const std::size_t size = vocabulary_.is_byte_level ? 1 : char_at(word, at).size;
      if (!split(word.substr(at, size), merger))
        what = vocabulary_.is_byte_level ? fmt::format("byte {:#04x}", static_cast<unsigned char>(word[at]))
                                         : fmt::format("character \"{}\"", word.substr(at, size));
      at += size;
    }
    throw std::invalid_argument(
        fmt::format("the model's vocabulary has no token for the {}; leave it out of the text, or take the "
                    "vocabulary that the model was trained with",
                    what));
  }

  Vocabulary vocabulary_;
  MergeTable merges_;
  std::array<Token, 256> byte_tokens_ = {};
  std::unordered_map<std::string_view, Token> texts_;  // tokens of the kind `text`, by their pieces
  std::unordered_map<std::string_view, Token> words_;  // those that a word of the same text becomes
  AddedTokens raw_names_, late_names_, control_names_;
  bool cuts_at_blanks_ = false;  // no token has a blank after another character, so merges do not cross there
};

}  // namespace llama
