// Which tokens of a batch belong together: attention and positions end with a sequence.
#pragma once

#include <algorithm>  // max
#include <cstddef>    // size_t
#include <cstdint>    // int32_t
#include <span>       // span
#include <string>     // to_string
#include <vector>     // vector

#include "config.hpp"
#include "range.hpp"

namespace llama {

/// Sequences of any lengths, one after the other; no token is padding.
class Sequences {
 public:
  Sequences() = default;
  /// Throws tiedlora::Error for no sequence and for a length below 1.
  explicit Sequences(std::span<const Index> lengths) {
    if (lengths.empty()) throw tiedlora::Error("llama: a batch of no sequences; there must be at least one");
    starts_.reserve(lengths.size() + 1);
    for (const Index length : lengths) {
      if (length < 1)
        throw tiedlora::Error("llama: sequence " + std::to_string(starts_.size()) + " of a batch has " +
                              std::to_string(length) + " tokens; there must be at least one");
      starts_.push_back(count_);
      count_ += length;
      longest_ = std::max(longest_, length);
    }
    starts_.push_back(count_);
    positions_.resize(static_cast<std::size_t>(count_));
    for (Index s = 0; s < size(); ++s)
      for (Index t = of(s).begin; t < of(s).end; ++t)
        positions_[static_cast<std::size_t>(t)] = static_cast<std::int32_t>(t - of(s).begin);
  }

  Index size() const { return static_cast<Index>(starts_.size()) - 1; }
  Index count() const { return count_; }  ///< tokens of all
  Index longest() const { return longest_; }
  /// The tokens of sequence s.
  Range of(Index s) const {
    return {starts_[static_cast<std::size_t>(s)], starts_[static_cast<std::size_t>(s) + 1]};
  }
  /// Of token t in its sequence.
  Index position(Index t) const { return positions_[static_cast<std::size_t>(t)]; }

  bool operator==(const Sequences& other) const { return starts_ == other.starts_; }

 private:
  Index count_ = 0, longest_ = 0;
  std::vector<Index> starts_ = {0};
  std::vector<std::int32_t> positions_;
};

}  // namespace llama
