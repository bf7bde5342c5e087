// A file of JSON cut into its examples, without parsing it as a whole: one a line, or the elements of a list.
#pragma once

#include <algorithm>    // min
#include <cstddef>      // size_t
#include <string_view>  // string_view

namespace finetune {

/// Calls on_piece(piece) for each, views into `text`; blank lines are passed over. A text that begins with
/// '[' is a list. Where one is broken outside of its elements, on_broken(what, place) is called and the rest
/// is left.
template <class OnPiece, class OnBroken>
class JsonPieces {
 public:
  JsonPieces(std::string_view text, const OnPiece& on_piece, const OnBroken& on_broken)
      : text_(text), on_piece_(on_piece), on_broken_(on_broken) {}

  void run() {
    skip_blanks();
    if (at_ < text_.size() && text_[at_] == '[')
      run_list();
    else
      run_lines();
  }

  /// The first piece; empty if there is none.
  std::string_view first() {
    skip_blanks();
    const bool is_list = at_ < text_.size() && text_[at_] == '[';
    if (is_list) ++at_, skip_blanks();
    const std::size_t begin = at_;
    if (!is_list) at_ = std::min(text_.find('\n', at_), text_.size());
    if (is_list && !skip_element()) return {};
    return text_.substr(begin, at_ - begin);
  }

 private:
  static constexpr std::string_view blanks = " \t\r\n";

  void skip_blanks() {
    const std::size_t next = text_.find_first_not_of(blanks, at_);
    at_ = next == text_.npos ? text_.size() : next;
  }
  void give(std::size_t begin, std::size_t end) const {
    const std::string_view piece = text_.substr(begin, end - begin);
    const std::size_t first = piece.find_first_not_of(blanks);
    if (first != piece.npos) on_piece_(piece.substr(first, piece.find_last_not_of(blanks) + 1 - first));
  }

  void run_lines() {
    while (at_ < text_.size()) {
      std::size_t end = text_.find('\n', at_);
      if (end == text_.npos) end = text_.size();
      give(at_, end);
      at_ = end + 1;
    }
  }

  void run_list() {
    const std::size_t open = at_++;
    skip_blanks();
    const bool is_empty = at_ < text_.size() && text_[at_] == ']';
    while (!is_empty) {
      skip_blanks();
      const std::size_t begin = at_;
      if (!skip_element())
        return on_broken_("begins a list that is not closed with \"]\"", begin < text_.size() ? begin : open);
      if (text_.substr(begin, at_ - begin).find_first_not_of(blanks) == text_.npos)
        return on_broken_("has a list with a comma that has nothing before or after it", at_);
      give(begin, at_);
      if (text_[at_] == ']') break;
      ++at_;
    }
    ++at_;
    skip_blanks();
    if (at_ < text_.size()) on_broken_("comes after the end of the list", at_);
  }

  // Up to the comma or bracket that ends it, on which at_ then stands.
  bool skip_element() {
    std::size_t depth = 0;
    bool in_string = false;
    for (; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      if (in_string) {
        if (c == '\\')
          ++at_;
        else
          in_string = c != '"';
      } else if (c == '"') {
        in_string = true;
      } else if (c == '{' || c == '[') {
        ++depth;
      } else if (depth > 0) {
        depth -= c == '}' || c == ']' ? 1 : 0;
      } else if (c == ',' || c == ']') {
        return true;
      }
    }
    at_ = text_.size();
    return false;
  }

  std::string_view text_;
  const OnPiece& on_piece_;
  const OnBroken& on_broken_;
  std::size_t at_ = 0;
};

template <class OnPiece, class OnBroken>
void for_each_piece(std::string_view text, const OnPiece& on_piece, const OnBroken& on_broken) {
  JsonPieces<OnPiece, OnBroken>(text, on_piece, on_broken).run();
}

/// The first of those pieces, and nothing after it is looked at.
inline std::string_view first_piece(std::string_view text) {
  const auto nothing = [](const auto&...) {};
  return JsonPieces<decltype(nothing), decltype(nothing)>(text, nothing, nothing).first();
}

}  // namespace finetune
