#include "data.hpp"

#include <fmt/format.h>

namespace finetune {

namespace {

// The part that is held out is a matter of the data, not of a run's seed: runs with different ones compare.
constexpr std::uint64_t split_seed = 1;

}  // namespace

TuneData read_tune_data(const TuneBase& base, const TrainingDataOptions& options) {
  Dataset all = read_data(options.paths, base.tokenizer(), base.chat(), options.reading);
  fmt::print("{}", all.report.text());
  TuneData data = {.report = all.report, .train = {}};
  std::vector<Example> validation;
  if (!options.validation.empty()) {
    Dataset other = read_data(options.validation, base.tokenizer(), base.chat(), options.reading);
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
  data.training_examples = data.train.size();
  data.validation_examples = validation.size();
  data.validation = in_order(validation, options.batch_tokens);
  fmt::print("{} examples to train on, {} to validate with ({})\n", data.training_examples,
             data.validation_examples, data.held_out);
  return data;
}

}  // namespace finetune
