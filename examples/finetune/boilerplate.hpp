// Removing what every source file repeats: licences and include guards.
#pragma once

#include <algorithm>    // search
#include <cctype>       // tolower
#include <cstddef>      // size_t
#include <string>       // string
#include <string_view>  // string_view

namespace finetune {

/// The line that starts at `at`, without its newline.
inline std::string_view line_at(std::string_view text, std::size_t at) {
  const std::size_t end = text.find('\n', at);
  return text.substr(at, end == std::string_view::npos ? std::string_view::npos : end - at);
}

inline std::string_view trimmed(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(" \t\r\n\f");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r\n\f") - begin + 1);
}

/// Where the comment block that starts on the line at `at` ends (the start of the first line after it), or
/// `at` if that line starts no comment. A block is one /* … */ or a run of // lines.
inline std::size_t end_of_comment(std::string_view text, std::size_t at) {
  const auto after_line = [&](std::size_t from) {
    const std::size_t newline = text.find('\n', from);
    return newline == std::string_view::npos ? text.size() : newline + 1;
  };
  const std::string_view first = trimmed(line_at(text, at));
  if (first.substr(0, 2) == "/*") {
    const std::size_t close = text.find("*/", text.find("/*", at) + 2);
    if (close == std::string_view::npos) return at;
    // Code behind the comment on its last line keeps the comment.
    return trimmed(line_at(text, close + 2)).empty() ? after_line(close) : at;
  }
  std::size_t end = at;
  while (end < text.size() && trimmed(line_at(text, end)).substr(0, 2) == "//") end = after_line(end);
  return end;
}

/// Does the text speak of its licence? Matched without regard to case.
inline bool mentions_licence(std::string_view text) {
  for (const std::string_view word : {"copyright", "licens", "licenc", "spdx-"}) {
    const auto equal = [](char a, char b) { return std::tolower(static_cast<unsigned char>(a)) == b; };
    if (std::search(text.begin(), text.end(), word.begin(), word.end(), equal) != text.end()) return true;
  }
  return false;
}

/// Removes `#ifndef X`, `#define X …` at the top and the `#endif` on the last line, if the file is guarded
/// so.
inline std::string_view without_include_guard(std::string_view text) {
  const auto directive = [](std::string_view line, std::string_view word) -> std::string_view {
    line = trimmed(line);
    if (line.empty() || line.front() != '#') return {};
    line = trimmed(line.substr(1));
    if (line.substr(0, word.size()) != word) return {};
    line = trimmed(line.substr(word.size()));
    return line.substr(0, line.find_first_of(" \t/"));
  };
  const std::string_view first = line_at(text, 0);
  const std::string_view name = directive(first, "ifndef");
  const std::size_t second_at = first.size() + 1;
  if (name.empty() || second_at >= text.size()) return text;
  const std::string_view second = line_at(text, second_at);
  if (directive(second, "define") != name) return text;
  const std::string_view body = trimmed(text.substr(std::min(text.size(), second_at + second.size() + 1)));
  const std::size_t last = body.rfind('\n');
  const std::size_t last_at = last == std::string_view::npos ? 0 : last + 1;
  const std::string_view end = trimmed(body.substr(last_at));
  if (end.substr(0, 1) != "#" || trimmed(end.substr(1)).substr(0, 5) != "endif") return text;
  return trimmed(body.substr(0, last_at));
}

/// What every header repeats and no model should be praised for predicting: the comments before the first
/// line of code, any later comment block that speaks of a licence, and the include guard. Text without C++
/// comments comes back as it was, apart from blank lines at both ends; a final newline is added.
inline std::string remove_boilerplate(std::string_view bytes) {
  std::string kept;
  kept.reserve(bytes.size());
  bool code_seen = false;
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t comment_end = end_of_comment(bytes, at);
    if (comment_end > at) {
      const std::string_view comment = bytes.substr(at, comment_end - at);
      if (code_seen && !mentions_licence(comment)) kept += comment;
      at = comment_end;
      continue;
    }
    const std::string_view line = line_at(bytes, at);
    if (!trimmed(line).empty()) code_seen = true;
    if (code_seen) (kept += line) += '\n';
    at += line.size() + 1;
  }
  const std::string_view body = trimmed(without_include_guard(trimmed(kept)));
  return body.empty() ? std::string() : std::string(body) + '\n';
}

}  // namespace finetune
