// A single token: nothing is reused, so what matters is how the rows of a factor come from wherever they are.
#pragma once

#include "simd.hpp"
#include "simd_16_bits.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace cpu {
inline namespace TIEDLORA_ISA {

/// sums += Σ_k c[k] row_k for K rows of n features, one product after the other.
template <unsigned K, class P>
TIEDLORA_KERNEL void add_rows(const P* const* rows, const float* c, float* sums, Index n) {
  const P* row[K];
  Vector coefficient[K];
  TIEDLORA_UNROLL for (unsigned k = 0; k < K; ++k) {
    row[k] = rows[k];
    coefficient[k] = in_register(broadcast(c[k]));
  }
  in_vectors(n, [&](const auto& io, Index i) __attribute__((always_inline)) {
    Vector sum = io.load(sums + i);
    TIEDLORA_UNROLL for (unsigned k = 0; k < K; ++k) sum =
        multiply_add(io.load(row[k] + i), coefficient[k], sum);
    io.store(sums + i, sum);
  });
}

}  // namespace TIEDLORA_ISA
}  // namespace cpu
TIEDLORA_END_NAMESPACE
