// One module, some tokens and all their calls, in guarded memory, against the loops of reference.hpp in
// double.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <tiedlora/ops.hpp>
#include <vector>

#include "support/dice.hpp"
#include "support/tolerance.hpp"

namespace tiedlora_test {

struct KernelCase {
  Index in, out, rank, tokens;
  std::string present = "ABuv";  ///< A and B always
  std::string trained = "ABuv";  ///< of those that are present
  std::uint64_t seed = 0;        ///< of all numbers, views and options

  bool has(char factor) const { return present.find(factor) != std::string::npos; }
  bool trains(char factor) const { return has(factor) && trained.find(factor) != std::string::npos; }
  std::string text() const {
    return "in " + std::to_string(in) + ", out " + std::to_string(out) + ", rank " + std::to_string(rank) +
           ", tokens " + std::to_string(tokens) + ", present " + present + ", trained " + trained +
           ", seed " + std::to_string(seed);
  }
};

/// All operands and results of a case in double.
struct Numbers {
  Matrix<double> A, B, u, v, x, dy;      ///< A in×r, B out×r, u r×1, v out×1
  Matrix<double> y, dx, dA, dB, du, dv;  ///< before the calls, then after
  Matrix<double> h, dh;                  ///< results
  double scaling = 1, scale = 1;         ///< of the module and of the call
  std::vector<float> token_scale;        ///< empty: none
  bool overwrite = false;
  tiedlora::Dropout dropout;

  template <class Function>
  void for_each(const Function& function) {
    for (Matrix<double>* m : {&A, &B, &u, &v, &x, &dy, &y, &dx, &dA, &dB, &du, &dv, &h, &dh}) function(*m);
  }

  Numbers magnitudes() const {
    Numbers result = *this;
    result.for_each([](Matrix<double>& m) { m = m.cwiseAbs().eval(); });
    result.scaling = std::abs(scaling), result.scale = std::abs(scale);
    for (float& value : result.token_scale) value = std::abs(value);
    return result;
  }

  tiedlora::CallOptions options() const {
    return {.scale = scale,
            .token_scale = token_scale.empty() ? nullptr : token_scale.data(),
            .overwrite = overwrite,
            .dropout = dropout};
  }
};

/// Fills in the results.
inline void compute_by_reference(const KernelCase& c, Numbers& n) {
  namespace reference = tiedlora::reference;
  const auto pointer = [](Matrix<double>& m, bool wanted) { return wanted ? m.data() : nullptr; };
  const auto factors = [&](Matrix<double>& A, Matrix<double>& B, Matrix<double>& u, Matrix<double>& v,
                           const auto& wanted) {
    return tiedlora::Factors<double>{pointer(A, wanted('A')),
                                     c.in,
                                     pointer(B, wanted('B')),
                                     c.out,
                                     pointer(u, wanted('u')),
                                     pointer(v, wanted('v')),
                                     n.scaling,
                                     c.rank,
                                     c.in,
                                     c.out,
                                     0,
                                     "case"};
  };
  const tiedlora::Factors<const double> f =
      factors(n.A, n.B, n.u, n.v, [&](char factor) { return c.has(factor); });
  const tiedlora::Factors<double> g =
      factors(n.dA, n.dB, n.du, n.dv, [&](char factor) { return c.trains(factor); });
  const auto in = [](const Matrix<double>& m) {
    return tiedlora::Tokens<const double>{m.data(), m.rows(), m.cols(), m.rows()};
  };
  const auto out = [](Matrix<double>& m) {
    return tiedlora::Tokens<double>{m.data(), m.rows(), m.cols(), m.rows()};
  };
  const tiedlora::CallOptions o = n.options();
  n.h = n.dh = Matrix<double>(c.rank, c.tokens);
  reference::shrink(f, in(n.x), out(n.h), o);
  reference::expand(f, in(n.h), out(n.y), o);
  reference::expand_backward(f, in(n.h), in(n.dy), g, out(n.dh), o);
  reference::shrink_backward(f, in(n.x), in(n.dh), g, out(n.dx), o);
}

/// Whether `actual`, computed in Acc with at most that many roundings of each term and stored as T, is what
/// it should be.
template <class Acc, class T>
void expect_near(const char* what, const Matrix<double>& actual, const Matrix<double>& exact,
                 const Matrix<double>& magnitude, Index roundings) {
  const double relative = random_rounding_bound<Acc>(roundings + 16, 1);
  const double stored = std::is_same_v<Acc, T> ? 0 : unit_roundoff<T>();
  for (Index t = 0; t < exact.cols(); ++t)
    for (Index i = 0; i < exact.rows(); ++i) {
      const double summed = relative * magnitude(i, t);
      ASSERT_NEAR(actual(i, t), exact(i, t),
                  summed + stored * (std::abs(exact(i, t)) + summed) + smallest_roundoff<T>())
          << what << "(" << i << ", " << t << ") of " << exact.rows() << " x " << exact.cols();
    }
}

}  // namespace tiedlora_test
