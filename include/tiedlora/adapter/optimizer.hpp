// AdamW over the flat array, with rates per factor; gradient norm and clipping.
#pragma once

#include <algorithm>    // min, max
#include <cmath>        // sqrt, pow, isfinite
#include <cstddef>      // size_t
#include <cstdint>      // int64_t
#include <cstring>      // memcpy
#include <limits>       // numeric_limits
#include <optional>     // optional
#include <span>         // span
#include <type_traits>  // is_same, type_identity
#include <utility>      // move

#if defined(__AVX__)
#include <immintrin.h>  // square roots of vectors
#elif defined(__SSE__)
#include <xmmintrin.h>
#endif

#include "../views/config.hpp"
#include "../views/error.hpp"
#include "../views/scalar.hpp"
#include "aligned_array.hpp"
#include "initialize.hpp"
#include "layout.hpp"
#include "learning_rates.hpp"
#include "result.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// How AdamW steps. Betas and epsilon default to torch's.
struct AdamWOptions {
  /// Unset: that of recommended_rates.
  std::optional<double> learning_rate = std::nullopt;
  /// Each factor's rate as a multiple of learning_rate. Unset: those of recommended_rates.
  std::optional<PerFactor> rates = std::nullopt;
  double beta1 = 0.9;     ///< decay of the first moment, in [0, 1)
  double beta2 = 0.999;   ///< decay of the second moment, in [0, 1)
  double epsilon = 1e-8;  ///< added to the root of the second moment
  /// Decoupled: p -= rate · decay · p. Each factor's as a multiple of weight_decay; u and v
  /// are not decayed.
  double weight_decay = 0;
  PerFactor decays = {.A = 1, .B = 1, .u = 0, .v = 0};  ///< each factor's decay as a multiple of weight_decay
};

/// What changes from step to step.
struct StepOptions {
  /// The schedule: times every learning rate.
  double rate_factor = 1;
  /// Times every gradient: the clip factor, 1 / loss scale, 1 / accumulated batches.
  double gradient_scale = 1;
};

/// Norm of a gradient and whether all of it is finite.
struct GradientStatistics {
  double norm = 0;     ///< Euclidean, of all gradients together
  bool finite = true;  ///< no NaN, no infinity
};

/// What to multiply gradients by so that their norm is at most max_norm (torch's clip_grad_norm_). Look at
/// GradientStatistics::finite first: skip a step whose gradients are not finite instead of clipping it.
inline double clip_factor(double norm, double max_norm) { return std::min(1.0, max_norm / (norm + 1e-6)); }

/// Norm and finiteness in one pass; sums in double, in which squares of floats cannot overflow.
template <class G>
GradientStatistics gradient_statistics(std::span<const G> gradients) {
  // Several sums side by side, in an order of our own: one alone would wait for each addition.
  constexpr std::size_t sums = 16;
  double squares[sums] = {}, nonfinite[sums] = {};
  const auto add = [&](std::size_t sum, const G& gradient) {
    const double value = static_cast<double>(gradient);
    squares[sum] += value * value;
    nonfinite[sum] += value * 0;  // 0, or NaN for an infinity or NaN
  };
  std::size_t i = 0;
  for (; i + sums <= gradients.size(); i += sums)
    for (std::size_t j = 0; j < sums; ++j) add(j, gradients[i + j]);
  for (std::size_t j = 0; i + j < gradients.size(); ++j) add(j, gradients[i + j]);
  for (std::size_t j = 1; j < sums; ++j) {
    squares[0] += squares[j];
    nonfinite[0] += nonfinite[j];
  }
  return {std::sqrt(squares[0]), nonfinite[0] == 0};
}
template <class G>
GradientStatistics gradient_statistics(std::span<G> gradients) {
  return gradient_statistics(std::span<const G>(gradients));
}

/// The hyperparameters of one AdamW step (Loshchilov and Hutter, arXiv 1711.05101, as torch.optim.AdamW
/// orders it).
struct AdamWStep {
  double rate = 0;                                    ///< of this step, schedule included
  double decay = 0;                                   ///< weight decay, before it is multiplied by the rate
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;  ///< as in AdamWOptions
  double gradient_scale = 1;                          ///< as in StepOptions
  std::int64_t step = 1;                              ///< 1 in the first
};

