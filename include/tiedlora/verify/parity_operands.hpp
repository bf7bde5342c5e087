// What the runs of a case over several modules and over tenants have in common: how operands are drawn, and
// how the reference loops see them.
#pragma once

#include <cstddef>  // size_t

#include "../views/config.hpp"
#include "../views/factors.hpp"
#include "dice.hpp"
#include "matrix.hpp"
#include "parity_case.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace verify {
inline namespace TIEDLORA_ISA {

/// A matrix of values that a T can hold: zeros if the case wants that of operand `zero`, with one value that
/// is not finite if it spoils this one.
template <class T>
Matrix drawn_operand(const ParityCase& c, Dice& dice, Index rows, Index columns, char zero = ' ',
                     Spoilt spoilt = Spoilt::nothing) {
  Matrix m(rows, columns);
  for (double& value : m.values) value = c.is_zero(zero) ? 0 : dice.uniform();
  m.round<T>();
  const auto size = static_cast<Index>(m.values.size());
  if (spoilt != Spoilt::nothing && spoilt == c.spoilt && size > 0)
    m.values[static_cast<std::size_t>(dice.integer(0, size - 1))] = c.spoiling_value;
  return m;
}

/// The part of a module that expand and its backward use, for the loops.
inline Factors<const double> expanding_factors(const ParityCase& c, const Matrix& B, const Matrix& u,
                                               const Matrix& v) {
  return {.B = B.values.data(),
          .b_stride = B.rows,
          .u = c.has('u') ? u.values.data() : nullptr,
          .v = c.has('v') ? v.values.data() : nullptr,
          .scaling = c.scaling,
          .rank = B.columns,
          .out_features = B.rows};
}

}  // namespace TIEDLORA_ISA
}  // namespace verify
TIEDLORA_END_NAMESPACE
