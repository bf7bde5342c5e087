// Byte-pair encoding: neighbours in a word are merged, those of the least rank first.
#pragma once

#include <algorithm>   // push_heap, pop_heap
#include <bit>         // bit_ceil
#include <cstddef>     // size_t
#include <cstdint>     // int32_t, uint32_t, uint64_t
#include <functional>  // greater
#include <tuple>       // tie
#include <vector>      // vector

#include "vocabulary.hpp"

namespace llama {

/// Merges by their pair: a hash table with open addressing, at most half full.
class MergeTable {
 public:
  struct Entry {
    std::uint64_t pair = empty;
    std::int32_t rank = 0;
    Token merged = 0;
  };

  MergeTable() = default;
  /// Of two merges of one pair the first counts.
  explicit MergeTable(const std::vector<Merge>& merges)
      : entries_(std::bit_ceil(2 * merges.size() + 2)),
        shift_(64 - static_cast<int>(std::bit_width(entries_.size() - 1))) {
    for (const Merge& merge : merges) {
      Entry& entry = entries_[place(pair_of(merge.left, merge.right))];
      if (entry.pair == empty) entry = {pair_of(merge.left, merge.right), merge.rank, merge.merged};
    }
  }

  /// Null if the two are not merged.
  const Entry* find(Token left, Token right) const {
    const Entry& entry = entries_[place(pair_of(left, right))];
    return entry.pair == empty ? nullptr : &entry;
  }

 private:
  static constexpr std::uint64_t empty = ~std::uint64_t{0};  // a pair of tokens that no vocabulary has
  static std::uint64_t pair_of(Token left, Token right) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
           static_cast<std::uint32_t>(right);
  }
  // Where the pair is or would be.
  std::size_t place(std::uint64_t pair) const {
    std::size_t at = static_cast<std::size_t>((pair * 0x9e3779b97f4a7c15u) >> shift_);
    while (entries_[at].pair != pair && entries_[at].pair != empty) at = (at + 1) & (entries_.size() - 1);
    return at;
  }

  std::vector<Entry> entries_ = std::vector<Entry>(2);
  int shift_ = 63;
};

/// A word in parts; its memory serves one word after the other.
class Merger {
 public:
  struct Part {
    Token token;
    std::uint32_t size;     ///< bytes of the word
    std::int32_t previous;  ///< -1 at the start
    std::int32_t next;      ///< -1 at the end
  };

  explicit Merger(const MergeTable& table) : table_(table) {}

  void clear() { parts_.clear(); }
  bool is_empty() const { return parts_.empty(); }
  Part& last() { return parts_.back(); }
  void append(Token token, std::size_t size) {
    const auto count = static_cast<std::int32_t>(parts_.size());
    if (count > 0) parts_.back().next = count;
    parts_.push_back({token, static_cast<std::uint32_t>(size), count - 1, -1});
  }

  void merge() {
    queue_.clear();
    for (std::int32_t i = 0; i + 1 < static_cast<std::int32_t>(parts_.size()); ++i) consider(i);
    while (!queue_.empty()) {
      std::pop_heap(queue_.begin(), queue_.end(), std::greater<>());
      const Candidate best = queue_.back();
      queue_.pop_back();
      Part& left = part(best.left);
      if (left.token != best.left_token || left.next < 0 || part(left.next).token != best.right_token)
        continue;  // one of the two was merged meanwhile
      Part& right = part(left.next);
      left.token = best.merged;
      left.size += right.size;
      left.next = right.next;
      right.token = gone;
      if (left.next >= 0) part(left.next).previous = best.left;
      consider(left.previous);
      consider(best.left);
    }
  }

  /// Calls emit(token, bytes) for what is left of the parts.
  template <class Emit>
  void for_each(const Emit& emit) const {
    if (parts_.empty()) return;
    for (std::int32_t i = 0; i >= 0; i = parts_[static_cast<std::size_t>(i)].next)
      emit(parts_[static_cast<std::size_t>(i)].token, parts_[static_cast<std::size_t>(i)].size);
  }

 private:
  static constexpr Token gone = -1;
  struct Candidate {
    std::int32_t rank, left;
    Token left_token, right_token, merged;
    bool operator>(const Candidate& other) const {
      return std::tie(rank, left) > std::tie(other.rank, other.left);
    }
  };

  Part& part(std::int32_t i) { return parts_[static_cast<std::size_t>(i)]; }
  void consider(std::int32_t left) {
    if (left < 0 || part(left).next < 0) return;
    const Token l = part(left).token, r = part(part(left).next).token;
    if (const MergeTable::Entry* found = table_.find(l, r)) {
      queue_.push_back({found->rank, left, l, r, found->merged});
      std::push_heap(queue_.begin(), queue_.end(), std::greater<>());
    }
  }

  const MergeTable& table_;
  std::vector<Part> parts_;
  std::vector<Candidate> queue_;
};

}  // namespace llama