/// The step reduced to constants. Each parameter p with moments m and v (not the factor v) and gradient g
/// becomes:
///   g' = gradient_scale g
///   m = beta1 m + rest1 g'     v = beta2 v + rest2 g'²     p = keep p - rate m / (root √v + epsilon)
/// This is docs/mathematics.md, E35, with everything that all parameters have in common computed beforehand.
/// Plain and trivially copyable, in the type T of the parameters.
template <class T>
struct AdamWConstants {
  T gradient_scale, beta1, rest1, beta2, rest2, keep, rate, root, epsilon;  ///< as in the formulas
};

/// The constants of a step, computed in double and rounded once.
template <class T>
AdamWConstants<T> adamw_constants(const AdamWStep& s) {
  const double correction1 = 1 - std::pow(s.beta1, static_cast<double>(s.step));
  const double correction2 = 1 - std::pow(s.beta2, static_cast<double>(s.step));
  return {.gradient_scale = static_cast<T>(s.gradient_scale),
          .beta1 = static_cast<T>(s.beta1),
          .rest1 = static_cast<T>(1 - s.beta1),
          .beta2 = static_cast<T>(s.beta2),
          .rest2 = static_cast<T>(1 - s.beta2),
          .keep = static_cast<T>(1 - s.rate * s.decay),
          .rate = static_cast<T>(s.rate / correction1),
          .root = static_cast<T>(1 / std::sqrt(correction2)),
          .epsilon = static_cast<T>(s.epsilon)};
}

namespace detail {

// Floats that are updated at a time, and their square roots, correctly rounded. (With errno in its way no
// compiler makes vectors of std::sqrt.)
#if defined(__AVX512F__)
using AdamWFloats = float __attribute__((vector_size(64)));
inline void take_square_roots(AdamWFloats& values) {
  values = _mm512_maskz_sqrt_ps(0xffff, values);  // GCC 12 warns of the plain one, in its own header
}
#elif defined(__AVX__)
using AdamWFloats = float __attribute__((vector_size(32)));
inline void take_square_roots(AdamWFloats& values) { values = _mm256_sqrt_ps(values); }
#else
using AdamWFloats = float __attribute__((vector_size(16)));
inline void take_square_roots(AdamWFloats& values) {
#if defined(__SSE__)
  values = _mm_sqrt_ps(values);
#else
  for (std::size_t i = 0; i < 4; ++i) values[i] = std::sqrt(values[i]);
#endif
}
#endif
template <class P>
void take_square_roots(P& value) {
  using std::sqrt;
  value = sqrt(value);
}

/// For one parameter or a vector of them.
template <class P, class Numbers>
void adamw_update_numbers(const AdamWConstants<P>& c, Numbers& p, const Numbers& g, Numbers& m, Numbers& v) {
  const Numbers gradient = c.gradient_scale * g;
  m = c.beta1 * m + c.rest1 * gradient;
  v = c.beta2 * v + c.rest2 * gradient * gradient;
  Numbers root = v;
  take_square_roots(root);
  p = c.keep * p - c.rate * m / (root * c.root + c.epsilon);
}

}  // namespace detail

