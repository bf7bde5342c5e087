// A backend's gradients against finite differences of the forward loops (docs/mathematics.md, E43): the one
// check that does not rely on the reference's derivatives.
#pragma once

#include <cmath>    // abs
#include <cstddef>  // size_t

#include "../views/config.hpp"
#include "../views/scalar.hpp"
#include "dice.hpp"
#include "findings.hpp"
#include "matrix.hpp"
#include "parity_case.hpp"
#include "tolerance.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace verify {
inline namespace TIEDLORA_ISA {

inline ParityCase derivative_case(std::uint64_t seed) {
  return {.in = 7,
          .out = 6,
          .rank = 3,
          .tokens = 5,
          .scaling = 1.5,
          .scale = 0.625,
          .token_scale = true,
          .seed = seed};
}

/// L = Σ dy ∘ y, in double.
inline double loss(const ParityCase& c, Numbers n) {
  n.overwrite = true;
  compute_by_reference<double>(c, n);
  double sum = 0;
  for (std::size_t i = 0; i < n.y.values.size(); ++i) sum += n.dy.values[i] * n.y.values[i];
  return sum;
}

/// For each of A, B, u, v and x along one random direction d: (L(p + εd) - L(p - εd)) / 2ε, which is exact
/// except for rounding, since L is linear in each (docs/mathematics.md, E43), against ⟨d, gradient⟩ with the
/// gradient that `result`'s backward added.
template <class P, class X, class Y, class Dx>
CaseResult compare_with_differences(const ParityCase& c, const CaseResult& result) {
  using Acc = accumulator_t<P>;
  constexpr struct {
    const char* name;
    Matrix Numbers::* operand;
    Matrix Numbers::* gradient;
  } derivatives[] = {{"dA", &Numbers::A, &Numbers::dA},
                     {"dB", &Numbers::B, &Numbers::dB},
                     {"du", &Numbers::u, &Numbers::du},
                     {"dv", &Numbers::v, &Numbers::dv},
                     {"dx", &Numbers::x, &Numbers::dx}};
  const Numbers before = draw_numbers<P, X, Y, Dx>(c);
  Numbers magnitude = magnitudes(before);
  compute_by_reference<double>(c, magnitude);
  Dice dice(c.seed + 3);
  CaseResult compared;
  for (const auto& [name, operand, gradient] : derivatives)
    for (const Comparison& of_backend : result.comparisons) {
      if (of_backend.call != "backward" || of_backend.operand != name) continue;
      const auto bound = Bound::of<Acc, Dx>(c.in + c.out + c.rank + c.tokens + 16);
      constexpr double step = 1e-3;
      Numbers above = before, below = before;
      double given = 0, largest_error = 0;
      for (std::size_t i = 0; i < of_backend.values.values.size(); ++i) {
        const double d = dice.uniform(), added = of_backend.values.values[i];
        (above.*operand).values[i] += step * d, (below.*operand).values[i] -= step * d;
        given += d * (added - (before.*gradient).values[i]);
        // 2⁻⁴⁰: the differences' own roundings, over the step.
        const double sum = (magnitude.*gradient).values[i];
        largest_error += std::abs(d) * (bound(added, sum) + 0x1p-40 * sum / step);
      }
      const double numeric = (loss(c, above) - loss(c, below)) / (2 * step);
      const double error = std::abs(numeric - given);
      const bool failed = !(error <= largest_error);
      compared.comparisons.push_back({"finite differences", name, error / largest_error, failed});
      if (failed)
        compared.findings.push_back({.call = "finite differences",
                                     .operand = name,
                                     .fault = "is not the derivative of the loss",
                                     .expected = numeric,
                                     .actual = given,
                                     .bound = largest_error});
    }
  return compared;
}

}  // namespace TIEDLORA_ISA
}  // namespace verify
TIEDLORA_END_NAMESPACE
