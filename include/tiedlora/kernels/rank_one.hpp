// Backward of rank 1 is as slow as dy comes, and both the dots with B and the sum that is dB and dv want all
// of it: one pass for both.
#pragma once

#include "dot_tile.hpp"
#include "narrow.hpp"
#include "vector.hpp"

namespace tiedlora {
inline namespace v1 {
namespace kernels {
inline namespace TIEDLORA_ISA {

/// Tokens at a time: as many sums as a dot_tile has for them, and their coefficients, fill the registers.
inline constexpr unsigned rank_one_tokens = many_registers ? 4 : 2;

/// out[t][0] (+)= Σ_i row[i] x[t][i] and sums[i] += Σ_t c[t] x[t][i] for T tokens over n features. Bits as
/// those of dot_tile for one row, and of sum_tile for one output. Meanwhile it fetches
/// the features so far `ahead` of these tokens'; 0: it does not.
template <unsigned T, class X>
TIEDLORA_KERNEL void rank_one_tile(const float* row, const X* const* x, Index ahead, const float* c,
                                   float* sums, float* const* out, Index n, bool add) {
  constexpr unsigned chains = dot_chains;
  Vector dot[chains][T] = {};
  Vector coefficient[T];
  const X* xs[T];
  TIEDLORA_UNROLL for (unsigned t = 0; t < T; ++t) {
    xs[t] = x[t];
    coefficient[t] = broadcast(c[t]);
  }
  const auto step = [&](unsigned chain, const auto& io, Index i) __attribute__((always_inline)) {
    if (ahead) TIEDLORA_UNROLL for (unsigned t = 0; t < T; ++t) prefetch_from_afar(xs[t] + i + ahead);
    const Vector r = in_register(io.load(row + i));
    Vector sum = io.load(sums + i);
    TIEDLORA_UNROLL for (unsigned t = 0; t < T; ++t) {
      const Vector xi = in_register(io.load(xs[t] + i));
      dot[chain][t] = multiply_add(r, xi, dot[chain][t]);
      sum = multiply_add(xi, coefficient[t], sum);
    }
    io.store(sums + i, sum);
  };
  Index i = 0;
  for (; i + static_cast<Index>(chains * lanes) <= n; i += chains * lanes)
    TIEDLORA_UNROLL for (unsigned k = 0; k < chains; ++k) step(k, Access<true>(), i + k * lanes);
  TIEDLORA_UNROLL for (unsigned k = 0; k < chains; ++k) {
    if (i + static_cast<Index>(lanes) <= n)
      step(k, Access<true>(), i), i += lanes;
    else if (i < n)
      step(k, Access<false>{n - i}, i), i = n;
  }
  TIEDLORA_UNROLL for (unsigned t = 0; t < T; ++t) {
    Vector all = dot[0][t] + dot[1][t];
    all += dot[2][t] + dot[3][t];
    out[t][0] = add ? out[t][0] + sum(all) : sum(all);
  }
}

}  // namespace TIEDLORA_ISA
}  // namespace kernels
}  // namespace v1
}  // namespace tiedlora
