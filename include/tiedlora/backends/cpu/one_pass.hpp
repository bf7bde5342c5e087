// Backward of few ranks is as slow as dy comes, and both the dots with B and the sums that are dB and dv want
// all of it: one pass for both.
#pragma once

#include "dot_tile.hpp"
#include "simd.hpp"
#include "simd_16_bits.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace cpu {
inline namespace TIEDLORA_ISA {

/// Ranks that are taken so, and tokens at a time: their dots and coefficients fill the registers.
inline constexpr unsigned one_pass_ranks = many_registers ? 2 : 1;
inline constexpr unsigned one_pass_tokens = many_registers ? 4 : 2;

/// For R rows and T tokens over n features: out[t][r] (+)= Σ_i row_r[i] x[t][i], and sums_r[i] += Σ_t c[t][r]
/// x[t][i]. Bits as those of dot_tile for R rows, and of sum_tile. Row r is r · stride numbers after the
/// first, for sums as well. Meanwhile the features so far `ahead` of these tokens' are fetched; 0: they are
/// not.
template <unsigned R, unsigned T, class X>
TIEDLORA_KERNEL void one_pass_tile(const float* rows, const X* const* x, Index ahead, const float* c,
                                   float* sums, Index stride, float* const* out, Index n, bool add) {
  constexpr unsigned chains = dot_chains / R;
  Vector dot[R][chains][T] = {};
  Vector coefficient[R][T];
  const X* xs[T];
  TIEDLORA_UNROLL for (unsigned t = 0; t < T; ++t) {
    xs[t] = x[t];
    TIEDLORA_UNROLL for (unsigned r = 0; r < R; ++r) coefficient[r][t] = in_register(broadcast(c[t * R + r]));
  }
  in_chains<chains>(n, [&](unsigned chain, const auto& io, Index i) __attribute__((always_inline)) {
    if (ahead) TIEDLORA_UNROLL for (unsigned t = 0; t < T; ++t) prefetch_from_afar(xs[t] + i + ahead);
    Vector row[R], sum[R];
    TIEDLORA_UNROLL for (unsigned r = 0; r < R; ++r) {
      row[r] = in_register(io.load(rows + r * stride + i));
      sum[r] = io.load(sums + r * stride + i);
    }
    TIEDLORA_UNROLL for (unsigned t = 0; t < T; ++t) {
      const Vector xi = in_register(io.load(xs[t] + i));
      TIEDLORA_UNROLL for (unsigned r = 0; r < R; ++r) {
        dot[r][chain][t] = multiply_add(row[r], xi, dot[r][chain][t]);
        sum[r] = multiply_add(xi, coefficient[r][t], sum[r]);
      }
    }
    TIEDLORA_UNROLL for (unsigned r = 0; r < R; ++r) io.store(sums + r * stride + i, sum[r]);
  });
  TIEDLORA_UNROLL for (unsigned t = 0; t < T; ++t) finish_dots(dot, t, out[t], add);
}

}  // namespace TIEDLORA_ISA
}  // namespace cpu
TIEDLORA_END_NAMESPACE
