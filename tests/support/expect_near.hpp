// A matrix of results against the exact one.
#pragma once

#include <gtest/gtest.h>

#include <tiedlora/eigen.hpp>
#include <tiedlora/verify/tolerance.hpp>

#include "support/dice.hpp"

namespace tiedlora_test {

/// Whether `actual`, computed in Acc with at most that many roundings of each term and stored as T, is what
/// it should be.
template <class Acc, class T>
void expect_near(const char* what, const Matrix<double>& actual, const Matrix<double>& exact,
                 const Matrix<double>& magnitude, Index roundings) {
  const auto bound = tiedlora::verify::Bound::of<Acc, T>(roundings + 16);
  for (Index t = 0; t < exact.cols(); ++t)
    for (Index i = 0; i < exact.rows(); ++i)
      ASSERT_NEAR(actual(i, t), exact(i, t), bound(exact(i, t), magnitude(i, t)))
          << what << "(" << i << ", " << t << ") of " << exact.rows() << " x " << exact.cols();
}

}  // namespace tiedlora_test
