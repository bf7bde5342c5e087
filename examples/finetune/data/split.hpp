// Cutting a corpus into train, select and test, near-copies together, so that no test text was trained on in
// disguise.
#pragma once

#include <algorithm>      // sort, unique, min
#include <array>          // array
#include <cstddef>        // size_t
#include <cstdint>        // uint64_t
#include <map>            // map
#include <set>            // set
#include <stdexcept>      // runtime_error
#include <string>         // string
#include <unordered_map>  // unordered_map
#include <utility>        // pair
#include <vector>         // vector

#include "corpus.hpp"  // line_at, TextFile, Corpus
#include "files.hpp"   // fnv1a

namespace finetune {

// Two files are near-copies if at least half of the distinctive lines of the smaller one are in the other;
// two folders, if a quarter do, or if they lie side by side and at least half of the file names of the
// smaller one recur in the other (arch/SSE/Complex.h, arch/AVX/Complex.h: the same text in other intrinsics).
// A line is distinctive if it has 16 characters besides white space; fewer are idiom ("return *this;").
inline constexpr double file_copy_share = 0.5;
inline constexpr double folder_copy_share = 0.25;
inline constexpr double name_copy_share = 0.5;
inline constexpr std::size_t distinctive_length = 16;
inline constexpr std::size_t fewest_lines = 10;  // a file with fewer distinctive lines is not evidence
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

/// Removes from `corpus` every file that is also in `other`, by path or as a near-copy.
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
    throw std::runtime_error(corpus.option + ": all of the " + corpus.name + " is also in the " + other.name +
                             "; the two must be different text");
}

/// Train: what the optimiser sees; select: learning rates and early stopping; test: the results that are
/// reported.
enum class Part : std::size_t { train, select, test };
inline constexpr std::array<const char*, 3> part_names = {"train", "select", "test"};
inline constexpr std::array<double, 3> part_shares = {0.8, 0.1, 0.1};

/// A corpus cut into three texts.
struct Split {
  struct Row {
    Part part;
    std::size_t group;  ///< rows with one number are near-copies of each other
    std::string unit;   ///< a folder, a file or a block
    std::size_t files, bytes;
  };
  std::string unit_kind;             ///< "folder", "file" or "block": what was kept whole
  std::array<std::string, 3> texts;  ///< by Part
  std::vector<Row> rows;
  std::uint64_t hash = 0;  ///< of all three texts

  const std::string& text(Part part) const { return texts[static_cast<std::size_t>(part)]; }
};

/// Hands out groups, largest first, each to the part that still lacks most of its share. Nothing is random.
inline std::vector<Part> allot(const std::vector<std::size_t>& bytes_of_group) {
  std::vector<std::size_t> order(bytes_of_group.size());
  double total = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    order[i] = i;
    total += double(bytes_of_group[i]);
  }
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return bytes_of_group[a] != bytes_of_group[b] ? bytes_of_group[a] > bytes_of_group[b] : a < b;
  });
  std::array<double, 3> lacks;
  for (std::size_t p = 0; p < 3; ++p) lacks[p] = part_shares[p] * total;
  std::vector<Part> part(order.size(), Part::train);
  for (const std::size_t group : order) {
    const std::size_t most =
        static_cast<std::size_t>(std::max_element(lacks.begin(), lacks.end()) - lacks.begin());
    part[group] = static_cast<Part>(most);
    lacks[most] -= double(bytes_of_group[group]);
  }
  return part;
}

/// Splits by whole units, near-copies together; units are folders or single files.
inline Split split_by_unit(const Corpus& corpus, bool by_folder) {
  std::vector<std::size_t> unit_of;
  std::map<std::string, std::size_t> units;
  std::vector<std::string> shown;
  for (const TextFile& file : corpus.files) {
    const std::string key = by_folder ? file.path.parent_path().string() : file.path.string();
    const auto [at, added] = units.emplace(key, units.size());
    if (added) shown.push_back((by_folder ? file.directory : file.directory / file.path.filename()).string());
    unit_of.push_back(at->second);
  }
  const std::vector<std::size_t> group_of = near_copy_groups(corpus.files, unit_of, units.size());
  std::vector<std::size_t> bytes_of_group(units.size());
  for (std::size_t i = 0; i < corpus.files.size(); ++i)
    bytes_of_group[group_of[unit_of[i]]] += corpus.files[i].text.size();
  const std::vector<Part> part_of = allot(bytes_of_group);

  Split split;
  split.unit_kind = by_folder ? "folder" : "file";
  for (std::size_t u = 0; u < units.size(); ++u)
    split.rows.push_back({part_of[group_of[u]], group_of[u], shown[u], 0, 0});
  for (std::size_t i = 0; i < corpus.files.size(); ++i) {
    Split::Row& row = split.rows[unit_of[i]];
    ++row.files;
    row.bytes += corpus.files[i].text.size();
    (split.texts[static_cast<std::size_t>(row.part)] += corpus.files[i].text) += '\n';
  }
  return split;
}

/// Splits the text itself into three blocks, for a corpus with too few files: the last resort.
inline Split split_by_block(const Corpus& corpus) {
  std::string all;
  for (const TextFile& file : corpus.files) (all += file.text) += '\n';
  Split split;
  split.unit_kind = "block";
  std::size_t begin = 0;
  double share = 0;
  for (std::size_t p = 0; p < 3; ++p) {
    share += part_shares[p];
    const std::size_t end = p == 2 ? all.size() : static_cast<std::size_t>(share * double(all.size()));
    split.texts[p] = all.substr(begin, end - begin);
    split.rows.push_back({static_cast<Part>(p), p,
                          "bytes " + std::to_string(begin) + " to " + std::to_string(end),
                          corpus.files.size(), end - begin});
    begin = end;
  }
  return split;
}

/// Cuts a corpus into train, select and test (80, 10 and 10 %): by folder with near-copies together, else by
/// file, else into contiguous blocks, whichever first gives each part at least `fewest` bytes and half of its
/// share. Depends on paths and contents alone.
inline Split split_corpus(const Corpus& corpus, std::size_t fewest) {
  const auto balanced = [&](const Split& split) {
    for (std::size_t p = 0; p < 3; ++p) {
      const double share = double(split.texts[p].size()) / double(corpus.bytes());
      if (split.texts[p].size() < fewest || share < 0.5 * part_shares[p]) return false;
    }
    return true;
  };
  Split split = split_by_unit(corpus, /*by_folder=*/true);
  if (!balanced(split)) split = split_by_unit(corpus, /*by_folder=*/false);
  if (!balanced(split)) split = split_by_block(corpus);
  for (std::size_t p = 0; p < 3; ++p)
    if (split.texts[p].size() < fewest) {
      const auto needed = static_cast<std::size_t>(double(fewest) / part_shares[2]) + 10;
      throw std::runtime_error(corpus.option + ": the " + corpus.name + " has " +
                               std::to_string(corpus.bytes()) +
                               " bytes after its boilerplate is removed; at least " + std::to_string(needed) +
                               " are needed, so that each tenth of it holds " + std::to_string(fewest) +
                               " bytes (a shorter --length needs less)");
    }
  for (const std::string& text : split.texts) split.hash = fnv1a(text, mix(split.hash));
  return split;
}

}  // namespace finetune
