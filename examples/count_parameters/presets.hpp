// Well-known models. Every size is from the publication named beside it.
#pragma once

#include <algorithm>  // transform
#include <cctype>     // tolower
#include <stdexcept>  // invalid_argument
#include <string>     // string
#include <vector>     // vector

#include "model.hpp"

namespace count_parameters {

inline const std::vector<Model>& presets() {
  // name, source, layers, width, query width, key width, feed-forward, gated
  static const std::vector<Model> models = {
      {"LLaMA2-7B", "arXiv 2307.09288 and its config.json", 32, 4096, 4096, 4096, 11008, true},
      {"LLaMA2-13B", "arXiv 2307.09288 and its config.json", 40, 5120, 5120, 5120, 13824, true},
      // 64 heads of 128 over 8 key-value heads.
      {"LLaMA2-70B", "arXiv 2307.09288 and its config.json", 80, 8192, 8192, 1024, 28672, true},
      // The Tied-LoRA paper names the model, not its sizes. Its feed-forward size is left open.
      {"GPT-2B-001", "inferred from a configuration file, not published", 24, 2048, 2048, 2048, 0, false},
      // Table 2.1: 96 heads of 128; the feed-forward layer is four times as wide.
      {"GPT-3-175B", "arXiv 2005.14165, table 2.1", 96, 12288, 12288, 12288, 49152, false},
      {"GPT-2", "its config.json, the smallest of four", 12, 768, 768, 768, 3072, false},
      {"RoBERTa-base", "arXiv 1907.11692, appendix", 12, 768, 768, 768, 3072, false},
      {"RoBERTa-large", "arXiv 1907.11692, appendix", 24, 1024, 1024, 1024, 4096, false},
      // Table 3: 32 (64) heads of 128 over 8 key-value heads.
      {"Llama-3-8B", "arXiv 2407.21783, table 3", 32, 4096, 4096, 1024, 14336, true},
      {"Llama-3-70B", "arXiv 2407.21783, table 3", 80, 8192, 8192, 1024, 28672, true},
      // Table 1: 32 heads of 128 over 8 key-value heads.
      {"Mistral-7B", "arXiv 2310.06825, table 1", 32, 4096, 4096, 1024, 14336, true},
      // 9 heads of 64 over 3 key-value heads.
      {"SmolLM2-135M", "its config.json", 30, 576, 576, 192, 1536, true},
  };
  return models;
}

/// The preset of that name, in upper or lower case. Throws invalid_argument, listing all, if there is none.
inline const Model& preset(const std::string& name) {
  const auto lower = [](std::string text) {
    std::transform(text.begin(), text.end(), text.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return text;
  };
  std::string known;
  for (const Model& model : presets()) {
    if (lower(model.name) == lower(name)) return model;
    known += (known.empty() ? "" : ", ") + model.name;
  }
  throw std::invalid_argument(fmt::format(
      "--model: \"{}\" is not one of {}; for another model give its config.json with --config", name, known));
}

}  // namespace count_parameters
