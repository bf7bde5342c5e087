// Addresses of tokens, and whether they come from beyond L2.
#pragma once

#include <cstddef>  // size_t

#include "../../views/tokens.hpp"
#include "blocking.hpp"
#include "simd.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace cpu {
inline namespace TIEDLORA_ISA {

/// The first module whose A is that of module m: the two share h. Likewise for gradients.
template <class Modules>
std::size_t first_with_same_A(const Modules& modules, std::size_t m) {
  std::size_t first = 0;
  while (modules[first].A != modules[m].A || modules[first].rank != modules[m].rank) ++first;
  return first;
}

/// The addresses of feature `feature` in the tokens [first, first + count).
template <class T>
TIEDLORA_INLINE void point_at(const Tokens<T>& x, Index first, Index count, Index feature, T** out) {
  if (x.pointers || x.rows) {
    for (Index t = 0; t < count; ++t) out[t] = x[first + t] + feature;
  } else {
    T* p = x[first] + feature;
    for (Index t = 0; t < count; ++t, p += x.stride) out[t] = p;
  }
}

/// Whether tokens are assumed to come from beyond L2, by their size in total.
template <class T>
bool from_afar(const Tokens<T>& x) {
  return x.count * x.width * static_cast<Index>(sizeof(T)) > far_bytes;
}

/// The distance from one token to the next where they come from beyond L2, for prefetching; 0 where they do
/// not, or are not equally spaced.
template <class T>
Index next_from_afar(const Tokens<T>& x) {
  return from_afar(x) && !x.pointers && !x.rows ? x.stride : 0;
}

}  // namespace TIEDLORA_ISA
}  // namespace cpu
TIEDLORA_END_NAMESPACE
