// Finding files and folders that are near-copies of each other, so that no test text was trained on in
// disguise.
#pragma once

#include <algorithm>      // sort, unique, min
#include <cstddef>        // size_t
#include <cstdint>        // uint64_t
#include <map>            // map
#include <set>            // set
#include <string>         // string
#include <unordered_map>  // unordered_map
#include <utility>        // pair
#include <vector>         // vector

#include "boilerplate.hpp"  // line_at
#include "corpus.hpp"       // TextFile, Corpus
#include "hash.hpp"         // fnv1a

namespace finetune {

// Two files are near-copies if at least half of the distinctive lines of the smaller one stand in the other;
// two folders, if a quarter do, or if they lie side by side and at least half of the file names of the
// smaller one recur in the other (arch/SSE/Complex.h, arch/AVX/Complex.h: the same text in other intrinsics).
// A line is distinctive if it has 16 characters besides white space; fewer are idiom ("return *this;").
inline constexpr double file_copy_share = 0.5;
inline constexpr double folder_copy_share = 0.25;
inline constexpr double name_copy_share = 0.5;
inline constexpr std::size_t distinctive_length = 16;
inline constexpr std::size_t fewest_lines = 10;  // a file with fewer distinctive lines is no evidence
inline constexpr std::size_t most_places = 20;   // a line found in more places than this is idiom too

/// The hashes of a text's distinctive lines, white space removed, sorted, each once.
inline std::vector<std::uint64_t> distinctive_lines(std::string_view text) {
  std::vector<std::uint64_t> hashes;
  std::string squeezed;
  for (std::size_t at = 0; at < text.size();) {
    const std::string_view line = line_at(text, at);
    at += line.size() + 1;
    squeezed.clear();
    for (const char c : line)
      if (c != ' ' && c != '\t' && c != '\r') squeezed += c;
    if (squeezed.size() >= distinctive_length) hashes.push_back(fnv1a(squeezed));
  }
  std::sort(hashes.begin(), hashes.end());
  hashes.erase(std::unique(hashes.begin(), hashes.end()), hashes.end());
  return hashes;
}

/// Sets that merge: find(i) names the set of i by its smallest member.
class UnionFind {
 public:
  explicit UnionFind(std::size_t count) : parent_(count) {
    for (std::size_t i = 0; i < count; ++i) parent_[i] = i;
  }
  std::size_t find(std::size_t i) {
    while (parent_[i] != i) i = parent_[i] = parent_[parent_[i]];
    return i;
  }
  void merge(std::size_t a, std::size_t b) {
    a = find(a);
    b = find(b);
    if (a != b) parent_[std::max(a, b)] = std::min(a, b);
  }

 private:
  std::vector<std::size_t> parent_;
};

/// Calls report(a, b) for every pair of line sets of which the smaller (of at least fewest_lines) shares
/// `share` of its lines with the other.
template <class Report>
void for_each_copy(const std::vector<std::vector<std::uint64_t>>& sets, double share, Report report) {
  std::unordered_map<std::uint64_t, std::vector<std::uint32_t>> places;
  for (std::size_t i = 0; i < sets.size(); ++i)
    for (const std::uint64_t line : sets[i]) places[line].push_back(static_cast<std::uint32_t>(i));
  std::unordered_map<std::uint64_t, std::size_t> shared;  // (a, b) with a < b
  for (const auto& [line, at] : places)
    if (at.size() <= most_places)
      for (std::size_t i = 0; i < at.size(); ++i)
        for (std::size_t j = i + 1; j < at.size(); ++j) ++shared[(std::uint64_t{at[i]} << 32) | at[j]];
  for (const auto& [pair, count] : shared) {
    const std::size_t a = pair >> 32, b = pair & 0xffffffffu;
    const std::size_t smaller = std::min(sets[a].size(), sets[b].size());
    if (smaller >= fewest_lines && double(count) >= share * double(smaller)) report(a, b);
  }
}

/// Groups the units (folders, or single files) to which files[i] belongs by unit_of[i]: units that are
/// near-copies of each other, directly or through others, get one group. Returns each unit's group.
inline std::vector<std::size_t> near_copy_groups(const std::vector<TextFile>& files,
                                                 const std::vector<std::size_t>& unit_of, std::size_t units) {
  UnionFind groups(units);
  std::vector<std::vector<std::uint64_t>> lines_of_file, lines_of_unit(units);
  std::vector<std::set<std::string>> names(units);
  std::map<std::string, std::set<std::size_t>> siblings;  // units by the folder that holds them
  for (std::size_t i = 0; i < files.size(); ++i) {
    lines_of_file.push_back(distinctive_lines(files[i].text));
    auto& unit = lines_of_unit[unit_of[i]];
    unit.insert(unit.end(), lines_of_file.back().begin(), lines_of_file.back().end());
    names[unit_of[i]].insert(files[i].path.filename().string());
    siblings[files[i].path.parent_path().parent_path().string()].insert(unit_of[i]);
  }
  for (auto& unit : lines_of_unit) {
    std::sort(unit.begin(), unit.end());
    unit.erase(std::unique(unit.begin(), unit.end()), unit.end());
  }
  for_each_copy(lines_of_file, file_copy_share,
                [&](std::size_t a, std::size_t b) { groups.merge(unit_of[a], unit_of[b]); });
  for_each_copy(lines_of_unit, folder_copy_share, [&](std::size_t a, std::size_t b) { groups.merge(a, b); });
  for (const auto& [parent, members] : siblings)
    for (const std::size_t a : members)
      for (const std::size_t b : members) {
        if (b <= a) continue;
        std::size_t shared = 0;
        for (const std::string& name : names[a]) shared += names[b].count(name);
        const std::size_t smaller = std::min(names[a].size(), names[b].size());
        if (double(shared) >= name_copy_share * double(smaller)) groups.merge(a, b);
      }
  std::vector<std::size_t> group_of(units);
  for (std::size_t i = 0; i < units; ++i) group_of[i] = groups.find(i);
  return group_of;
}

/// Removes from `corpus` every file that also stands in `other`, by path or as a near-copy.
inline void remove_overlap(Corpus& corpus, const Corpus& other) {
  std::set<std::filesystem::path> paths;
  std::set<std::uint64_t> lines;
  for (const TextFile& file : other.files) {
    paths.insert(file.path);
    for (const std::uint64_t line : distinctive_lines(file.text)) lines.insert(line);
  }
  const auto overlaps = [&](const TextFile& file) {
    if (paths.count(file.path) != 0) return true;
    const std::vector<std::uint64_t> own = distinctive_lines(file.text);
    std::size_t shared = 0;
    for (const std::uint64_t line : own) shared += lines.count(line);
    return own.size() >= fewest_lines && double(shared) >= file_copy_share * double(own.size());
  };
  const auto first = std::remove_if(corpus.files.begin(), corpus.files.end(), overlaps);
  corpus.skipped_overlap += static_cast<std::size_t>(corpus.files.end() - first);
  corpus.files.erase(first, corpus.files.end());
  if (corpus.files.empty())
    throw std::runtime_error(corpus.option + ": all of the " + corpus.name + " also stands in the " +
                             other.name + "; the two must be different text");
}

}  // namespace finetune
