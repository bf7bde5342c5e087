// How far apart two correct computations of the same number can lie.
#pragma once

#include <cmath>
#include <tiedlora/eigen.hpp>
#include <tiedlora/verify/tolerance.hpp>

namespace tiedlora_test {

using tiedlora::Index;
using tiedlora::verify::random_rounding_bound, tiedlora::verify::rounding_bound;
using tiedlora::verify::smallest_roundoff, tiedlora::verify::unit_roundoff;

/// For values from the golden files. Their computation has `operations` roundings one after another, which
/// add up as a random walk; the 4 covers the spread over many values. As golden_file.py has it, which
/// compares the files with themselves.
template <class T>
double golden_tolerance(Index operations, double largest) {
  return 4 * std::sqrt(static_cast<double>(operations)) * 2 * unit_roundoff<T>() * largest;
}

}  // namespace tiedlora_test
