// Which examples are held out, so that none of them was trained on in another spelling.
#include <algorithm>  // max, min, sort
#include <cmath>      // llround
#include <map>        // map
#include <stdexcept>  // invalid_argument, runtime_error
#include <utility>    // move, pair

#include <fmt/format.h>

#include "files.hpp"  // fnv1a, mix
#include "read_data.hpp"

namespace finetune {

namespace {

constexpr std::size_t fewest_documents = 10;  // with fewer, one of them does not represent the others

using Places = std::vector<std::size_t>;  // of examples

class HoldOut {
 public:
  HoldOut(const std::vector<Example>& examples, double fraction, std::uint64_t seed)
      : examples_(examples), fraction_(fraction), seed_(mix(seed)), held_(examples.size()) {
    Places lines;
    std::map<std::size_t, Places> documents;
    for (std::size_t i = 0; i < examples.size(); ++i)
      examples[i].line > 0 ? lines.push_back(i) : documents[examples[i].source].push_back(i);
    take_groups(lines);
    if (documents.size() < fewest_documents) take_ends(documents);
    if (documents.size() >= fewest_documents || count_ == 0) take_groups(all(documents));
    if (count_ == 0) take_any();
  }

  const std::vector<bool>& held() const { return held_; }

 private:
  // How many of `count` examples: about the fraction, at most half.
  std::size_t share(std::size_t count) const {
    const auto wanted = static_cast<std::size_t>(std::llround(fraction_ * static_cast<double>(count)));
    return std::min(wanted, count / 2);
  }
  std::uint64_t key(std::uint64_t content) const { return mix(content ^ seed_); }
  void take(const Places& places) {
    for (const std::size_t i : places) held_[i] = true;
    count_ += places.size();
  }
  static Places all(const std::map<std::size_t, Places>& documents) {
    Places result;
    for (const auto& [source, places] : documents) result.insert(result.end(), places.begin(), places.end());
    return result;
  }

  // Whole groups, in an order that their contents give: what is added to the data later moves few of them.
  void take_groups(const Places& places) {
    std::map<std::uint64_t, Places> groups;
    for (const std::size_t i : places) groups[key(examples_[i].group)].push_back(i);
    const std::size_t most = places.size() / 2, wanted = std::max<std::size_t>(share(places.size()), 1);
    std::size_t taken = 0;
    const Places* smallest = nullptr;
    for (const auto& [key, group] : groups) {
      if (!smallest || group.size() < smallest->size()) smallest = &group;
      if (group.size() > std::min(wanted, most) - taken) continue;
      take(group);
      taken += group.size();
    }
    if (taken == 0 && smallest && smallest->size() <= most) take(*smallest);
  }

  // The last windows of each document, or of the longest one where all are short.
  void take_ends(const std::map<std::size_t, Places>& documents) {
    const Places* longest = nullptr;
    bool has_taken = false;
    for (const auto& [source, places] : documents) {
      if (!longest || places.size() > longest->size()) longest = &places;
      const auto count = static_cast<std::ptrdiff_t>(share(places.size()));
      take(Places(places.end() - count, places.end()));
      has_taken = has_taken || count > 0;
    }
    if (!has_taken && longest && longest->size() > 1) take({longest->back()});
  }

  // All are of one group: then by what the whole examples hold.
  void take_any() {
    std::vector<std::pair<std::uint64_t, std::size_t>> order;
    for (std::size_t i = 0; i < examples_.size(); ++i) {
      std::uint64_t content = 0;
      for (const llama::Token token : examples_[i].tokens)
        content = mix(content + static_cast<std::uint64_t>(token));
      order.emplace_back(key(content), i);
    }
    std::sort(order.begin(), order.end());
    order.resize(std::max<std::size_t>(share(examples_.size()), 1));
    for (const auto& [key, i] : order) take({i});
  }

  const std::vector<Example>& examples_;
  double fraction_;
  std::uint64_t seed_;
  std::vector<bool> held_;
  std::size_t count_ = 0;
};

}  // namespace

DataSplit hold_out(Dataset data, double fraction, std::uint64_t seed) {
  if (!(fraction > 0 && fraction <= 0.5))
    throw std::invalid_argument(fmt::format(
        "the part of the examples to hold out is {}; it must be above 0 and at most 0.5", fraction));
  if (data.examples.size() < 2)
    throw std::runtime_error(
        "the data is a single example, of which none can be held out; give more data, or take --held-out 0");
  const HoldOut choice(data.examples, fraction, seed);
  DataSplit split;
  for (std::size_t i = 0; i < data.examples.size(); ++i)
    (choice.held()[i] ? split.validation : split.train).push_back(std::move(data.examples[i]));
  return split;
}

}  // namespace finetune
