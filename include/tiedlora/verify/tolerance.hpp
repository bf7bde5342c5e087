// How far apart two correct computations of the same value can be.
#pragma once

#include <algorithm>  // min
#include <cmath>      // abs, expm1, sqrt
#include <limits>     // numeric_limits

#include "../views/config.hpp"
#include "../views/scalar.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace verify {

/// The largest relative error of one rounding to T: half the distance between 1 and its successor. (Eigen
/// 3.4's NumTraits<half>::epsilon is not that distance.)
template <class T>
constexpr double unit_roundoff() {
  if constexpr (ScalarTraits<T>::format == Format::binary16)
    return 0x1p-11;
  else if constexpr (ScalarTraits<T>::format == Format::bfloat16)
    return 0x1p-8;
  else
    return static_cast<double>(std::numeric_limits<T>::epsilon() / 2);
}

/// Half the distance between the smallest values of T: the largest error of a rounding to T near zero.
template <class T>
constexpr double smallest_roundoff() {
  return ScalarTraits<T>::format == Format::binary16 ? 0x1p-25 : 0;  // the others reach far below
}

/// Bound on |computed - exact| for a sum of products computed in T: γ_n Σ|terms| with γ_n = n u / (1 - n u),
/// where u is the unit roundoff and n is the largest number of roundings that one term passes through (N. J.
/// Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, lemma 3.1). Holds for every order of
/// summation and with or without fused multiply-adds.
template <class T>
double rounding_bound(Index roundings, double sum_of_magnitudes) {
  const double nu = static_cast<double>(roundings) * unit_roundoff<T>();
  return nu / (1 - nu) * sum_of_magnitudes;
}

/// The same where roundings are as likely up as down, as those of random numbers are: γ̃_n = exp(λ √n u + n
/// u² / (1 - u)) - 1 (N. J. Higham and T. Mary, A new approach to probabilistic rounding error analysis,
/// 2019, theorem 2.4). With λ = 8 one value in 10¹³ exceeds it, and a long sum with a missing term does not
/// pass.
template <class T>
double random_rounding_bound(Index roundings, double sum_of_magnitudes) {
  constexpr double lambda = 8, u = unit_roundoff<T>();
  const auto n = static_cast<double>(roundings);
  const double relative = std::expm1(lambda * std::sqrt(n) * u + n * u * u / (1 - u));
  return std::min(relative * sum_of_magnitudes, rounding_bound<T>(roundings, sum_of_magnitudes));
}

/// The error allowed in a result that is summed in one type and stored in another, which rounds once more.
struct Bound {
  double summed = 0;    ///< times the sum of magnitudes
  double stored = 0;    ///< times the result
  double smallest = 0;  ///< near zero

  /// For sums in Acc with at most `roundings` roundings of each term, stored as T `stores` times on the way.
  template <class Acc, class T>
  static Bound of(Index roundings, Index stores = 1) {
    const double rounded = unit_roundoff<T>() > unit_roundoff<Acc>() ? unit_roundoff<T>() : 0;
    return {random_rounding_bound<Acc>(roundings, 1) + static_cast<double>(stores - 1) * rounded, rounded,
            static_cast<double>(stores) * smallest_roundoff<T>()};
  }

  double operator()(double exact, double magnitude) const {
    const double error = summed * magnitude;
    return error + stored * (std::abs(exact) + error) + smallest;
  }
};

}  // namespace verify
TIEDLORA_END_NAMESPACE
