// Products on the tensor cores nearly as exact as floats': every value as a sum of bfloat16s.
//
// A bfloat16 is one piece, a half two, a float three, and these sums are exact (8 bits each; bfloat16 has the
// exponents of a float). A product of pieces is exact too. So every mixture of types takes one instruction,
// mma.m16n8k16 of bfloat16, one time for bfloat16 × bfloat16, three times for bfloat16 × float, six for float
// × float: what is left out is below 2⁻²⁴ of a product. (tf32 keeps 11 bits; FFMA would do for float × float,
// at a like rate, but not for the rest.) The sums are floats, but tensor cores align and cut the addends of a
// step where floats would be rounded one by one: those errors have a sign. The emulation rounds and cannot
// show it.
//
// h and dh are floats, so that half of every product here has three pieces: at ranks up to 64 memory is what
// takes the time all the same. An infinity becomes a NaN; floats beyond bfloat16's largest, 3.39e38, an
// infinity.
#pragma once

#include "numbers.cuh"

namespace gpu_cuda {

template <class T>
inline constexpr int piece_count = std::is_same_v<T, float>    ? 3
                                   : std::is_same_v<T, __half> ? 2
                                                               : 1;

/// Pairs of bfloat16 that add up to the pair (low, high).
template <int count>
__device__ inline void split_pair(float low, float high, std::uint32_t (&pieces)[count]) {
#pragma unroll
  for (int p = 0; p < count; ++p) {
    pieces[p] = pack_bfloat16(low, high);
    low -= __uint_as_float(pieces[p] << 16);
    high -= __uint_as_float(pieces[p] & 0xffff0000u);
  }
}

/// Of eight values: word w of a piece has the values 2w and 2w + 1.
template <class T>
__device__ inline void split(const Eight<T>& e, std::uint32_t (&pieces)[piece_count<T>][4]) {
#pragma unroll
  for (int w = 0; w < 4; ++w) {
    if constexpr (std::is_same_v<T, __nv_bfloat16>) {
      pieces[0][w] = e.words[w];
    } else {
      std::uint32_t pair[piece_count<T>];
      split_pair(element(e, 2 * w), element(e, 2 * w + 1), pair);
#pragma unroll
      for (int p = 0; p < piece_count<T>; ++p) pieces[p][w] = pair[p];
    }
  }
}

/// d += a b, the smallest products first.
template <int of_a, int of_b>
__device__ inline void multiply(float (&d)[4], const std::uint32_t (&a)[of_a][4],
                                const std::uint32_t (&b)[of_b][2]) {
#pragma unroll
  for (int order = 2; order >= 0; --order)
#pragma unroll
    for (int p = 0; p < of_a; ++p)
      if (order - p >= 0 && order - p < of_b) mma_m16n8k16(d, a[p], b[order - p]);
}

}  // namespace gpu_cuda
