// The two bodies of text, where they come from by default, and the bytes of them that the model sees.
#pragma once

#include <cstddef>      // size_t
#include <cstdint>      // int32_t, uint64_t
#include <filesystem>   // path
#include <stdexcept>    // invalid_argument
#include <string>       // string, to_string
#include <string_view>  // string_view
#include <vector>       // vector

#include <finetune/settings.hpp>  // Settings

#include "files.hpp"  // mix
#include "split.hpp"  // Corpus, Split

namespace finetune {

/// The C++ standard library headers of the compiler that built this program, else the newest in
/// /usr/include/c++.
std::vector<std::filesystem::path> default_base_text();

/// Eigen's own headers. Its src/misc holds LAPACK's C interface, a megabyte of one repeated pattern: leave
/// that out.
std::vector<std::filesystem::path> default_task_text();
inline const std::vector<std::string>& left_out_of_task_text() {
  static const std::vector<std::string> names = {"misc"};
  return names;
}

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
      throw std::invalid_argument("a text of " + std::to_string(text.size()) +
                                  " bytes is too short for a window of " + std::to_string(length) +
                                  " bytes and a target");
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
std::vector<Tokens> evaluation_batches(std::string_view text, std::ptrdiff_t sequences, std::ptrdiff_t length,
                                       std::ptrdiff_t windows);

struct TextData {
  Corpus base_corpus, task_corpus;  ///< files without their text
  Split base, task;
  std::vector<Tokens> select;     ///< of the task's select split
  std::vector<Tokens> test;       ///< of the task's test split
  std::vector<Tokens> base_test;  ///< of the base's test split, for what fine-tuning forgets
};

/// Reads and cuts both texts. Throws if a path is missing, or a text too short for `settings.length`.
TextData read_text(const Settings& settings);

/// "5.81 MB"
std::string size_text(double bytes);

/// The split as a table for people: the parts, their sizes and their largest folders.
std::string split_table(const Corpus& corpus, const Split& split);

/// Every folder with its part: text_splits.csv.
void save_splits(const std::filesystem::path& path, const TextData& data);

}  // namespace finetune
