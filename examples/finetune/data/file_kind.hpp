// Files that are no text, by their first bytes.
#pragma once

#include <algorithm>    // equal
#include <string_view>  // string_view

namespace finetune {

using namespace std::string_view_literals;

/// What a file is that is no text, and what to do: "a gzip file; unpack it first". Empty if it may be one.
inline std::string_view known_binary(std::string_view bytes) {
  struct Kind {
    std::string_view begin, what;
  };
  static constexpr Kind kinds[] = {
      {"\x1f\x8b"sv, "a gzip file; unpack it first (gunzip)"},
      {"PK\x03\x04"sv, "a zip archive; unpack it first (unzip)"},
      {"\x28\xb5\x2f\xfd"sv, "a Zstandard file; unpack it first (unzstd)"},
      {"\xfd"
       "7zXZ\0"sv,
       "an xz file; unpack it first (unxz)"},
      {"BZh"sv, "a bzip2 file; unpack it first (bunzip2)"},
      {"PAR1"sv, "a Parquet table; write it as JSONL first"},
      {"ARROW1"sv, "an Arrow table; write it as JSONL first"},
      {"SQLite format 3\0"sv, "an SQLite database; write what is in it as JSONL first"},
      {"GGUF"sv, "a GGUF model, no training data"},
      {"%PDF-"sv, "a PDF document; take its text out first"},
      {"\xff\xfe"sv, "UTF-16 text; convert it to UTF-8 first (iconv)"},
      {"\xfe\xff"sv, "UTF-16 text; convert it to UTF-8 first (iconv)"},
      {"version https://git-lfs.github.com/spec/"sv,
       "a Git LFS pointer in place of the file; fetch the file itself (git lfs pull)"},
  };
  for (const Kind& kind : kinds)
    if (bytes.starts_with(kind.begin)) return kind.what;
  return {};
}

/// Whether it begins as a page of the web does: what a download gives that went wrong.
inline bool is_web_page(std::string_view bytes) {
  const auto begin = bytes.find_first_not_of(" \t\r\n");
  if (begin == bytes.npos) return false;
  bytes.remove_prefix(begin);
  const auto begins_with = [&](std::string_view tag) {
    return bytes.size() >= tag.size() &&
           std::equal(tag.begin(), tag.end(), bytes.begin(),
                      [](char a, char b) { return a == (b >= 'A' && b <= 'Z' ? b - 'A' + 'a' : b); });
  };
  return begins_with("<!doctype html") || begins_with("<html");
}

}  // namespace finetune
