// AdamW over the flat array, with rates per factor; gradient norm and clipping.
#pragma once

#include <algorithm>    // min
#include <cmath>        // sqrt, pow, isfinite
#include <cstddef>      // size_t
#include <cstdint>      // int64_t
#include <optional>     // optional
#include <span>         // span
#include <type_traits>  // is_same, type_identity
#include <utility>      // move

#include "aligned_array.hpp"
#include "config.hpp"
#include "error.hpp"
#include "initialize.hpp"
#include "kernels/vector.hpp"
#include "layout.hpp"
#include "result.hpp"
#include "scalar.hpp"

namespace tiedlora {
inline namespace v1 {

/// One number for each factor.
struct PerFactor {
  double A = 1;
  double B = 1;
  double u = 1;
  double v = 1;
  double operator[](FactorId id) const {
    return id == FactorId::A ? A : id == FactorId::B ? B : id == FactorId::u ? u : v;
  }
};

/// Where to start a search for learning rates.
struct LearningRates {
  double learning_rate = 1e-3;
  PerFactor factors = {};  ///< each factor's rate as a multiple of learning_rate
};

struct AdamWOptions {
  /// Unset: that of recommended_rates.
  std::optional<double> learning_rate = std::nullopt;
  /// Each factor's rate as a multiple of learning_rate. Unset: those of recommended_rates.
  std::optional<PerFactor> rates = std::nullopt;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  /// Decoupled: p -= rate · decay · p. Each factor's as a multiple of weight_decay; u and v start at 1 and
  /// are not decayed.
  double weight_decay = 0;
  PerFactor decays = {.A = 1, .B = 1, .u = 0, .v = 0};
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
  double norm = 0;
  bool finite = true;
};

inline namespace TIEDLORA_ISA {

/// What gradients must be multiplied with so that their norm is at most max_norm (torch's clip_grad_norm_).
/// Look at GradientStatistics::finite first: a step with gradients that are not finite is to be left out, not
/// clipped.
inline double clip_factor(double norm, double max_norm) { return std::min(1.0, max_norm / (norm + 1e-6)); }

/// Rates for a scheme by what it trains. In a tied adapter u and v, which start at one and are all that tells
/// the layers apart, need a far higher rate than the A and B that all layers push at once; with one rate for
/// all, tying stays well below LoRA. The numbers are the optima of the example's sweep at rank 16
/// (examples/finetune/results/sweep.csv): a start for a sweep of your own, since other models, texts and
/// ranks have others (LoRA's rises as its rank falls).
inline LearningRates recommended_rates(const Scheme& scheme) {
  const bool trains_matrices = scheme.A.trained || scheme.B.trained;
  const bool trains_vectors = (scheme.u && scheme.u->trained) || (scheme.v && scheme.v->trained);
  const bool ties = scheme.A.tying.layers != each_layer || scheme.B.tying.layers != each_layer;
  if (!trains_matrices) return {.learning_rate = 5.6e-2};  // VeRA
  if (trains_vectors) return {.learning_rate = 3.2e-3, .factors = {.A = 1, .B = 1, .u = 32, .v = 32}};  // TL6
  return {.learning_rate = ties ? 1e-2 : 5.6e-3};  // TL5 and LoRA
}

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

/// The numbers of one AdamW step (Loshchilov and Hutter, arXiv 1711.05101, as torch.optim.AdamW orders it).
struct AdamWStep {
  double rate;   ///< of this step, schedule included
  double decay;  ///< weight decay, before it is multiplied with the rate
  double beta1, beta2, epsilon;
  double gradient_scale;
  std::int64_t step;  ///< 1 in the first
};

/// One step over a span of numbers with the same rates; state is first and second moment. For parameters
/// outside a Layout, e.g. a host's own weights.
template <class P>
void adamw_update(const AdamWStep& s, std::span<P> parameters,
                  std::type_identity_t<std::span<const P>> gradients,
                  std::type_identity_t<std::span<P>> first_moment,
                  std::type_identity_t<std::span<P>> second_moment) {
  static_assert(!is_narrow<P>,
                "tiedlora: train in float or double and cast for serving: steps vanish in half and bfloat16");
  const double correction1 = 1 - std::pow(s.beta1, static_cast<double>(s.step));
  const double correction2 = 1 - std::pow(s.beta2, static_cast<double>(s.step));
  const P keep = static_cast<P>(1 - s.rate * s.decay), rate = static_cast<P>(s.rate / correction1);
  const P root = static_cast<P>(1 / std::sqrt(correction2)), epsilon = static_cast<P>(s.epsilon),
          scale = static_cast<P>(s.gradient_scale);
  const P beta1 = static_cast<P>(s.beta1), beta2 = static_cast<P>(s.beta2);
  const P rest1 = static_cast<P>(1 - s.beta1), rest2 = static_cast<P>(1 - s.beta2);
  P* const p = parameters.data();
  P* const m = first_moment.data();
  P* const v = second_moment.data();
  const P* const g = gradients.data();
  // For one number or a vector of them.
  const auto update = [&](const auto& gradient, auto& parameter, auto& first, auto& second) {
    using kernels::sqrt, std::sqrt;
    first = beta1 * first + rest1 * gradient;
    second = beta2 * second + rest2 * gradient * gradient;
    parameter = keep * parameter - rate * first / (sqrt(second) * root + epsilon);
  };
  const Index n = static_cast<Index>(parameters.size());
  if constexpr (std::is_same_v<P, float>) {
    // The last numbers in a vector filled up with zeros: all are computed alike, wherever they stand.
    constexpr Index lanes = kernels::lanes;
    for (Index i = 0; i < n; i += lanes) {
      const Index part = std::min(n - i, lanes);
      const auto get = [&](const float* from) {
        return part == lanes ? kernels::load(from + i) : kernels::load_part(from + i, part);
      };
      const auto put = [&](float* to, kernels::Vector numbers) {
        part == lanes ? kernels::store(to + i, numbers) : kernels::store_part(to + i, numbers, part);
      };
      kernels::Vector parameter = get(p), first = get(m), second = get(v);
      update(get(g) * scale, parameter, first, second);
      put(m, first), put(v, second), put(p, parameter);
    }
  } else {
    for (Index i = 0; i < n; ++i) update(scale * g[i], p[i], m[i], v[i]);
  }
}

}  // namespace TIEDLORA_ISA

/// AdamW over an adapter's trained numbers: one loop for each factor. Keeps two numbers of state per trained
/// number.
template <class P>
class AdamW {
 public:
  static_assert(!is_narrow<P>,
                "tiedlora: train in float or double and cast for serving: steps vanish in half and bfloat16");

  /// Throws Error for a scheme that cannot learn and for options out of range.
  TIEDLORA_ISA_TAG explicit AdamW(Layout layout, const AdamWOptions& options = {})
      : AdamW(detail::value_or_fail(try_make(std::move(layout), options))) {}

  /// The same, for options that come from a file.
  TIEDLORA_ISA_TAG static Result<AdamW> try_make(Layout layout, const AdamWOptions& options = {}) {
    if (Status trainable = try_require_trainable(layout.scheme()); !trainable) return trainable.failure();
    AdamW optimizer(Unchecked(), std::move(layout), options);
    const LearningRates& rates = optimizer.rates_;
    if (!(rates.learning_rate >= 0 && options.beta1 >= 0 && options.beta1 < 1 && options.beta2 >= 0 &&
          options.beta2 < 1 && options.epsilon >= 0 && options.weight_decay >= 0))
      return Failure{"AdamW needs learning_rate, epsilon and weight_decay of at least 0 and betas in [0, 1)"};
    for (const FactorId id : all_factors)
      if (!(rates.factors[id] >= 0 && options.decays[id] >= 0))
        return Failure{detail::message("AdamW needs rates and decays of at least 0; factor ", to_string(id),
                                       " has another")};
    return optimizer;
  }

  /// One step. Gradients are read, not cleared. Throws Error if the spans do not fit the layout.
  TIEDLORA_ISA_TAG void step(std::span<P> parameters, std::type_identity_t<std::span<const P>> gradients,
                             const StepOptions& step = {}) {
    const auto size = static_cast<std::size_t>(layout_.trainable_count());
    if (parameters.size() != size || gradients.size() != size)
      detail::fail(detail::message("this optimizer's layout has ", size,
                                   " trained numbers, but it was given ", parameters.size(),
                                   " parameters and ", gradients.size(), " gradients"));
    ++step_count_;
    for (const FactorId id : all_factors) {
      if (!layout_.is_trained(id)) continue;
      const Layout::Segment segment = layout_.segment(id);
      const auto part = [&segment](auto span) {
        return span.subspan(static_cast<std::size_t>(segment.offset),
                            static_cast<std::size_t>(segment.count));
      };
      const AdamWStep s = {.rate = rates_.learning_rate * rates_.factors[id] * step.rate_factor,
                           .decay = options_.weight_decay * options_.decays[id],
                           .beta1 = options_.beta1,
                           .beta2 = options_.beta2,
                           .epsilon = options_.epsilon,
                           .gradient_scale = step.gradient_scale,
                           .step = step_count_};
      adamw_update(s, part(parameters), part(gradients), part(first_moment_.span()),
                   part(second_moment_.span()));
    }
  }

  const Layout& layout() const { return layout_; }
  const AdamWOptions& options() const { return options_; }
  const LearningRates& rates() const { return rates_; }  ///< as used: given or recommended

  /// The state, for checkpoints: both moments in layout order, and the number of steps taken.
  std::span<P> first_moment() { return first_moment_.span(); }
  std::span<P> second_moment() { return second_moment_.span(); }
  std::span<const P> first_moment() const { return first_moment_.span(); }
  std::span<const P> second_moment() const { return second_moment_.span(); }
  std::int64_t step_count() const { return step_count_; }
  void set_step_count(std::int64_t count) { step_count_ = count; }

 private:
  struct Unchecked {};
  TIEDLORA_ISA_TAG AdamW(Unchecked, Layout layout, const AdamWOptions& options)
      : layout_(std::move(layout)),
        options_(options),
        rates_{options.learning_rate.value_or(recommended_rates(layout_.scheme()).learning_rate),
               options.rates.value_or(recommended_rates(layout_.scheme()).factors)},
        first_moment_(layout_.trainable_count(), PageQuarter::fourth),
        second_moment_(layout_.trainable_count(), PageQuarter::first) {}

  Layout layout_;
  AdamWOptions options_;
  LearningRates rates_;
  AlignedArray<P> first_moment_, second_moment_;
  std::int64_t step_count_ = 0;
};

}  // namespace v1
}  // namespace tiedlora
