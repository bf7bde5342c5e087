// Writing files whole or not at all, CSV tables, and the hashes that tell contents apart.
#pragma once

#include <algorithm>    // find, all_of
#include <cmath>        // isfinite
#include <cstddef>      // size_t
#include <cstdint>      // uint64_t
#include <filesystem>   // path
#include <fstream>      // ifstream
#include <stdexcept>    // runtime_error
#include <string>       // string
#include <string_view>  // string_view
#include <utility>      // move
#include <vector>       // vector

#include <fmt/format.h>
#include <llama/random.hpp>      // Random
#include <tiedlora/io/file.hpp>  // write_file

namespace finetune {

/// FNV-1a of some bytes: the same on every compiler, and good enough to notice that a file or a setting
/// changed. `state` continues an earlier hash.
inline std::uint64_t fnv1a(std::string_view bytes, std::uint64_t state = 0xcbf29ce484222325u) {
  for (const char byte : bytes) state = (state ^ static_cast<unsigned char>(byte)) * 0x100000001b3u;
  return state;
}

/// The finaliser of SplitMix64: a bijection that spreads every input bit over the whole result.
inline std::uint64_t mix(std::uint64_t x) { return llama::Random(x).bits(); }

/// Writes a file in one step, and the folders to it: readers see the old file or the new one, never a part.
inline void write_atomically(const std::filesystem::path& path, std::string_view bytes) {
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path());
  tiedlora::write_file(path, bytes);
}

inline std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string bytes;
  file.seekg(0, std::ios::end);
  if (file) bytes.resize(static_cast<std::size_t>(file.tellg()));
  file.seekg(0);
  file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (!file) throw std::runtime_error("cannot read " + path.string());
  return bytes;
}

/// "0.1234", and nothing for a value that was not measured.
inline std::string csv_number(double number) {
  return std::isfinite(number) ? fmt::format("{:.6g}", number) : std::string();
}

/// A CSV file held in memory: a header and rows of text. save() writes it whole.
class CsvTable {
 public:
  using Row = std::vector<std::string>;

  explicit CsvTable(Row columns) : columns_(std::move(columns)) {}

  /// With the rows of an existing file. Throws if its columns are others; a missing file is an empty table.
  static CsvTable load(const std::filesystem::path& path, Row columns) {
    CsvTable table(std::move(columns));
    if (!std::filesystem::exists(path)) return table;
    const std::vector<Row> lines = parse(read_file(path));
    if (lines.empty()) return table;
    if (lines.front() != table.columns_)
      throw std::runtime_error(
          path.string() +
          " has different columns from those this version writes; move it away or name another folder");
    for (std::size_t i = 1; i < lines.size(); ++i)
      if (lines[i].size() == table.columns_.size()) table.rows_.push_back(lines[i]);
    return table;
  }

  const Row& columns() const { return columns_; }
  const std::vector<Row>& rows() const { return rows_; }

  std::size_t column(std::string_view name) const {
    const auto at = std::find(columns_.begin(), columns_.end(), name);
    if (at == columns_.end()) throw std::out_of_range("no column is named " + std::string(name));
    return static_cast<std::size_t>(at - columns_.begin());
  }

  void add(Row row) {
    if (row.size() != columns_.size())
      throw std::invalid_argument("a row must have as many fields as the table has columns");
    rows_.push_back(std::move(row));
  }

  /// Removes the rows whose first fields are these.
  void remove(const Row& first_fields) {
    const auto matches = [&](const Row& row) {
      return std::equal(first_fields.begin(), first_fields.end(), row.begin());
    };
    rows_.erase(std::remove_if(rows_.begin(), rows_.end(), matches), rows_.end());
  }

  void save(const std::filesystem::path& path) const {
    std::string text = line(columns_);
    for (const Row& row : rows_) text += line(row);
    write_atomically(path, text);
  }

 private:
  static std::string line(const Row& row) {
    std::string text;
    for (const std::string& field : row) text += quoted(field) + ',';
    text.back() = '\n';
    return text;
  }

  static std::string quoted(const std::string& field) {
    if (field.find_first_of(",\"\n") == std::string::npos) return field;
    std::string text = "\"";
    for (const char c : field) text += c == '"' ? std::string("\"\"") : std::string(1, c);
    return text + '"';
  }

  static std::vector<Row> parse(std::string_view text) {
    std::vector<Row> lines;
    Row row;
    std::string field;
    bool inside = false;
    for (std::size_t i = 0; i < text.size(); ++i) {
      const char c = text[i];
      if (inside && c == '"' && text.substr(i + 1, 1) == "\"") {
        field += '"';
        ++i;
      } else if (c == '"') {
        inside = !inside;
      } else if (!inside && (c == ',' || c == '\n')) {
        row.push_back(std::move(field));
        field.clear();
        if (c == '\n') lines.push_back(std::move(row)), row.clear();
      } else if (c != '\r') {
        field += c;
      }
    }
    return lines;  // a last line without a newline was not written whole
  }

  Row columns_;
  std::vector<Row> rows_;
};

}  // namespace finetune
