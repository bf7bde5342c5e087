// Collecting text from files and folders, without what every source file repeats.
#pragma once

#include <algorithm>     // search, all_of, find, mismatch
#include <cctype>        // tolower
#include <cstddef>       // size_t
#include <cstdint>       // uint64_t
#include <filesystem>    // paths and folder walks
#include <set>           // set
#include <stdexcept>     // runtime_error
#include <string>        // string
#include <string_view>   // string_view
#include <system_error>  // error_code
#include <utility>       // move
#include <vector>        // vector

#include "files.hpp"  // read_file, fnv1a

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
    // Code after the comment on its last line keeps the comment.
    return trimmed(line_at(text, close + 2)).empty() ? after_line(close) : at;
  }
  std::size_t end = at;
  while (end < text.size() && trimmed(line_at(text, end)).substr(0, 2) == "//") end = after_line(end);
  return end;
}

/// Whether the text mentions its licence. Matched without regard to case.
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

/// What every header repeats and no model should get credit for predicting: the comments before the first
/// line of code, any later comment block that mentions a licence, and the include guard. Text without C++
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

/// One file of text, without its boilerplate.
struct TextFile {
  std::filesystem::path path;  ///< canonical
  std::filesystem::path
      directory;  ///< its folder, as shown to the user: c++/12/bits for the root /usr/include/c++/12
  std::string text;
};

/// Everything found under the paths the user named.
struct Corpus {
  std::string name;                   ///< what it is called in messages: "base text" or "task text"
  std::string option;                 ///< the option that changes it: "--base-text" or "--task-text"
  std::vector<TextFile> files;        ///< sorted by path
  std::size_t skipped_binary = 0;     ///< files that are not UTF-8 text
  std::size_t skipped_duplicate = 0;  ///< files equal to an earlier one, byte for byte
  std::size_t skipped_overlap = 0;    ///< files that are also in the other corpus

  std::size_t bytes() const {
    std::size_t sum = 0;
    for (const TextFile& file : files) sum += file.text.size();
    return sum;
  }
};

/// Whether this is valid UTF-8 without a zero byte. Anything else would teach the model noise.
inline bool is_text(std::string_view bytes) {
  for (std::size_t i = 0; i < bytes.size();) {
    const auto byte = [&](std::size_t at) {
      return at < bytes.size() ? static_cast<unsigned char>(bytes[at]) : 0u;
    };
    const unsigned lead = byte(i);
    if (lead == 0) return false;
    if (lead < 0x80) {
      ++i;
      continue;
    }
    // Length of the sequence and the smallest code point that needs it; anything smaller is overlong.
    const std::size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    const std::uint32_t smallest = length == 4 ? 0x10000 : length == 3 ? 0x800 : 0x80;
    if (lead < 0xc2 || lead > 0xf4) return false;
    std::uint32_t code = lead & (0x7fu >> length);
    for (std::size_t k = 1; k < length; ++k) {
      if ((byte(i + k) & 0xc0u) != 0x80u) return false;
      code = (code << 6) | (byte(i + k) & 0x3fu);
    }
    if (code < smallest || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return false;
    i += length;
  }
  return true;
}

/// A file that was found: its canonical path and its folder as shown.
struct FoundFile {
  std::filesystem::path path, folder;
};

/// The longest folder that holds all of the paths.
inline std::filesystem::path common_parent(const std::vector<std::filesystem::path>& paths) {
  std::filesystem::path common = paths.front().parent_path();
  const auto holds = [&](const std::filesystem::path& path) {
    return std::mismatch(common.begin(), common.end(), path.begin(), path.end()).first == common.end();
  };
  while (!std::all_of(paths.begin(), paths.end(), holds)) common = common.parent_path();
  return common;
}

/// The regular files under the roots (a root may itself be a file), sorted by path, each once.
inline std::vector<FoundFile> list_files(const std::string& option,
                                         const std::vector<std::filesystem::path>& roots,
                                         const std::vector<std::string>& left_out) {
  namespace fs = std::filesystem;
  std::set<fs::path> files;
  std::vector<fs::path> folders;  // the roots, or what holds them
  for (const fs::path& root : roots) {
    std::error_code error;
    const fs::path base = fs::canonical(root, error);
    if (error)
      throw std::runtime_error(option + ": " + root.string() + " does not exist or cannot be read (" +
                               error.message() + ")");
    if (!fs::is_directory(base)) {
      files.insert(base);
      folders.push_back(base.parent_path());
      continue;
    }
    folders.push_back(base);
    // What cannot be entered is an error: a text of which a part is missing is another text.
    fs::path last = base;
    for (fs::recursive_directory_iterator at(base, error), end; !error && at != end; at.increment(error)) {
      last = at->path();
      const std::string name = at->path().filename().string();
      const bool leave =
          name.front() == '.' || std::find(left_out.begin(), left_out.end(), name) != left_out.end();
      if (at->is_directory() && leave) at.disable_recursion_pending();
      if (!leave && at->is_regular_file() && !at->is_symlink()) files.insert(at->path());
    }
    if (error)
      throw std::runtime_error(option + ": the folder " + last.string() + " cannot be read (" +
                               error.message() + ")");
  }
  std::vector<FoundFile> found;
  for (const fs::path& file : files)
    found.push_back({file, file.parent_path().lexically_relative(common_parent(folders).parent_path())});
  return found;
}

/// Reads all text under `roots` (files or folders), in an order that depends on the paths alone. Folders and
/// files named in `left_out` are not entered. Binary files and exact duplicates are counted and skipped.
inline Corpus collect(std::string name, std::string option, const std::vector<std::filesystem::path>& roots,
                      const std::vector<std::string>& left_out = {}) {
  Corpus corpus;
  corpus.name = std::move(name);
  corpus.option = std::move(option);
  std::set<std::uint64_t> contents;
  for (const auto& [path, folder] : list_files(corpus.option, roots, left_out)) {
    const std::string bytes = read_file(path);
    if (!is_text(bytes)) {
      ++corpus.skipped_binary;
      continue;
    }
    std::string text = remove_boilerplate(bytes);
    if (text.empty()) continue;
    if (contents.insert(fnv1a(text)).second)
      corpus.files.push_back({path, folder, std::move(text)});
    else
      ++corpus.skipped_duplicate;
  }
  if (corpus.files.empty())
    throw std::runtime_error(corpus.option + ": no text found under " +
                             (roots.empty() ? std::string("(no path)") : roots.front().string()) +
                             (roots.size() > 1 ? " and the other paths" : "") + "; " +
                             std::to_string(corpus.skipped_binary) +
                             " file(s) were skipped because they are not UTF-8 text");
  return corpus;
}

}  // namespace finetune
