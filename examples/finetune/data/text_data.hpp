// The two bodies of text, where they come from by default, and the bytes of them that the model sees.
#pragma once

#include <algorithm>     // sort, min, max
#include <cstddef>       // size_t
#include <cstdint>       // int32_t, uint64_t
#include <filesystem>    // path
#include <stdexcept>     // runtime_error, invalid_argument
#include <string>        // string, to_string
#include <string_view>   // string_view
#include <system_error>  // error_code
#include <vector>        // vector

#include <fmt/format.h>
#include <finetune/settings.hpp>  // Settings

#include "files.hpp"  // mix, CsvTable
#include "split.hpp"  // remove_overlap, split_corpus

// Both are lists of folders separated by ':', which CMake writes.
#ifndef FINETUNE_CXX_INCLUDE_DIRECTORIES
#define FINETUNE_CXX_INCLUDE_DIRECTORIES ""
#endif
#ifndef FINETUNE_EIGEN_INCLUDE_DIRECTORIES
#define FINETUNE_EIGEN_INCLUDE_DIRECTORIES ""
#endif

namespace finetune {

inline std::vector<std::filesystem::path> separated(std::string_view paths) {
  std::vector<std::filesystem::path> list;
  while (!paths.empty()) {
    const std::size_t colon = std::min(paths.find(':'), paths.size());
    if (colon > 0) list.emplace_back(paths.substr(0, colon));
    paths.remove_prefix(std::min(colon + 1, paths.size()));
  }
  return list;
}

/// The C++ standard library headers of the compiler that built this program, else the newest in
/// /usr/include/c++.
inline std::vector<std::filesystem::path> default_base_text() {
  namespace fs = std::filesystem;
  std::vector<fs::path> folders = separated(FINETUNE_CXX_INCLUDE_DIRECTORIES);
  std::vector<fs::path> others;
  std::error_code none;
  for (const fs::directory_entry& entry : fs::directory_iterator("/usr/include/c++", none))
    others.push_back(entry.path());
  std::sort(others.begin(), others.end(), [](const fs::path& a, const fs::path& b) {
    const std::string x = a.filename().string(), y = b.filename().string();
    return x.size() != y.size() ? x.size() > y.size() : x > y;  // 12 before 9
  });
  folders.insert(folders.end(), others.begin(), others.end());
  for (const fs::path& folder : folders)
    if (fs::exists(folder / "vector") && fs::exists(folder / "cstddef")) return {folder};
  throw std::runtime_error(
      "the C++ standard library headers, which are the default base text, were not found; name other text "
      "with --base-text PATH");
}

/// Eigen's own headers. Its src/misc holds LAPACK's C interface, a megabyte of one repeated pattern: leave
/// that out.
inline std::vector<std::filesystem::path> default_task_text() {
  namespace fs = std::filesystem;
  for (const fs::path& folder : separated(FINETUNE_EIGEN_INCLUDE_DIRECTORIES ":/usr/include/eigen3")) {
    std::vector<fs::path> found;
    for (const fs::path& part : {folder / "Eigen", folder / "unsupported" / "Eigen"})
      if (fs::exists(part)) found.push_back(part);
    if (!found.empty()) return found;
  }
  throw std::runtime_error(
      "Eigen's headers, which are the default task text, were not found; name other text with --task-text "
      "PATH");
}
inline const std::vector<std::string>& left_out_of_task_text() {
  static const std::vector<std::string> names = {"misc"};
  return names;
}

/// `sequences` windows of `length` bytes and, for each byte, the one that follows it: the target.
struct Tokens {
  std::ptrdiff_t sequences = 0, length = 0;
  std::vector<std::int32_t> tokens, targets;  // [sequences, length]

  std::ptrdiff_t count() const { return sequences * length; }
};

/// Copies into row `row` the window of `text` that begins at `begin`.
inline void set_window(Tokens& batch, std::ptrdiff_t row, std::string_view text, std::size_t begin) {
  const auto at = static_cast<std::size_t>(row * batch.length);
  for (std::size_t i = 0; i < static_cast<std::size_t>(batch.length); ++i) {
    batch.tokens[at + i] = static_cast<unsigned char>(text[begin + i]);
    batch.targets[at + i] = static_cast<unsigned char>(text[begin + i + 1]);
  }
}

inline Tokens empty_batch(std::ptrdiff_t sequences, std::ptrdiff_t length) {
  if (sequences < 1 || length < 1)
    throw std::invalid_argument("a batch needs at least 1 sequence of at least 1 byte, not " +
                                std::to_string(sequences) + " of " + std::to_string(length));
  const auto count = static_cast<std::size_t>(sequences * length);
  return {sequences, length, std::vector<std::int32_t>(count), std::vector<std::int32_t>(count)};
}

/// Training batches: windows at random places of a text. What batch(step) returns depends on (text, sizes,
/// seed, step) alone, so that every scheme sees the same data in the same order.
class Sampler {
 public:
  /// Keeps a view of `text`, which must outlive the sampler.
  Sampler(std::string_view text, std::ptrdiff_t sequences, std::ptrdiff_t length, std::uint64_t seed)
      : text_(text), sequences_(sequences), length_(length), seed_(seed) {
    if (text.size() <= static_cast<std::size_t>(length))
      throw std::invalid_argument("a text of " + std::to_string(text.size()) + " bytes has no window of " +
                                  std::to_string(length) + " bytes and a target");
  }

  Tokens batch(std::uint64_t step) const {
    Tokens batch = empty_batch(sequences_, length_);
    const std::uint64_t places = text_.size() - static_cast<std::size_t>(length_);
    for (std::ptrdiff_t row = 0; row < sequences_; ++row) {
      const std::uint64_t number = mix(mix(mix(seed_) + step) + static_cast<std::uint64_t>(row));
      set_window(batch, row, text_, number % places);  // the modulo's bias is below places / 2^64
    }
    return batch;
  }

