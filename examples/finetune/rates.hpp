// The learning rates of every scheme, as `finetune --sweep` found them.
#pragma once

#include <map>        // map
#include <stdexcept>  // invalid_argument
#include <string>     // string

namespace finetune {

/// A and B (or, in full fine-tuning, the weights) learn at `rate`; u and v at rate × uv_multiple. With u and
/// v the only trained factors (VeRA), `rate` is theirs and the multiple is 1.
struct Rates {
  double rate = 0;
  double uv_multiple = 1;
  bool operator==(const Rates&) const = default;
};

/// The optima of results/sweep.csv, for the default model, text and number of steps. A name may end in a
/// rank: "lora:1".
inline std::map<std::string, Rates> default_rates() {
  return {{"base", {2e-3, 1}},  // chosen by hand: pre-training is not what is compared
          {"lora", {1e-2, 1}}, {"vera", {3e-2, 1}}, {"tl5", {1e-2, 1}},
          {"tl6", {1e-2, 30}}, {"full", {1e-3, 1}}};
}

}  // namespace finetune
