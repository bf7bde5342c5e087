// Learning rates per factor, and which to start from. Why factors need rates of their own:
// docs/mathematics.md, E35 to E37.
#pragma once

#include <algorithm>  // max
#include <cmath>      // pow

#include "../views/config.hpp"
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

/// Rates for a scheme by what it trains, and by rank; for a scaling of 1. In a tied adapter u and v, which
/// are all that tells the layers apart, need a far higher rate than the A and B that all layers push at once;
/// with one rate for all, tying stays well below LoRA. The values are a compromise of searches on a language
/// model of width 576, on two or three tasks (docs/results.md), whose optima differ by a factor of 3; that of
/// TL5 is from a model of width 64, on which LoRA's optima are 1.4 to 2 times as high. A start for your own
/// search. What is theory here and what is conjecture: docs/mathematics.md, E32, E36 and E37.
inline LearningRates recommended_rates(const Scheme& scheme, Index rank) {
  const bool trains_matrices = scheme.A.trained || scheme.B.trained;
  const bool trains_vectors = (scheme.u && scheme.u->trained) || (scheme.v && scheme.v->trained);
  const bool ties_both = scheme.A.tying.layers != each_layer && scheme.B.tying.layers != each_layer;
  if (!trains_matrices) return {.learning_rate = 3e-2};  // VeRA
  if (trains_vectors) {                                  // TL6; with v = 0 at the start, VeRA's
    const double multiple = scheme.v && scheme.v->init.is_zero() ? 15 : 100;
    return {.learning_rate = 2e-3, .factors = {.A = 1, .B = 1, .u = multiple, .v = multiple}};
  }
  if (ties_both) return {.learning_rate = 1e-2};                                                     // TL5
  return {.learning_rate = 1.2e-2 * std::pow(static_cast<double>(std::max(rank, Index{1})), -0.4)};  // LoRA
}

TIEDLORA_END_NAMESPACE
