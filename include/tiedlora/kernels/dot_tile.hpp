// A block of dot products: some rows of A against some tokens of x.
#pragma once

#include "narrow.hpp"
#include "vector.hpp"

namespace tiedlora {
inline namespace v1 {
namespace kernels {
inline namespace TIEDLORA_ISA {

// A tile of rows × tokens has four chains of sums for each token: of four rows, or two chains of each of two
// rows, or four of one. So one token alone keeps the multipliers busy, and six fill the registers (24 sums, 7
// operands of 32; or 12 and 4 of 16). One token alone takes eight rows, of one chain each as four have: the
// adding up at the end of each tile then costs half.
inline constexpr unsigned dot_chains = 4;
inline constexpr unsigned dot_tokens = many_registers ? 6 : 3;
inline constexpr unsigned dot_rows_of_one_token = 8;

/// Where a tile finds its rows: vector i of row k at data + k · row + i · step, n features in all. In place
/// that is step = lanes; in a packed panel the vectors of the rows alternate and the last is filled with
/// zeros.
template <class P>
struct DotRows {
  const P* data;
  Index row;
  Index step;
  Index ahead = 0;  ///< from a token to the one to fetch meanwhile
};

/// The sum of the chains of token t, which come in twos and fours.
template <unsigned chains, unsigned T>
TIEDLORA_INLINE float sum_of_chains(const Vector (&acc)[chains][T], unsigned t) {
  Vector all = acc[0][t] + acc[1][t];
  if constexpr (chains == 4) all += acc[2][t] + acc[3][t];
  return sum(all);
}

/// out[t][first + k] (+)= Σ_i a[k][i] x[t][i] for K rows of a and T tokens over n features. The order of each
/// sum follows from K and n alone. While it `fetches`, the features rows.ahead of these tokens' are brought
/// into the second cache.
template <unsigned K, unsigned T, bool padded, bool fetches, class P, class X>
TIEDLORA_KERNEL void dot_tile(const DotRows<P>& rows, const X* const* x, Index n, float* const* out,
                              Index first, bool add) {
  constexpr unsigned chains = K < dot_chains ? dot_chains / K : 1;
  DotRows<P> a = rows;
  Vector acc[K][chains][T] = {};
  const X* xs[T];
  TIEDLORA_UNROLL for (unsigned t = 0; t < T; ++t) xs[t] = x[t];
  const auto multiply = [&](unsigned chain, Index i, Index part) __attribute__((always_inline)) {
    if constexpr (fetches)
      TIEDLORA_UNROLL for (unsigned t = 0; t < T; ++t) prefetch_from_afar(xs[t] + i + a.ahead);
    Vector b[T];
    TIEDLORA_UNROLL for (unsigned t = 0; t < T; ++t) b[t] =
        in_register(part ? load_part(xs[t] + i, part) : load(xs[t] + i));
    TIEDLORA_UNROLL for (unsigned k = 0; k < K; ++k) {
      Vector row = part && !padded ? load_part(a.data + k * a.row, part) : load(a.data + k * a.row);
      if constexpr (T > 1) row = in_register(row);
      TIEDLORA_UNROLL for (unsigned t = 0; t < T; ++t) acc[k][chain][t] =
          multiply_add(row, b[t], acc[k][chain][t]);
    }
    a.data += a.step;
  };
  Index i = 0;
  for (; i + chains * lanes <= n; i += chains * lanes)
    TIEDLORA_UNROLL for (unsigned c = 0; c < chains; ++c) multiply(c, i + c * lanes, 0);
  TIEDLORA_UNROLL for (unsigned c = 0; c < chains; ++c) {
    if (i + lanes <= n)
      multiply(c, i, 0), i += lanes;
    else if (i < n)
      multiply(c, i, n - i), i = n;
  }
  TIEDLORA_UNROLL for (unsigned t = 0; t < T; ++t) {
    float* to = out[t] + first;
    if constexpr (K % 4 == 0) {
      TIEDLORA_UNROLL for (unsigned k = 0; k < K; k += 4) {
        Vector4 result = sums(acc[k][0][t], acc[k + 1][0][t], acc[k + 2][0][t], acc[k + 3][0][t]);
        if (add) {
          Vector4 old;
          std::memcpy(&old, to + k, sizeof old);
          result += old;
        }
        std::memcpy(to + k, &result, sizeof result);
      }
    } else {
      TIEDLORA_UNROLL for (unsigned k = 0; k < K; ++k) {
        const float dot = sum_of_chains(acc[k], t);
        to[k] = add ? to[k] + dot : dot;
      }
    }
  }
}

}  // namespace TIEDLORA_ISA
}  // namespace kernels
}  // namespace v1
}  // namespace tiedlora
