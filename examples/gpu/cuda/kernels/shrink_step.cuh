// One warp's step of shrink on the tensor cores: 16 ranks by 8 tokens, over 32 features.
//
// Both operands come straight from memory, without shared memory. Σ over features may go in any order, so
// lane (g, q) takes the features 8q … 8q + 7 of its rows, one load of 16 bytes in bfloat16, and they stand
// for the columns 2q, 2q+1, 2q+8, 2q+9 of two instructions. The four lanes of a row read 64 bytes side by
// side.
#pragma once

#include "pieces.cuh"
#include "product.cuh"

namespace gpu_cuda {

inline constexpr int step_features = 32;

/// Two rows of M, split, as the operand a of two instructions.
template <class P>
struct MatrixFragment {
  std::uint32_t words[2][piece_count<P>][4];

  __device__ MatrixFragment(const Eight<P>& upper, const Eight<P>& lower) {
    std::uint32_t up[piece_count<P>][4], low[piece_count<P>][4];
    split(upper, up), split(lower, low);
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int p = 0; p < piece_count<P>; ++p) {
        words[half][p][0] = up[p][2 * half], words[half][p][1] = low[p][2 * half];
        words[half][p][2] = up[p][2 * half + 1], words[half][p][3] = low[p][2 * half + 1];
      }
  }
};

template <int of_a, int of_b>
__device__ inline void multiply_step(float (&d)[4], const std::uint32_t (&a)[2][of_a][4],
                                     const std::uint32_t (&pieces)[of_b][4]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    std::uint32_t b[of_b][2];
#pragma unroll
    for (int p = 0; p < of_b; ++p) b[p][0] = pieces[p][2 * half], b[p][1] = pieces[p][2 * half + 1];
    multiply(d, a[half], b);
  }
}

/// d += M s∘X of these. (An array by reference stays in registers; a pointer that may be null would not.)
template <class P, class X>
__device__ inline void shrink_step(float (&d)[4], const MatrixFragment<P>& m, const Eight<X>& x,
                                   bool is_scaled, const float (&s)[8]) {
  if (is_scaled) {  // the products are floats
    std::uint32_t pieces[3][4];
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      std::uint32_t pair[3];
      split_pair(element(x, 2 * w) * s[2 * w], element(x, 2 * w + 1) * s[2 * w + 1], pair);
      pieces[0][w] = pair[0], pieces[1][w] = pair[1], pieces[2][w] = pair[2];
    }
    multiply_step(d, m.words, pieces);
  } else {
    std::uint32_t pieces[piece_count<X>][4];
    split(x, pieces);
    multiply_step(d, m.words, pieces);
  }
}

}  // namespace gpu_cuda
