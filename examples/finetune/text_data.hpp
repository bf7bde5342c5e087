// The two bodies of text, cut and sampled: all that training and evaluation read.
#pragma once

#include <algorithm>  // max
#include <cstdint>    // uint64_t
#include <string>     // string
#include <vector>     // vector

#include <fmt/format.h>

#include "default_text.hpp"  // default_base_text
#include "files.hpp"         // CsvTable
#include "near_copies.hpp"   // remove_overlap
#include "sampler.hpp"       // evaluation_batches
#include "settings.hpp"      // Settings
#include "split.hpp"         // split_corpus

namespace finetune {

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
