// The formula of one module once more, by its indices and in double. In loops: Eigen's products would cost
// every test seconds of compile time.
#pragma once

#include <cmath>
#include <tiedlora/views/factors.hpp>
#include <tiedlora/views/scalar.hpp>

#include "support/dice.hpp"
#include "support/tolerance.hpp"

namespace tiedlora_test {

inline Matrix<double> product(const Matrix<double>& a, const Matrix<double>& b) {
  Matrix<double> result = Matrix<double>::Zero(a.rows(), b.cols());
  for (Index j = 0; j < b.cols(); ++j)
    for (Index k = 0; k < a.cols(); ++k)
      for (Index i = 0; i < a.rows(); ++i) result(i, j) += a(i, k) * b(k, j);
  return result;
}

template <class T>
Matrix<double> to_double(const Matrix<T>& m) {
  Matrix<double> result(m.rows(), m.cols());
  for (Index i = 0; i < m.size(); ++i) result.data()[i] = static_cast<double>(m.data()[i]);
  return result;
}

/// ΔW = scale · s · diag(v) B diag(u) A, out × in. With `magnitudes` every value is replaced by its
/// magnitude: what the rounding errors of ΔW are relative to.
template <class P>
Matrix<double> delta_weight(const tiedlora::Factors<P>& f, double scale = 1, bool magnitudes = false) {
  const auto number = [magnitudes](auto value) {
    const auto wide = static_cast<double>(value);
    return magnitudes ? std::abs(wide) : wide;
  };
  Matrix<double> delta = Matrix<double>::Zero(f.out_features, f.in_features);
  for (Index i = 0; i < f.out_features; ++i)
    for (Index j = 0; j < f.in_features; ++j) {
      for (Index k = 0; k < f.rank; ++k)
        delta(i, j) +=
            number(f.B[k * f.b_stride + i]) * (f.u ? number(f.u[k]) : 1.0) * number(f.A[k * f.a_stride + j]);
      delta(i, j) *= number(scale) * number(f.scaling) * (f.v ? number(f.v[i]) : 1.0);
    }
  return delta;
}

/// How many roundings a term of y + c ∘ v ∘ B (u ∘ A x) passes through at most: in + rank in the two sums,
/// and those of x, c, u, v, the products and the addition to y.
template <class P>
Index forward_roundings(const tiedlora::Factors<P>& f) {
  return f.in_features + f.rank + 10;
}

/// Random factors for the adapter, as if it had been trained.
template <class Adapter>
void fill_factors(Adapter& adapter, Dice& dice) {
  for (Index m = 0; m < adapter.layout().size(); ++m) {
    const auto randomise = [&dice](auto map) {
      using T = typename decltype(map)::Scalar;
      for (Index j = 0; j < map.cols(); ++j)
        for (Index i = 0; i < map.rows(); ++i) map(i, j) = static_cast<T>(dice.uniform());
    };
    randomise(adapter.A(m)), randomise(adapter.B(m)), randomise(adapter.u(m)), randomise(adapter.v(m));
  }
}

}  // namespace tiedlora_test
