// Learning rates per factor, and which to start from. Why factors need rates of their own:
// docs/mathematics.md, E35 to E37.
#pragma once

#include <algorithm>  // max, min
#include <cmath>      // pow
#include <limits>     // numeric_limits

#include "../views/config.hpp"
#include "layout.hpp"
#include "scheme.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// One value for each factor.
struct PerFactor {
  double A = 1;  ///< of A
  double B = 1;  ///< of B
  double u = 1;  ///< of u
  double v = 1;  ///< of v
  /// By the factor's name.
  double operator[](FactorId id) const {
    return id == FactorId::A ? A : id == FactorId::B ? B : id == FactorId::u ? u : v;
  }
};

/// Where to start a search for learning rates.
struct LearningRates {
  double learning_rate = 1e-3;  ///< of the factors whose multiple is 1
  PerFactor factors = {};       ///< each factor's rate as a multiple of learning_rate
};

/// Rates for a scheme by what it trains, by rank and by the width of the adapted modules' input; for a
/// scaling of 1. A start for your own search: a compromise of searches on a language model of width 576, on
/// one to three tasks whose optima differ, by a factor of 3 for LoRA and by up to 100 for TL6's A and B
/// (docs/results.md).
///
/// Where matrices alone are trained the rate falls as rank^-0.4, on which models of width 64 and 192 agree,
/// and as width^-0.25, which is fitted to them (docs/choosing.md). In TL6 u and v, which are all that tells
/// the layers apart, need a far higher rate than the A and B that all layers push at once; with one rate for
/// all, tying stays well below LoRA. What is theory here and what is conjecture: docs/mathematics.md, E32,
/// E36 and E37.
inline LearningRates recommended_rates(const Scheme& scheme, Index rank, Index width) {
  const bool trains_matrices = scheme.A.trained || scheme.B.trained;
  const bool trains_vectors = (scheme.u && scheme.u->trained) || (scheme.v && scheme.v->trained);
  const bool ties_both = scheme.A.tying.layers != each_layer && scheme.B.tying.layers != each_layer;
  if (!trains_matrices) return {.learning_rate = 3e-2};  // VeRA
  if (trains_vectors) {                                  // TL6; with v = 0 at the start, VeRA's
    const double multiple = scheme.v && scheme.v->init.is_zero() ? 15 : 100;
    return {.learning_rate = 2e-3, .factors = {.A = 1, .B = 1, .u = multiple, .v = multiple}};
  }
  const auto at_least_one = [](Index number) { return static_cast<double>(std::max(number, Index{1})); };
  const double lora =
      1.2e-2 * std::pow(at_least_one(rank), -0.4) * std::pow(at_least_one(width) / 576, -0.25);
  if (!scheme.A.trained) return {.learning_rate = 3 * lora};  // LoRA-FA: A is what keeps LoRA's low
  return {.learning_rate = ties_both ? 2 * lora : lora};      // TL5, LoRA
}
/// Those for an adapter of this layout: by the narrowest input of its adapted modules, so that one narrow
/// module raises the rates of all, and the largest of their ranks.
inline LearningRates recommended_rates(const Layout& layout) {
  Index narrowest = std::numeric_limits<Index>::max(), rank = 0;
  for (Index m = 0; m < layout.size(); ++m) {
    if (layout.rank(m) == 0) continue;
    narrowest = std::min(narrowest, layout.modules()[m].in_features);
    rank = std::max(rank, layout.rank(m));
  }
  return recommended_rates(layout.scheme(), rank, narrowest);
}

TIEDLORA_END_NAMESPACE
