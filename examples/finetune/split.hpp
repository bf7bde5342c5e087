// Cutting a corpus into train, select and test.
#pragma once

#include <array>      // array
#include <cstddef>    // size_t
#include <cstdint>    // uint64_t
#include <map>        // map
#include <stdexcept>  // runtime_error
#include <string>     // string
#include <vector>     // vector

#include "corpus.hpp"       // Corpus
#include "hash.hpp"         // fnv1a
#include "near_copies.hpp"  // near_copy_groups

namespace finetune {

/// Train: what the optimiser sees; select: learning rates and early stopping; test: the numbers that are
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

/// Hands out groups, largest first, each to the part that still lacks most of its share. No chance is
/// involved.
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
