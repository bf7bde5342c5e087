// Which bytes the model sees: batches for training, fixed windows for evaluation.
#pragma once

#include <algorithm>    // min
#include <cstddef>      // size_t
#include <cstdint>      // int32_t, uint64_t
#include <stdexcept>    // invalid_argument
#include <string>       // to_string
#include <string_view>  // string_view
#include <vector>       // vector

#include "hash.hpp"  // mix

namespace finetune {

/// `sequences` windows of `length` bytes and, for each byte, the one that follows it: the target.
struct Tokens {
  std::ptrdiff_t sequences = 0, length = 0;
  std::vector<std::int32_t> tokens, targets;  // [sequences, length]

  std::ptrdiff_t count() const { return sequences * length; }
};

/// Copies into row `row` the window of `text` that begins at `begin`.
inline void set_window(Tokens& batch, std::ptrdiff_t row, std::string_view text, std::size_t begin) {
  const auto at = static_cast<std::size_t>(row * batch.length);
  for (std::size_t i = 0; i < static_cast<std::size_t>(batch.length); ++i) {
    batch.tokens[at + i] = static_cast<unsigned char>(text[begin + i]);
    batch.targets[at + i] = static_cast<unsigned char>(text[begin + i + 1]);
  }
}

inline Tokens empty_batch(std::ptrdiff_t sequences, std::ptrdiff_t length) {
  if (sequences < 1 || length < 1)
    throw std::invalid_argument("a batch needs at least 1 sequence of at least 1 byte, not " +
                                std::to_string(sequences) + " of " + std::to_string(length));
  const auto count = static_cast<std::size_t>(sequences * length);
  return {sequences, length, std::vector<std::int32_t>(count), std::vector<std::int32_t>(count)};
}

/// Training batches: windows at random places of a text. What batch(step) returns depends on (text, sizes,
/// seed, step) alone, so that every scheme sees the same data in the same order.
class Sampler {
 public:
  /// Keeps a view of `text`, which must outlive the sampler.
  Sampler(std::string_view text, std::ptrdiff_t sequences, std::ptrdiff_t length, std::uint64_t seed)
      : text_(text), sequences_(sequences), length_(length), seed_(seed) {
    if (text.size() <= static_cast<std::size_t>(length))
      throw std::invalid_argument("a text of " + std::to_string(text.size()) + " bytes has no window of " +
                                  std::to_string(length) + " bytes and a target");
  }

  Tokens batch(std::uint64_t step) const {
    Tokens batch = empty_batch(sequences_, length_);
    const std::uint64_t places = text_.size() - static_cast<std::size_t>(length_);
    for (std::ptrdiff_t row = 0; row < sequences_; ++row) {
      const std::uint64_t number = mix(mix(mix(seed_) + step) + static_cast<std::uint64_t>(row));
      set_window(batch, row, text_, number % places);  // the modulo's bias is below places / 2^64
    }
    return batch;
  }

 private:
  std::string_view text_;
  std::ptrdiff_t sequences_, length_;
  std::uint64_t seed_;
};

/// Evaluation batches of `sequences` windows each: `windows` (or as many as fit) windows without overlap,
/// evenly spread over the text, always the same. The number of windows is rounded down to whole batches,
/// except below one.
inline std::vector<Tokens> evaluation_batches(std::string_view text, std::ptrdiff_t sequences,
                                              std::ptrdiff_t length, std::ptrdiff_t windows) {
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
    throw std::invalid_argument("a text of " + std::to_string(text.size()) + " bytes has no window of " +
                                std::to_string(length) + " bytes and a target");
  return batches;
}

}  // namespace finetune