/// One step over a span of parameters with the same rates; the state is the first and second moment. For
/// parameters outside a Layout, e.g. a host's own weights. Throws Error unless all spans have the same
/// length.
template <class P>
void adamw_update(const AdamWConstants<P>& constants, std::span<P> parameters,
                  std::type_identity_t<std::span<const P>> gradients,
                  std::type_identity_t<std::span<P>> first_moment,
                  std::type_identity_t<std::span<P>> second_moment) {
  static_assert(!is_narrow<P>,
                "tiedlora: train in float or double and cast for serving: steps vanish in half and bfloat16");
  for (const std::size_t size : {gradients.size(), first_moment.size(), second_moment.size()})
    if (size != parameters.size())
      detail::fail("adamw_update was given ", parameters.size(), " parameters, but a span of ", size,
                   " gradients or moments; all four spans must have the same length");
  P* const p = parameters.data();
  const P* const g = gradients.data();
  P* const m = first_moment.data();
  P* const v = second_moment.data();
  if constexpr (std::is_same_v<P, float>) {
    // The last parameters in a vector filled up with zeros: all are computed alike, wherever they stand.
    constexpr std::size_t lanes = sizeof(detail::AdamWFloats) / sizeof(float);
    const auto update = [&](std::size_t i, std::size_t bytes) __attribute__((always_inline)) {
      detail::AdamWFloats parameter = {}, gradient = {}, first = {}, second = {};
      std::memcpy(&parameter, p + i, bytes), std::memcpy(&gradient, g + i, bytes);
      std::memcpy(&first, m + i, bytes), std::memcpy(&second, v + i, bytes);
      detail::adamw_update_numbers(constants, parameter, gradient, first, second);
      std::memcpy(p + i, &parameter, bytes), std::memcpy(m + i, &first, bytes),
          std::memcpy(v + i, &second, bytes);
    };
    std::size_t i = 0;
    for (; i + lanes <= parameters.size(); i += lanes) update(i, sizeof(detail::AdamWFloats));
    if (i < parameters.size()) update(i, (parameters.size() - i) * sizeof(float));
  } else {
    for (std::size_t i = 0; i < parameters.size(); ++i)
      detail::adamw_update_numbers(constants, p[i], g[i], m[i], v[i]);
  }
}
template <class P>
void adamw_update(const AdamWStep& step, std::span<P> parameters,
                  std::type_identity_t<std::span<const P>> gradients,
                  std::type_identity_t<std::span<P>> first_moment,
                  std::type_identity_t<std::span<P>> second_moment) {
  adamw_update(adamw_constants<P>(step), parameters, gradients, first_moment, second_moment);
}

/// What one step does to an adapter's flat array: at most four segments, each with its constants. Plain and
/// trivially copyable, so that a device can run it in one kernel over its copies of parameters, gradients and
/// moments; AdamW::step is its loop on the host.
template <class T>
struct StepPlan {
  /// A factor's part of the flat array.
  struct Segment {
    Index offset, count;          ///< in elements
    AdamWConstants<T> constants;  ///< of all parameters in it
  };
  Segment segments[4] = {};  ///< the first `size` are in use
  int size = 0;              ///< how many: one for each trained factor
  const Segment* begin() const { return segments; }
  const Segment* end() const { return segments + size; }
};

/// AdamW over an adapter's trainable parameters: one loop for each factor. Keeps two values of state per
/// parameter.
template <class P>
class AdamW {
 public:
  static_assert(!is_narrow<P>,
                "tiedlora: train in float or double and cast for serving: steps vanish in half and bfloat16");

  /// Throws Error for a scheme that cannot learn and for options out of range.
  explicit AdamW(Layout layout, const AdamWOptions& options = {})
      : AdamW(detail::value_or_fail(try_make(std::move(layout), options))) {}

  /// The same, for options that come from a file.
  static Result<AdamW> try_make(Layout layout, const AdamWOptions& options = {}) {
    if (Status trainable = try_require_trainable(layout.scheme()); !trainable) return trainable.failure();
    AdamW optimizer(Unchecked(), std::move(layout), options);
    const LearningRates& rates = optimizer.rates_;
    const auto is_rate = [](double value) { return value >= 0 && std::isfinite(value); };
    if (!(is_rate(rates.learning_rate) && is_rate(options.weight_decay) && options.beta1 >= 0 &&
          options.beta1 < 1 && options.beta2 >= 0 && options.beta2 < 1))
      return Failure{"AdamW needs a finite learning_rate and weight_decay of at least 0 and betas in [0, 1)"};
    if (!(static_cast<P>(options.epsilon) > 0 && std::isfinite(static_cast<P>(options.epsilon))))
      return Failure{detail::message(
          "AdamW needs a finite epsilon above 0 in the parameters' type, not ", options.epsilon,
          ": a gradient of 0, which LoRA's A has in the first step, would make NaN of 0 / 0")};
    const StepPlan<P> first = optimizer.step_plan();
    const auto* segment = first.begin();
    for (const FactorId id : all_factors) {
      bool good = is_rate(rates.factors[id]) && is_rate(options.decays[id]);
      if (optimizer.layout_.is_trained(id)) {  // no rate is larger than the first
        good = good && std::isfinite(segment->constants.rate) && std::isfinite(segment->constants.keep);
        ++segment;
      }
      if (!good)
        return Failure{detail::message(
            "AdamW needs rates and decays of at least 0 that are finite in the parameters' type, but factor ",
            to_string(id), " has rate ", rates.learning_rate, " times ", rates.factors[id], " and decay ",
            options.weight_decay, " times ", options.decays[id])};
    }
    return optimizer;
  }

