#include "data.hpp"

#include <algorithm>  // count_if
#include <cstddef>    // ptrdiff_t
#include <utility>    // move

#include <fmt/format.h>
#include <finetune/data/files.hpp>  // fnv1a

namespace finetune {

namespace {

// The part that is held out is a matter of the data, not of a run's seed: runs with different ones compare.
constexpr std::uint64_t split_seed = 1;

std::uint64_t hash_of(const std::vector<Example>& examples, std::uint64_t hash) {
  for (const Example& example : examples) {
    const auto* bytes = reinterpret_cast<const char*>(example.tokens.data());
    hash = fnv1a({bytes, example.tokens.size() * sizeof(llama::Token)}, hash);
    std::string counted = "|";
    for (const bool counts : example.counted) counted += counts ? '1' : '0';
    hash = fnv1a(counted, hash);
  }
  return hash;
}

}  // namespace

TuneData read_tune_data(const TuneBase& base, const TrainingDataOptions& options) {
  Dataset all = read_data(options.paths, base.tokenizer(), base.chat(), options.reading, base.chat_problem());
  fmt::print("{}", all.report.text());
  TuneData data = {.report = all.report, .train = {}};
  std::vector<Example> validation;
  if (!options.validation.empty()) {
    Dataset other =
        read_data(options.validation, base.tokenizer(), base.chat(), options.reading, base.chat_problem());
    fmt::print("Validation: {}", other.report.text());
    data.train = std::move(all.examples);
    validation = std::move(other.examples);
    data.validation_hash = other.report.hash;
    if (data.validation_hash == data.report.hash)
      fmt::print("Warning: --validation is what is trained on, so its loss says nothing about other texts\n");
    data.held_out = options.validation.front().string();
    if (options.validation.size() > 1)
      data.held_out += fmt::format(" and {} more", options.validation.size() - 1);
  } else if (options.held_out == 0) {
    data.train = std::move(all.examples);
    data.held_out = "none";
  } else {
    DataSplit split = hold_out(std::move(all), options.held_out, split_seed);
    data.train = std::move(split.train);
    validation = std::move(split.validation);
    data.held_out = fmt::format("{:g} % of the examples, held out", 100 * options.held_out);
  }
  data.tokens_hash = hash_of(validation, hash_of(data.train, fnv1a("tokens")));
  data.training_examples = data.train.size();
  data.validation_examples = validation.size();
  data.validation = in_order(validation, options.batch_tokens);
  fmt::print("{} examples to train on, {} to validate with ({})\n", data.training_examples,
             data.validation_examples, data.held_out);
  return data;
}

std::vector<TokenBatch> one_by_one(const std::vector<TokenBatch>& batches) {
  std::vector<TokenBatch> examples;
  for (const TokenBatch& batch : batches) {
    std::ptrdiff_t from = 0;
    for (const Index length : batch.lengths) {
      const std::ptrdiff_t to = from + length;
      TokenBatch one = {.tokens = {batch.tokens.begin() + from, batch.tokens.begin() + to},
                        .targets = {batch.targets.begin() + from, batch.targets.begin() + to},
                        .lengths = {length}};
      one.counted = std::count_if(one.targets.begin(), one.targets.end(), [](auto t) { return t >= 0; });
      if (one.counted > 0) examples.push_back(std::move(one));
      from = to;
    }
  }
  return examples;
}

}  // namespace finetune
