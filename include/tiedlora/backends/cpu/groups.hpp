// Rows and tokens in groups of the sizes for which micro-kernels are compiled.
#pragma once

#include <type_traits>  // integral_constant

#include "blocking.hpp"
#include "simd.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace cpu {
inline namespace TIEDLORA_ISA {

/// Calls body(size, first) with the compile-time sizes Largest, …, 4, 2, 1 until [begin, end) is covered.
template <unsigned Largest, class Body>
TIEDLORA_INLINE void in_groups(Index begin, Index end, const Body& body) {
  Index i = begin;
  for (; i + static_cast<Index>(Largest) <= end; i += Largest)
    body(std::integral_constant<unsigned, Largest>(), i);
  if constexpr (Largest > 1) in_groups<Largest / 2>(i, end, body);
}

/// Calls body(constant) with `size` in 1, …, Most as a compile-time constant.
template <unsigned Most, class Body>
TIEDLORA_INLINE void with_size(Index size, const Body& body) {
  if constexpr (Most > 1)
    if (size < static_cast<Index>(Most)) return with_size<Most - 1>(size, body);
  body(std::integral_constant<unsigned, Most>());
}

/// Calls body(size, first) for n things in the fewest groups of at most Most, whose sizes differ by at most
/// one: none is left alone, with no other to share a load with.
template <unsigned Most, class Body>
TIEDLORA_INLINE void in_balanced_groups(Index n, const Body& body) {
  const Index groups = (n + Index{Most} - 1) / Index{Most};
  if (groups == 0) return;
  const Index size = n / groups, larger_groups = n % groups;
  Index first = 0;
  const auto go_to = [&](Index end, Index tokens) {
    if (first < end)
      with_size<Most>(tokens, [&](auto S) {
        for (; first < end; first += S) body(S, first);
      });
  };
  go_to(larger_groups * (size + 1), size + 1);
  go_to(n, size);
}

/// Calls body(R) with the smallest R of Most, …, 4, 2, 1 that is not below `rows`.
template <unsigned Most, class Body>
TIEDLORA_INLINE void with_few_rows(Index rows, const Body& body) {
  if constexpr (Most > 1)
    if (rows <= static_cast<Index>(Most / 2)) return with_few_rows<Most / 2>(rows, body);
  body(std::integral_constant<unsigned, Most>());
}

/// Outputs of sum_tile in groups whose size depends on the number of rows summed.
template <class Body>
TIEDLORA_INLINE void in_output_groups(Index outputs, Index rows, const Body& body) {
  if (rows >= many_rows)
    in_balanced_groups<many_registers ? 8 : 6>(outputs, body);
  else
    in_balanced_groups<4>(outputs, body);
}

}  // namespace TIEDLORA_ISA
}  // namespace cpu
TIEDLORA_END_NAMESPACE
