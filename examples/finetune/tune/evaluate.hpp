// finetune eval: loss and perplexity on a file. finetune generate: text before and after.
#pragma once

#include <cstdint>     // uint64_t
#include <filesystem>  // path
#include <string>      // string
#include <vector>      // vector

#include "options.hpp"

namespace finetune {

struct EvalOptions {
  ModelOptions model = {};
  std::vector<std::filesystem::path> adapters = {};  ///< files, or folders of runs
  std::vector<std::filesystem::path> data = {};
  DataOptions reading = {.window = 0};
  Index batch_tokens = 0;  ///< 0: default_batch_tokens, or the window where that is longer
  bool no_base = false;    ///< measures the adapters alone
};

/// Says on stdout the loss of the base, unless left out, and of each adapter.
void evaluate(const EvalOptions& options);

struct GenerateOptions {
  ModelOptions model = {};
  std::vector<std::filesystem::path> adapters = {};
  std::vector<std::string> prompts = {};
  std::string system = {};
  bool has_system = false;  ///< else the template's own, as in training
  bool raw = false;         ///< the prompt as it is, without the chat template
  Index tokens = 128;
  double temperature = 0;
  std::uint64_t seed = 1;
};

/// Says on stdout what the base answers and what each adapter makes of it.
void generate(const GenerateOptions& options);

}  // namespace finetune
