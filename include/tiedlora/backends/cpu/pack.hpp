// Packing: rows as floats side by side, to widen them or fold weights into them once for many uses, or to
// place rows where they do not evict each other from L1. Nothing else here copies.
#pragma once

#include "blocking.hpp"
#include "simd.hpp"
#include "simd_formats.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace cpu {
inline namespace TIEDLORA_ISA {

/// The stride of packed rows of n features: an odd number of lines, so that rows spread over the sets of L1.
constexpr Index packed_stride(Index n) { return ((n + 15) / 16 | 1) * 16; }

/// out[i] = c · weight[i] · in[i]; without weight c · in[i].
template <class T, class P>
TIEDLORA_INLINE void scale(const T* in, const P* weight, float c, float* out, Index n) {
  in_vectors(n, [&](const auto& io, Index i) __attribute__((always_inline)) {
    io.store(out + i, (weight ? io.load(weight + i) * c : broadcast(c)) * io.load(in + i));
  });
}

/// Packs the first n features of `count` rows, times w (null: ones), at to, to + stride, …, and writes their
/// addresses to `packed`. Reads each row in one long run, which suits the prefetcher, and prefetches the row
/// after the next, which the hardware cannot predict.
template <class T, class P>
void pack_rows(const T* const* rows, Index count, const P* w, Index n, float* to, Index stride,
               const float** packed) {
  for (Index p = 0; p < count; ++p, to += stride) {
    const T* const ahead = rows[p + 2 < count ? p + 2 : count - 1];
    in_vectors(n, [&](const auto& io, Index i) __attribute__((always_inline)) {
      prefetch(ahead + i);
      const Vector row = io.load(rows[p] + i);
      io.store(to + i, w ? io.load(w + i) * row : row);
    });
    packed[p] = to;
  }
}

}  // namespace TIEDLORA_ISA
}  // namespace cpu
TIEDLORA_END_NAMESPACE
