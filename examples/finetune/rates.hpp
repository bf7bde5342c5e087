// The learning rates of every scheme: the library's, as `finetune --sweep` found them.
#pragma once

#include <map>     // map
#include <string>  // string

#include <tiedlora/adapter/optimizer.hpp>  // recommended_rates

#include "schemes.hpp"  // named_schemes

namespace finetune {

/// A and B (or, in full fine-tuning, the weights) learn at `rate`; u and v at rate × uv_multiple. With u and
/// v the only trained factors (VeRA), `rate` is theirs and the multiple is 1.
struct Rates {
  double rate = 0;
  double uv_multiple = 1;
  bool operator==(const Rates&) const = default;
};

/// By name of scheme; a name may end in a rank: LoRA's optimum rises as the rank falls. From
/// results/sweep.csv.
inline std::map<std::string, Rates> default_rates() {
  std::map<std::string, Rates> rates = {
      {"base", {2e-3, 1}},  // chosen by hand: pre-training is not what is compared
      {"full", {1.8e-3, 1}},
      {"lora:1", {1.8e-2, 1}},
      {"lora:2", {1.8e-2, 1}},
  };
  for (const auto& [name, scheme] : named_schemes()) {
    const tiedlora::LearningRates recommended = tiedlora::recommended_rates(scheme);
    rates[name] = {recommended.learning_rate, recommended.factors.u};
  }
  return rates;
}

}  // namespace finetune
