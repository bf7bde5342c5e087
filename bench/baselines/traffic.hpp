// The memory side of the roofline, measured.
#pragma once

#include <span>  // span

#include "baselines/limits.hpp"
#include "harness/problem.hpp"

namespace bench {

/// Moves the same data and computes nothing: plain reads of what is read, updates of what is updated.
class Traffic {
 public:
  explicit Traffic(Problem& problem) : p_(problem), f_(p_.adapter.factors(0)), g_(p_.gradients.factors(0)) {}

  void forward(Activations<float>& a) const {
    read_factors();
    read(span(a.x));
    update(span(a.y));
  }
  void backward(Activations<float>& a) const {
    read_factors();
    if (g_.A) read(span(a.x));
    read(span(a.h));
    read(span(a.dy));
    update(span(a.dx));
    update(p_.gradients.values());
  }

  /// Of what is read or updated, each value once.
  double bytes(bool backward) const {
    const Activations<float>& a = p_.first();
    Index numbers = p_.layout.trainable_count() + p_.layout.frozen_count();
    if (backward)
      numbers +=
          (g_.A ? a.x.size() : 0) + a.h.size() + a.dy.size() + a.dx.size() + p_.layout.trainable_count();
    else
      numbers += a.x.size() + a.y.size();
    return static_cast<double>(numbers) * sizeof(float);
  }

 private:
  static std::span<float> span(Matrix<float>& m) { return {m.data(), static_cast<std::size_t>(m.size())}; }
  void read_factors() const {
    read(p_.adapter.trainable());
    read(p_.adapter.frozen());
  }

  Problem& p_;
  tiedlora::Factors<const float> f_;
  tiedlora::Factors<float> g_;
};

}  // namespace bench
