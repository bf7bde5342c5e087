// Packing: rows as floats side by side, to widen their numbers or fold weights into them once for many uses,
// or to put rows where they do not drive each other out of L1. The one way in which anything is copied here.
#pragma once

#include "blocking.hpp"
#include "simd.hpp"
#include "simd_formats.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace cpu {
inline namespace TIEDLORA_ISA {

/// From one packed row of n features to the next: an odd number of lines, so that rows lie spread over L1.
constexpr Index packed_stride(Index n) { return ((n + 15) / 16 | 1) * 16; }

/// out[i] = c · weight[i] · in[i]; without weight c · in[i].
template <class T, class P>
TIEDLORA_INLINE void scale(const T* in, const P* weight, float c, float* out, Index n) {
  in_vectors(n, [&](const auto& io, Index i) __attribute__((always_inline)) {
    io.store(out + i, (weight ? io.load(weight + i) * c : broadcast(c)) * io.load(in + i));
  });
}

/// Packs the first n features of `count` rows, times w (null: ones), at to, to + stride, …, and says in
/// `packed` where each of them is. Reads each row in a long run, as the prefetcher likes it, and fetches the
/// row after the next, which no prefetcher can know.
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
