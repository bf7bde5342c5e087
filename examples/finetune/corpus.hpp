// Collecting text from files and folders.
#pragma once

#include <algorithm>     // all_of, find, mismatch
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

#include "boilerplate.hpp"  // remove_boilerplate
#include "files.hpp"        // read_file
#include "hash.hpp"         // fnv1a

namespace finetune {

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
  std::size_t skipped_overlap = 0;    ///< files that also stand in the other corpus

  std::size_t bytes() const {
    std::size_t sum = 0;
    for (const TextFile& file : files) sum += file.text.size();
    return sum;
  }
};

/// Is this valid UTF-8 without a zero byte? What is not would teach the model noise.
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
    for (fs::recursive_directory_iterator at(base, fs::directory_options::skip_permission_denied), end;
         at != end; ++at) {
      const std::string name = at->path().filename().string();
      const bool leave =
          name.front() == '.' || std::find(left_out.begin(), left_out.end(), name) != left_out.end();
      if (at->is_directory() && leave) at.disable_recursion_pending();
      if (!leave && at->is_regular_file() && !at->is_symlink()) files.insert(at->path());
    }
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
