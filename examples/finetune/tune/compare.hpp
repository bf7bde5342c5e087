// finetune compare: which scheme and rank for a task, within a time.
#pragma once

#include <cstdint>     // int64_t
#include <filesystem>  // path
#include <span>        // span
#include <string>      // string
#include <vector>      // vector

#include <finetune/distributed/communicator.hpp>  // Communicator
#include <finetune/settings.hpp>                  // Index, Rates

#include "options.hpp"

namespace finetune {

struct CompareOptions {
  ModelOptions model = {};
  TrainingDataOptions data = {};
  TuneOptions tune = {};  ///< except scheme, rank and rates
  /// What docs/choosing.md names, from all targets to v alone.
  std::vector<std::string> candidates = {"lora:8",
                                         "lora:1",
                                         "share_lora_a:1",
                                         "tl6:32",
                                         "lora:1@q_proj+k_proj+v_proj",
                                         "lora:1@v_proj+down_proj",
                                         "share_lora_a:3@v_proj+down_proj",
                                         "share_lora_a:1@v_proj+down_proj",
                                         "lora:1@v_proj",
                                         "share_lora_a:1@v_proj"};
  double minutes = 30;
  bool resume = false;
  std::filesystem::path out = {};
};

/// One of those that are compared.
struct Candidate {
  std::string name = {};  ///< "tl6:32", "lora:1@v_proj"
  TuneOptions tune = {};
  Rates rates = {};
  Index trained = 0;  ///< parameters
  std::int64_t steps = 0;
  double seconds = 0;
  std::vector<double> losses = {};  ///< by validation example, in nats a token; of the last measurement
  double loss = 0;                  ///< over all of them
  int round = 0;                    ///< the last one it took part in, from 1
  bool diverged = false;
};

/// By number of parameters, then by loss.
bool is_smaller(const Candidate* a, const Candidate* b);

/// "SCHEME:RANK", "SCHEME:RANK:RATE" or "SCHEME:RANK:RATE:B_RATE", each with "@TARGET+TARGET" for targets of
/// its own. `rest`: all else. Throws std::invalid_argument that says what is wrong with it.
TuneOptions parse_candidate(const std::string& whole, TuneOptions rest);

/// How many of `count` take part in each round: halved from round to round, down to two.
std::vector<std::size_t> rounds_of(std::size_t count);

/// Which continue: those that no other with as few parameters or fewer beats in loss, then by loss. Of more
/// such than `count`, the smallest, the largest, and between them those evenly spaced by the logarithm of
/// their parameters. Indices, in rising order of loss.
std::vector<std::size_t> survivors(std::span<const Candidate> candidates, std::size_t count);

/// Mean of a − b over validation examples, each weighted with its tokens, and the standard error of that
/// mean.
struct PairedDifference {
  double mean = 0, error = 0;
  /// Twice the error: a difference that another choice of examples would not have turned round, 19 times
  /// in 20.
  bool is_clear() const;
};
PairedDifference paired_difference(const Candidate& a, const Candidate& b, std::span<const double> weights);

/// Which to take, by number of parameters, in a sentence or a few; and what the evidence does not tell.
std::string advice(std::span<const Candidate> candidates, std::span<const double> weights);

/// Says on stdout what it does. Returns the exit status: 0, or 130 after Ctrl-C. Each process trains
/// candidates of its own; options.out is a folder that all of them see.
int compare(const CompareOptions& options, Communicator& processes);

}  // namespace finetune
