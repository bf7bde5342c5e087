// Batches of sequences of any lengths, packed without padding.
#pragma once

#include <cstddef>  // size_t
#include <cstdint>  // int32_t, int64_t, uint64_t
#include <vector>   // vector

#include "example.hpp"

namespace finetune {

/// Sequences one after the other. Attention does not cross them. An example of n tokens makes a sequence of
/// n − 1.
struct TokenBatch {
  std::vector<std::int32_t> tokens, targets;  ///< [sum of lengths]; the next token, or −1 where not counted
  std::vector<Index> lengths;                 ///< by sequence
  Index counted = 0;                          ///< targets that are not −1
};

/// Training batches. What batch(step) gives depends on (examples, tokens_per_batch, seed, step) alone. Not
/// for several threads at once: the order of an epoch is kept.
class Batches {
 public:
  /// Throws std::invalid_argument without examples and for one that is longer than tokens_per_batch.
  Batches(std::vector<Example> examples, Index tokens_per_batch, std::uint64_t seed);

  /// Batches that the first pass over the data takes. Later ones may take one more or less: packing depends
  /// on the order.
  std::int64_t per_epoch() const;
  /// Every epoch has an order of its own, of which sequences fill each batch up to tokens_per_batch.
  TokenBatch batch(std::int64_t step) const;

 private:
  struct Epoch {
    std::int64_t number = -1, first_step = 0;
    std::vector<std::uint32_t> order = {};  // of the examples
    std::vector<std::size_t> begins = {};   // of the batches in the order, and its end
    std::int64_t batches() const { return static_cast<std::int64_t>(begins.size()) - 1; }
  };
  Epoch make_epoch(std::int64_t number, std::int64_t first_step) const;

  std::vector<Example> examples_;
  Index tokens_per_batch_ = 0;
  std::uint64_t seed_ = 0;
  mutable std::vector<std::int64_t> first_steps_ = {};  // of the epochs that were seen
  mutable Epoch epoch_;
};

/// All examples in their order, for evaluation. Throws likewise, but not without examples.
std::vector<TokenBatch> in_order(const std::vector<Example>& examples, Index tokens_per_batch);

}  // namespace finetune
