// Finds the names of added tokens in text: "<|im_end|>", "<think>".
#pragma once

#include <algorithm>    // sort
#include <array>        // array
#include <cstddef>      // size_t
#include <string_view>  // string_view
#include <utility>      // move
#include <vector>       // vector

#include "unicode.hpp"
#include "vocabulary.hpp"

namespace llama {

class AddedTokens {
 public:
  AddedTokens() = default;
  explicit AddedTokens(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
    // Where several begin at one place, the longest counts.
    std::sort(tokens_.begin(), tokens_.end(),
              [](const AddedToken& a, const AddedToken& b) { return a.name.size() > b.name.size(); });
    for (std::size_t i = 0; i < tokens_.size(); ++i)
      if (!tokens_[i].name.empty()) by_first_[static_cast<unsigned char>(tokens_[i].name[0])].push_back(i);
  }

  /// Calls on_text(begin, end) and on_token(token, end) for the parts of a text, in their order. Without
  /// `control`, names of control tokens are text.
  template <class OnText, class OnToken>
  void cut(std::string_view text, bool control, const OnText& on_text, const OnToken& on_token) const {
    std::size_t begin = 0;  // of the text that was not told yet
    for (std::size_t at = 0; at < text.size();) {
      const AddedToken* found = find_at(text, at, control);
      if (!found) {
        ++at;
        continue;
      }
      std::size_t end = at + found->name.size();
      if (found->takes_blanks_left) at = begin_of_blanks(text, begin, at);
      if (found->takes_blanks_right)
        while (end < text.size() && kind_of(char_at(text, end).code) == CharKind::space)
          end += char_at(text, end).size;
      if (begin < at) on_text(begin, at);
      on_token(*found, end);
      begin = at = end;
    }
    if (begin < text.size()) on_text(begin, text.size());
  }

 private:
  const AddedToken* find_at(std::string_view text, std::size_t at, bool control) const {
    for (const std::size_t i : by_first_[static_cast<unsigned char>(text[at])])
      if ((control || !tokens_[i].is_control) && text.substr(at).starts_with(tokens_[i].name))
        return &tokens_[i];
    return nullptr;
  }
  static std::size_t begin_of_blanks(std::string_view text, std::size_t begin, std::size_t end) {
    while (end > begin) {
      std::size_t at = end - 1;
      while (at > begin && static_cast<unsigned char>(text[at]) >> 6 == 2) --at;
      if (kind_of(char_at(text, at).code) != CharKind::space) break;
      end = at;
    }
    return end;
  }

  std::vector<AddedToken> tokens_;
  std::array<std::vector<std::size_t>, 256> by_first_ = {};
};

}  // namespace llama
