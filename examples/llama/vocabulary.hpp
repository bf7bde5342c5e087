// What a tokenizer is made of, whichever file it came from: tokens, merges, and how text is prepared.
#pragma once

#include <algorithm>    // find
#include <array>        // array
#include <cstddef>      // size_t
#include <cstdint>      // int32_t
#include <optional>     // optional
#include <string>       // string
#include <string_view>  // string_view
#include <vector>       // vector

#include "pre_tokenizer.hpp"

namespace llama {

using Token = std::int32_t;

/// What a token stands for. Control tokens are for templates: they have no text, and text becomes one only
/// where that is asked for. Named ones stand for their name, wherever it occurs.
enum class TokenKind : unsigned char { text, byte, control, named, unused };

/// The tokens `left` and `right` become `merged`; those of the least rank first, of equal ones the leftmost.
struct Merge {
  Token left = 0, right = 0, merged = 0;
  std::int32_t rank = 0;
};

/// A control or named token and how its name is found in text.
struct AddedToken {
  std::string name = {};
  Token token = 0;
  bool is_control = false;
  bool in_normalized = false;  ///< is looked for after normalization, not before
  bool takes_blanks_left = false, takes_blanks_right = false;
};

/// Where SentencePiece's blank "▁" is put before a text that has none there.
enum class Prefix {
  none,
  always,          ///< before every text between added tokens, even if it begins with a blank
  always_but_one,  ///< likewise, unless it begins with a blank
  first_but_one    ///< only where the whole text begins, unless with a blank
};

struct Vocabulary {
  bool is_byte_level = true;  ///< GPT-2's kind; otherwise SentencePiece's

  /// By token: its bytes in a text, names of control tokens aside. SentencePiece's blanks are "▁" here.
  std::vector<std::string> pieces = {};
  std::vector<TokenKind> kinds = {};
  std::vector<Merge> merges = {};
  std::vector<AddedToken> added = {};
  bool ignores_merges = false;  ///< a word that is a token becomes that, whatever merges would make of it

  // Byte-level.
  PreTokenizer pre_tokenizer = PreTokenizer::gpt2;
  bool reads_nfc = false;

  // SentencePiece. What is not a token becomes its bytes' tokens; without those, the unknown token.
  Prefix prefix = Prefix::none;
  bool normalizes_blanks =
      true;  ///< blanks become "▁" before names in normalized text are looked for, not after
  bool cuts_at_every_blank = false;
  std::optional<Token> unknown = {};
  bool fuses_unknown = false;  ///< several in a row are one

  std::optional<Token> bos = {}, eos = {};
  std::vector<Token> ends = {};  ///< all that end an answer
  bool adds_bos = false;

  std::optional<Token> find_added(std::string_view name) const {
    for (const AddedToken& token : added)
      if (token.name == name) return token.token;
    return std::nullopt;
  }
  /// Counts eos and the control tokens by which known models end a text or a turn among the ends.
  void collect_ends() {
    const auto add = [this](std::optional<Token> token) {
      if (token && std::find(ends.begin(), ends.end(), *token) == ends.end()) ends.push_back(*token);
    };
    add(eos);
    for (const std::string_view name :
         {"<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "<|eot_id|>", "<|eom_id|>"})
      add(find_added(name));
  }
};

/// SentencePiece's blank.
inline constexpr std::string_view blank_mark = "\u2581";

/// Turns the pieces of a byte-level vocabulary, written in GPT-2's alphabet, into the bytes that they stand
/// for. One with a character that is not in the alphabet stays as it is.
class ByteAlphabet {
 public:
  ByteAlphabet() {
    byte_of_.fill(-1);
    const std::array<char32_t, 256> alphabet = byte_characters();
    for (int byte = 0; byte < 256; ++byte) byte_of_[alphabet[static_cast<std::size_t>(byte)]] = byte;
  }
  std::string bytes(std::string_view piece) const {
    std::string result;
    for (std::size_t at = 0; at < piece.size();) {
      const Char c = char_at(piece, at);
      if (c.code >= byte_of_.size() || byte_of_[c.code] < 0) return std::string(piece);
      result += static_cast<char>(byte_of_[c.code]);
      at += c.size;
    }
    return result;
  }

 private:
  std::array<int, 256 + 68> byte_of_;
};

/// The byte of SentencePiece's byte tokens, "<0x0A>".
inline std::optional<char> byte_of_piece(std::string_view piece) {
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece[5] != '>') return std::nullopt;
  int value = 0;
  for (const char c : piece.substr(3, 2)) {
    const std::size_t digit = std::string_view("0123456789ABCDEF").find(c);
    if (digit == std::string_view::npos) return std::nullopt;
    value = value * 16 + static_cast<int>(digit);
  }
  return static_cast<char>(value);
}

}  // namespace llama
