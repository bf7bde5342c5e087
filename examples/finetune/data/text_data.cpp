// Where text comes from, and how it is cut.
#include "text_data.hpp"

#include <algorithm>     // sort, min, max
#include <stdexcept>     // runtime_error, invalid_argument
#include <system_error>  // error_code
#include <utility>       // pair

#include <fmt/format.h>

// Both are lists of folders separated by ':', which CMake writes.
#ifndef FINETUNE_CXX_INCLUDE_DIRECTORIES
#define FINETUNE_CXX_INCLUDE_DIRECTORIES ""
#endif
#ifndef FINETUNE_EIGEN_INCLUDE_DIRECTORIES
#define FINETUNE_EIGEN_INCLUDE_DIRECTORIES ""
#endif

namespace finetune {

namespace {

std::vector<std::filesystem::path> separated(std::string_view paths) {
  std::vector<std::filesystem::path> list;
  while (!paths.empty()) {
    const std::size_t colon = std::min(paths.find(':'), paths.size());
    if (colon > 0) list.emplace_back(paths.substr(0, colon));
    paths.remove_prefix(std::min(colon + 1, paths.size()));
  }
  return list;
}

}  // namespace

std::vector<std::filesystem::path> default_base_text() {
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

std::vector<std::filesystem::path> default_task_text() {
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

std::vector<Tokens> evaluation_batches(std::string_view text, std::ptrdiff_t sequences, std::ptrdiff_t length,
                                       std::ptrdiff_t windows) {
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
    throw std::invalid_argument("a text of " + std::to_string(text.size()) +
                                " bytes is too short for a window of " + std::to_string(length) +
                                " bytes and a target");
  return batches;
}

TextData read_text(const Settings& settings) {
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

std::string size_text(double bytes) {
  return bytes < 1e3   ? fmt::format("{:.0f} B", bytes)
         : bytes < 1e6 ? fmt::format("{:.3g} kB", bytes / 1e3)
         : bytes < 1e9 ? fmt::format("{:.3g} MB", bytes / 1e6)
                       : fmt::format("{:.3g} GB", bytes / 1e9);
}

std::string split_table(const Corpus& corpus, const Split& split) {
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

void save_splits(const std::filesystem::path& path, const TextData& data) {
  CsvTable table({"text", "part", "unit", "near_copy_group", "files", "bytes"});
  for (const auto& [name, split] : {std::pair("base", &data.base), std::pair("task", &data.task)})
    for (const Split::Row& row : split->rows)
      table.add({name, part_names[static_cast<std::size_t>(row.part)], row.unit, std::to_string(row.group),
                 std::to_string(row.files), std::to_string(row.bytes)});
  table.save(path);
}

}  // namespace finetune
