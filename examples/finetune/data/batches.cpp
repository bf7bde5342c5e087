// Packing: sequences one after the other, as many as fit.
#include "batches.hpp"

#include <algorithm>  // max, upper_bound
#include <numeric>    // iota
#include <stdexcept>  // invalid_argument
#include <utility>    // move, swap

#include <fmt/format.h>
#include <llama/random.hpp>  // Random

#include "files.hpp"  // mix

namespace finetune {

namespace {

Index length_of(const Example& example) { return static_cast<Index>(example.tokens.size()) - 1; }

void check_fits(const std::vector<Example>& examples, Index tokens_per_batch) {
  std::size_t longest = 0;
  for (const Example& example : examples) {
    longest = std::max(longest, example.tokens.size());
    if (length_of(example) < 1)
      throw std::invalid_argument(fmt::format(
          "an example has {} tokens; there is nothing to predict in fewer than 2", example.tokens.size()));
  }
  if (static_cast<Index>(longest) - 1 > tokens_per_batch)
    throw std::invalid_argument(
        fmt::format("the longest example has {} tokens and does not fit into batches of {}; give "
                    "--batch-tokens {} or more, or --window {}",
                    longest, tokens_per_batch, longest, std::max<Index>(tokens_per_batch, 2)));
}

void append(const Example& example, TokenBatch& batch) {
  batch.lengths.push_back(length_of(example));
  for (std::size_t i = 0; i + 1 < example.tokens.size(); ++i) {
    batch.tokens.push_back(example.tokens[i]);
    batch.targets.push_back(example.counted[i + 1] ? example.tokens[i + 1] : -1);
    batch.counted += example.counted[i + 1] ? 1 : 0;
  }
}

}  // namespace

Batches::Batches(std::vector<Example> examples, Index tokens_per_batch, std::uint64_t seed)
    : examples_(std::move(examples)), tokens_per_batch_(tokens_per_batch), seed_(seed) {
  if (examples_.empty()) throw std::invalid_argument("there are no examples to make batches of");
  check_fits(examples_, tokens_per_batch_);
  epoch_ = make_epoch(0, 0);
  first_steps_ = {0, epoch_.batches()};
}

Batches::Epoch Batches::make_epoch(std::int64_t number, std::int64_t first_step) const {
  Epoch epoch;
  epoch.number = number;
  epoch.first_step = first_step;
  epoch.order.resize(examples_.size());
  std::iota(epoch.order.begin(), epoch.order.end(), 0u);
  llama::Random random(mix(mix(seed_) + static_cast<std::uint64_t>(number)));
  for (std::size_t left = epoch.order.size(); left > 1; --left)  // the modulo's bias is below left / 2^64
    std::swap(epoch.order[left - 1], epoch.order[random.bits() % left]);
  Index filled = tokens_per_batch_;
  for (std::size_t i = 0; i < epoch.order.size(); ++i) {
    const Index length = length_of(examples_[epoch.order[i]]);
    if (length > tokens_per_batch_ - filled) {
      epoch.begins.push_back(i);
      filled = 0;
    }
    filled += length;
  }
  epoch.begins.push_back(epoch.order.size());
  return epoch;
}

std::int64_t Batches::per_epoch() const { return first_steps_[1]; }

TokenBatch Batches::batch(std::int64_t step) const {
  if (step < 0) throw std::invalid_argument(fmt::format("there is no batch {}; they count from 0", step));
  const auto in_epoch = [&] {
    return step >= epoch_.first_step && step < epoch_.first_step + epoch_.batches();
  };
  if (!in_epoch()) {
    auto number = std::upper_bound(first_steps_.begin(), first_steps_.end(), step) - first_steps_.begin() - 1;
    for (;; ++number) {
      const auto at = static_cast<std::size_t>(number);
      epoch_ = make_epoch(number, first_steps_[at]);
      if (at + 1 == first_steps_.size()) first_steps_.push_back(epoch_.first_step + epoch_.batches());
      if (in_epoch()) break;
    }
  }
  const auto at = static_cast<std::size_t>(step - epoch_.first_step);
  TokenBatch batch;
  for (std::size_t i = epoch_.begins[at]; i < epoch_.begins[at + 1]; ++i)
    append(examples_[epoch_.order[i]], batch);
  return batch;
}

std::vector<TokenBatch> in_order(const std::vector<Example>& examples, Index tokens_per_batch) {
  check_fits(examples, tokens_per_batch);
  std::vector<TokenBatch> batches;
  for (const Example& example : examples) {
    const auto filled = [&] { return static_cast<Index>(batches.back().tokens.size()); };
    if (batches.empty() || length_of(example) > tokens_per_batch - filled()) batches.emplace_back();
    append(example, batches.back());
  }
  return batches;
}

}  // namespace finetune
