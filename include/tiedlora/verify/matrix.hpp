// The minimal matrix that the parity kit needs: values in double, tokens as columns.
#pragma once

#include <cmath>    // abs
#include <cstddef>  // size_t
#include <vector>   // vector

#include "../views/config.hpp"
#include "../views/scalar.hpp"
#include "../views/tokens.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace verify {
inline namespace TIEDLORA_ISA {

template <class T>
T from_double(double value) {
  return static_cast<T>(static_cast<accumulator_t<T>>(value));
}
template <class T>
double to_double(const T& value) {
  return static_cast<double>(static_cast<accumulator_t<T>>(value));
}

struct Matrix {
  Index rows = 0, columns = 0;
  std::vector<double> values;  ///< column by column

  Matrix() = default;
  Matrix(Index row_count, Index column_count)
      : rows(row_count),
        columns(column_count),
        values(static_cast<std::size_t>(row_count) * static_cast<std::size_t>(column_count)) {}

  double& operator()(Index i, Index j) { return values[static_cast<std::size_t>(j * rows + i)]; }
  double operator()(Index i, Index j) const { return values[static_cast<std::size_t>(j * rows + i)]; }

  Tokens<double> tokens() { return {.data = values.data(), .width = rows, .count = columns, .stride = rows}; }
  Tokens<const double> tokens() const {
    return {.data = values.data(), .width = rows, .count = columns, .stride = rows};
  }

  /// Rounds every value to T.
  template <class T>
  void round() {
    for (double& value : values) value = to_double(from_double<T>(value));
  }
};

inline Matrix absolute(Matrix m) {
  for (double& value : m.values) value = std::abs(value);
  return m;
}

}  // namespace TIEDLORA_ISA
}  // namespace verify
TIEDLORA_END_NAMESPACE
