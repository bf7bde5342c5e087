// Which scheme and rank to spend a number of trainable parameters on.
#pragma once

#include <algorithm>    // max, min
#include <string_view>  // string_view

#include "../views/config.hpp"
#include "layout.hpp"
#include "modules.hpp"
#include "result.hpp"
#include "scheme.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// What recommended_scheme() returns.
struct RecommendedScheme {
  std::string_view name;  ///< as schemes::named() has it
  Scheme scheme;          ///< of that name
  Index rank;             ///< of all modules
  Index trainable;        ///< how many parameters that trains
};

/// A scheme and rank of at most `budget` trainable parameters, by the study of docs/results.md (one model,
/// short runs; reasons: docs/choosing.md): LoRA of the largest rank that fits. Below its rank 1, in this
/// order: share_lora_a of rank 2 or more, lora_fused of rank 1, share_lora_a of rank 1, tl5 of the largest
/// rank. Of these share_lora_a of rank 2 was tried on all three tasks, the others on one or two. Ranks above
/// the study's (8, 4, 128 for tl5) are extrapolated, and so are modules other than its q, k and v. It takes
/// the modules as given: others kept more for less, v_proj and down_proj with share_lora_a. A Failure where
/// tl5 of rank 1 does not fit, or there are no modules.
inline Result<RecommendedScheme> try_recommended_scheme(const ModuleList& modules, Index budget) {
  if (modules.size() == 0) return Failure{"there are no modules to adapt"};
  Index full = 0;  // the largest rank that an update of any module can have
  for (const Module& module : modules)
    full = std::max(full, std::min(module.in_features, module.out_features));
  struct Step {
    std::string_view name;
    Scheme scheme;
    Index least, most;  // ranks
  };
  const Step steps[] = {{"lora", schemes::lora(), 1, full},
                        {"share_lora_a", schemes::share_lora_a(), 2, full},
                        {"lora_fused", schemes::lora_fused(), 1, 1},
                        {"share_lora_a", schemes::share_lora_a(), 1, 1},
                        {"tl5", schemes::tl5(), 1, full}};
  Index count = 0;  // of trainable parameters at rank 1: rank r has r times as many, as all are matrices
  for (const Step& step : steps) {
    const Result<Layout> one = Layout::try_make(modules, step.scheme, 1);
    if (!one) return one.failure();
    count = one->trainable_count();
    const Index rank = std::min(budget / count, step.most);
    if (rank >= step.least) return RecommendedScheme{step.name, step.scheme, rank, rank * count};
  }
  return Failure{detail::message(budget, " trainable parameters are fewer than tl5 of rank 1 has, ", count,
                                 "; allow more, or adapt fewer kinds of modules")};
}
/// The same; throws Error for what is a Failure there.
inline RecommendedScheme recommended_scheme(const ModuleList& modules, Index budget) {
  return detail::value_or_fail(try_recommended_scheme(modules, budget));
}

TIEDLORA_END_NAMESPACE
