// The tokens that count in a loss, moved together: what is computed of them, logits above all, is computed of
// them alone.
#pragma once

#include <algorithm>  // copy_n, fill_n
#include <cstddef>    // size_t
#include <cstdint>    // int32_t
#include <limits>     // numeric_limits
#include <string>     // string, to_string
#include <vector>     // vector

#include "token_matrix.hpp"

namespace llama {

/// Throws tiedlora::Error for a value outside [lowest, vocabulary).
inline void check_range(const std::int32_t* values, Index count, const char* what, std::int32_t lowest,
                        Index vocabulary) {
  for (Index t = 0; t < count; ++t)
    if (values[t] < lowest || values[t] >= vocabulary)
      throw tiedlora::Error("llama: " + std::string(what) + " " + std::to_string(t) + " of the batch is " +
                            std::to_string(values[t]) + ", outside the vocabulary of " +
                            std::to_string(vocabulary));
}

/// Which of N tokens have a target, one that is not negative.
class Counted {
 public:
  /// Throws tiedlora::Error for a target outside the vocabulary, and where none is counted.
  Counted(const std::int32_t* targets, Index count, Index vocabulary) {
    check_range(targets, count, "target", std::numeric_limits<std::int32_t>::min(), vocabulary);
    for (Index t = 0; t < count; ++t)
      if (targets[t] >= 0) tokens_.push_back(t), targets_.push_back(targets[t]);
    if (tokens_.empty())
      throw tiedlora::Error("llama: no target of the batch is counted, so there is no mean loss");
  }

  Index size() const { return static_cast<Index>(tokens_.size()); }
  const std::int32_t* targets() const { return targets_.data(); }

  /// Moves those tokens of x to its front, in their order.
  template <class T>
  void pack(const Tokens<T>& x) const {
    for (Index i = 0; i < size(); ++i)
      if (at(i) != i) std::copy_n(x[at(i)], x.width, x[i]);
  }
  /// Moves them back, and writes zeros between them.
  template <class T>
  void unpack(const Tokens<T>& x) const {
    Index end = x.count;
    for (Index i = size() - 1; i >= 0; --i) {
      for (Index t = at(i) + 1; t < end; ++t) std::fill_n(x[t], x.width, T(0));
      if (at(i) != i) std::copy_n(x[i], x.width, x[at(i)]);
      end = at(i);
    }
    for (Index t = 0; t < end; ++t) std::fill_n(x[t], x.width, T(0));
  }

 private:
  Index at(Index i) const { return tokens_[static_cast<std::size_t>(i)]; }
  std::vector<Index> tokens_;
  std::vector<std::int32_t> targets_;
};

}  // namespace llama