  /// One step. Gradients are read, not cleared. Throws Error if the spans do not fit the layout.
  void step(std::span<P> parameters, std::type_identity_t<std::span<const P>> gradients,
            const StepOptions& step = {}) {
    const auto size = static_cast<std::size_t>(layout_.trainable_count());
    if (parameters.size() != size || gradients.size() != size)
      detail::fail(detail::message("this optimizer's layout has ", size,
                                   " trainable parameters, but it was given ", parameters.size(),
                                   " parameters and ", gradients.size(), " gradients"));
    if (first_moment_.size() != layout_.trainable_count())
      detail::fail("this optimizer was moved from and is empty");
    const StepPlan<P> plan = step_plan(step);
    ++step_count_;
    for (const auto& segment : plan) {
      const auto part = [&segment](auto span) {
        return span.subspan(static_cast<std::size_t>(segment.offset),
                            static_cast<std::size_t>(segment.count));
      };
      adamw_update(segment.constants, part(parameters), part(gradients), part(first_moment_.span()),
                   part(second_moment_.span()));
    }
  }

  /// What the next step would do. If you run it elsewhere, count it with set_step_count(step_count() + 1).
  StepPlan<P> step_plan(const StepOptions& step = {}) const {
    if (!std::isfinite(step.rate_factor) || !std::isfinite(step.gradient_scale))
      detail::fail("a step of AdamW was given the rate factor ", step.rate_factor, " and the gradient scale ",
                   step.gradient_scale, "; both must be finite, or every parameter becomes NaN");
    StepPlan<P> plan;
    for (const FactorId id : all_factors) {
      if (!layout_.is_trained(id)) continue;
      const Layout::Segment segment = layout_.segment(id);
      plan.segments[plan.size++] = {.offset = segment.offset,
                                    .count = segment.count,
                                    .constants = adamw_constants<P>(
                                        {.rate = rates_.learning_rate * rates_.factors[id] * step.rate_factor,
                                         .decay = options_.weight_decay * options_.decays[id],
                                         .beta1 = options_.beta1,
                                         .beta2 = options_.beta2,
                                         .epsilon = options_.epsilon,
                                         .gradient_scale = step.gradient_scale,
                                         .step = step_count_ + 1})};
    }
    return plan;
  }

  /// What it was made with.
  const Layout& layout() const { return layout_; }
  const AdamWOptions& options() const { return options_; }
  const LearningRates& rates() const { return rates_; }  ///< as used: given or recommended

  /// The state, for checkpoints: both moments in layout order, and the number of steps taken.
  std::span<P> first_moment() { return first_moment_.span(); }
  std::span<P> second_moment() { return second_moment_.span(); }
  std::span<const P> first_moment() const { return first_moment_.span(); }
  std::span<const P> second_moment() const { return second_moment_.span(); }
  std::int64_t step_count() const { return step_count_; }
  /// Throws Error if it is negative, or so large that none could follow.
  void set_step_count(std::int64_t count) {
    if (count < 0 || count == std::numeric_limits<std::int64_t>::max())
      detail::fail("set_step_count was given ", count, "; the count must not be negative, nor the largest");
    step_count_ = count;
  }

 private:
  struct Unchecked {};
  AdamW(Unchecked, Layout layout, const AdamWOptions& options)
      : layout_(std::move(layout)),
        options_(options),
        rates_{options.learning_rate.value_or(recommended_rates(layout_).learning_rate),
               options.rates.value_or(recommended_rates(layout_).factors)},
        first_moment_(layout_.trainable_count(), PageQuarter::fourth),
        second_moment_(layout_.trainable_count(), PageQuarter::first) {}

  Layout layout_;
  AdamWOptions options_;
  LearningRates rates_;
  AlignedArray<P> first_moment_, second_moment_;
  std::int64_t step_count_ = 0;
};

TIEDLORA_END_NAMESPACE
