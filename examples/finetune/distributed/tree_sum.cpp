#include "tree_sum.hpp"

#include <algorithm>  // copy, fill, max

namespace finetune {

namespace {

void add_to(std::span<float> sum, std::span<const float> more) {
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += more[i];
}

template <class T>
std::span<T> slice_of(std::span<T> all, Share part) {
  return all.subspan(static_cast<std::size_t>(part.begin), static_cast<std::size_t>(part.size()));
}

/// Slices begin at cache lines.
constexpr Index slice_unit = 16;

}  // namespace

std::vector<Subtree> subtrees_of(Share part, Index count) {
  std::vector<Subtree> nodes;
  for (Index i = part.begin; i < part.end; ++i) push_node(nodes, {.begin = i}, count, [](std::size_t) {});
  return nodes;
}

void TreeSum::begin(Index batches, std::span<float> gradient) {
  count_ = batches;
  next_ = share_of(batches, processes_.rank(), processes_.size()).begin;
  gradient_ = gradient;
  nodes_.clear();
}

void TreeSum::add() {
  if (is_trivial()) return;
  const std::size_t place = nodes_.size();
  push_node(nodes_, {.begin = next_++}, count_, [&](std::size_t left) {
    add_to(arrays_[left], left + 1 == place ? gradient_ : std::span<float>(arrays_[left + 1]));
  });
  if (nodes_.size() > place) {
    if (arrays_.size() == place) arrays_.emplace_back();
    arrays_[place].assign(gradient_.begin(), gradient_.end());
  }
  std::fill(gradient_.begin(), gradient_.end(), 0.0f);
}

void TreeSum::finish() {
  if (is_trivial()) return;
  if (processes_.size() > 1 && reduction_ == Reduction::exact) return reduce();
  for (std::size_t i = nodes_.size(); i-- > 1;) add_to(arrays_[i - 1], arrays_[i]);
  if (!nodes_.empty()) std::copy(arrays_[0].begin(), arrays_[0].end(), gradient_.begin());
  processes_.all_reduce(gradient_);
}

void TreeSum::reduce() {
  const int size = processes_.size(), rank = processes_.rank();
  std::vector<Share> slices;
  std::vector<std::vector<Subtree>> nodes;
  for (int r = 0; r < size; ++r) {
    slices.push_back(share_of(std::ssize(gradient_), r, size, slice_unit));
    nodes.push_back(subtrees_of(share_of(count_, r, size), count_));
  }
  const Share slice = slices[static_cast<std::size_t>(rank)];
  std::vector<Message<const float>> sent;
  std::vector<Message<float>> received, in_order;  // what comes, and all in the order of the batches
  std::size_t foreign = 0;
  for (const auto& of_process : nodes) foreign += of_process.size();
  received_.resize((foreign - nodes_.size()) * static_cast<std::size_t>(slice.size()));
  Index place = 0;
  for (int r = 0; r < size; ++r)
    for (std::size_t i = 0; i < nodes[static_cast<std::size_t>(r)].size(); ++i) {
      if (r == rank) {
        in_order.push_back({r, slice_of(std::span(arrays_[i]), slice)});
        continue;
      }
      in_order.push_back({r, slice_of(std::span(received_), {place, place + slice.size()})});
      received.push_back(in_order.back());
      place += slice.size();
    }
  for (int r = 0; r < size; ++r)
    for (std::size_t i = 0; r != rank && i < nodes_.size(); ++i)
      sent.push_back({r, slice_of(std::span<const float>(arrays_[i]), slices[static_cast<std::size_t>(r)])});
  processes_.exchange(sent, received);

  std::vector<Subtree> left;
  std::vector<std::span<float>> sums;
  std::size_t next = 0;
  for (const auto& of_process : nodes)
    for (const Subtree& node : of_process) {
      sums.push_back(in_order[next++].numbers);
      push_node(left, node, count_, [&](std::size_t i) {
        add_to(sums[i], sums[i + 1]);
        sums.pop_back();
      });
    }
  if (!sums.empty()) std::copy(sums[0].begin(), sums[0].end(), slice_of(gradient_, slice).begin());
  processes_.all_gather(gradient_, slices);
}

Index TreeSum::bytes(Index numbers, Index batches, int processes) {
  if (batches == 1 && processes == 1) return 0;
  std::size_t most = 0, all = 0;  // nodes that a process has at once; of all at the end
  for (int r = 0; r < processes; ++r) {
    std::vector<Subtree> nodes;
    const Share part = share_of(batches, r, processes);
    for (Index i = part.begin; i < part.end; ++i) {
      push_node(nodes, {.begin = i}, batches, [](std::size_t) {});
      most = std::max(most, nodes.size());
    }
    all += nodes.size();
  }
  const Index received = processes > 1 ? static_cast<Index>(all) * numbers / processes : 0;
  return (static_cast<Index>(most) * numbers + received) * static_cast<Index>(sizeof(float));
}

}  // namespace finetune