 private:
  std::string_view text_;
  std::ptrdiff_t sequences_, length_;
  std::uint64_t seed_;
};

/// Evaluation batches of `sequences` windows each: `windows` (or as many as fit) windows without overlap,
/// evenly spread over the text, always the same. The number of windows is rounded down to whole batches,
/// except below one.
inline std::vector<Tokens> evaluation_batches(std::string_view text, std::ptrdiff_t sequences,
                                              std::ptrdiff_t length, std::ptrdiff_t windows) {
  const auto fitting = static_cast<std::ptrdiff_t>((text.size() - std::min<std::size_t>(text.size(), 1)) /
                                                   static_cast<std::size_t>(length));
  windows = std::min(windows, fitting);
  sequences = std::min(sequences, windows);
  std::vector<Tokens> batches;
  const std::ptrdiff_t count = sequences < 1 ? 0 : windows / sequences;
  for (std::ptrdiff_t b = 0; b < count; ++b) {
    batches.push_back(empty_batch(sequences, length));
    for (std::ptrdiff_t row = 0; row < sequences; ++row) {
      const std::ptrdiff_t window = (b * sequences + row) * fitting / (count * sequences);
      set_window(batches.back(), row, text, static_cast<std::size_t>(window * length));
    }
  }
  if (batches.empty())
    throw std::invalid_argument("a text of " + std::to_string(text.size()) + " bytes has no window of " +
                                std::to_string(length) + " bytes and a target");
  return batches;
}

struct TextData {
  Corpus base_corpus, task_corpus;  ///< files without their text
  Split base, task;
  std::vector<Tokens> select;     ///< of the task's select split
  std::vector<Tokens> test;       ///< of the task's test split
  std::vector<Tokens> base_test;  ///< of the base's test split, for what fine-tuning forgets
};

/// Reads and cuts both texts. Throws if a path is missing, or a text too short for `settings.length`.
inline TextData read_text(const Settings& settings) {
  TextData data;
  data.base_corpus = collect("base text", "--base-text",
                             settings.base_text.empty() ? default_base_text() : settings.base_text);
  data.task_corpus = settings.task_text.empty()
                         ? collect("task text", "--task-text", default_task_text(), left_out_of_task_text())
                         : collect("task text", "--task-text", settings.task_text);
  remove_overlap(data.base_corpus, data.task_corpus);
  // At least a few windows in each part, or its loss would say nothing.
  const auto fewest = static_cast<std::size_t>(8 * (settings.length + 1));
  data.base = split_corpus(data.base_corpus, fewest);
  data.task = split_corpus(data.task_corpus, fewest);
  for (Corpus* corpus : {&data.base_corpus, &data.task_corpus})
    for (TextFile& file : corpus->files) file.text = std::string();
  const auto windows = [&](const Split& split, Part part, Index count) {
    return evaluation_batches(split.text(part), settings.batch, settings.length, std::max<Index>(count, 1));
  };
  data.select = windows(data.task, Part::select, settings.windows / 8);
  data.test = windows(data.task, Part::test, settings.windows);
  data.base_test = windows(data.base, Part::test, settings.windows / 2);
  return data;
}

/// "5.81 MB"
inline std::string size_text(double bytes) {
  return bytes < 1e3   ? fmt::format("{:.0f} B", bytes)
         : bytes < 1e6 ? fmt::format("{:.3g} kB", bytes / 1e3)
                       : fmt::format("{:.3g} MB", bytes / 1e6);
}

/// The split as a table for people: the parts, their sizes and their largest folders.
inline std::string split_table(const Corpus& corpus, const Split& split) {
  std::string table = fmt::format("{}: {} files", corpus.name, corpus.files.size());
  const auto note = [&](std::size_t count, const char* what) {
    if (count > 0) table += fmt::format(", {} {} left out", count, what);
  };
  note(corpus.skipped_binary, "not UTF-8 text");
  note(corpus.skipped_duplicate, "exact duplicates");
  note(corpus.skipped_overlap, "also in the task text");
  table += fmt::format("; split by {}{}\n", split.unit_kind,
                       split.unit_kind == "block" ? "" : ", near-copies together");
  for (std::size_t p = 0; p < 3; ++p) {
    std::vector<const Split::Row*> rows;
    for (const Split::Row& row : split.rows)
      if (row.part == static_cast<Part>(p)) rows.push_back(&row);
    std::sort(rows.begin(), rows.end(), [](const auto* a, const auto* b) {
      return a->bytes != b->bytes ? a->bytes > b->bytes : a->unit < b->unit;
    });
    std::string largest;
    for (std::size_t i = 0; i < rows.size() && i < 3; ++i) largest += (i > 0 ? ", " : "") + rows[i]->unit;
    if (rows.size() > 3) largest += fmt::format(" and {} more", rows.size() - 3);
    table +=
        fmt::format("  {:<7}{:>8}  {}\n", part_names[p], size_text(double(split.texts[p].size())), largest);
  }
  return table;
}

/// Every folder with its part: text_splits.csv.
inline void save_splits(const std::filesystem::path& path, const TextData& data) {
  CsvTable table({"text", "part", "unit", "near_copy_group", "files", "bytes"});
  for (const auto& [name, split] : {std::pair("base", &data.base), std::pair("task", &data.task)})
    for (const Split::Row& row : split->rows)
      table.add({name, part_names[static_cast<std::size_t>(row.part)], row.unit, std::to_string(row.group),
                 std::to_string(row.files), std::to_string(row.bytes)});
  table.save(path);
}

}  // namespace finetune
