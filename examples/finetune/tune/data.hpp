// The examples of a run: read, and divided into what is trained on and what is only measured.
#pragma once

#include <cstdint>  // uint64_t
#include <string>   // string
#include <vector>   // vector

#include <finetune/data/batches.hpp>    // TokenBatch
#include <finetune/data/read_data.hpp>  // DataReport

#include "base.hpp"
#include "options.hpp"

namespace finetune {

struct TuneData {
  DataReport report;
  std::vector<Example> train;
  std::size_t training_examples = 0;  ///< of `train`, before they go elsewhere
  std::vector<TokenBatch> validation = {};
  std::size_t validation_examples = 0;
  std::uint64_t validation_hash = 0;  ///< of a file of its own; 0: a part of the data
  std::uint64_t tokens_hash = 0;      ///< of all examples as the model reads them, and what counts in them
  std::string held_out = {};          ///< where the validation examples come from
};

/// Says on stdout what it read. Throws std::runtime_error for data that is wrong.
TuneData read_tune_data(const TuneBase& base, const TrainingDataOptions& options);

/// Each example as a batch of its own; without those in which nothing counts.
std::vector<TokenBatch> one_by_one(const std::vector<TokenBatch>& batches);

}  // namespace finetune
