// Backward of a single token: nothing is reused, so every row of a factor and of its gradient is touched
// once, in one pass that does all that either is needed for.
#pragma once

#include "narrow.hpp"
#include "vector.hpp"

namespace tiedlora {
inline namespace v1 {
namespace kernels {
inline namespace TIEDLORA_ISA {

/// Rows of a factor (B or A), of its gradient, and the number that goes with each row.
template <class P>
struct OneTokenRows {
  const P* rows;
  Index stride;
  const float* c;
  float* gradient;
  Index gradient_stride;
};

/// For K rows over n features: dots[k] += row_k · e; z += Σ_k c_k row_k; gradient_k += c_k e. The order of a
/// sum does not depend on K.
template <unsigned K, bool has_dots, bool has_z, bool has_gradient, class P>
TIEDLORA_KERNEL void one_token_rows(const OneTokenRows<P>& in, const float* e, float* z, float* dots,
                                    Index n) {
  Vector dot[K] = {};
  const auto step = [&](const auto& get, [[maybe_unused]] const auto& put,
                        Index i) __attribute__((always_inline)) {
    const Vector ei = get(e + i);
    Vector zi = has_z ? get(z + i) : Vector{};
    Vector g[K];
    TIEDLORA_UNROLL for (unsigned k = 0; k < K; ++k) {
      if constexpr (has_dots || has_z) {
        const Vector row = get(in.rows + k * in.stride + i);
        if constexpr (has_dots) dot[k] += row * ei;
        if constexpr (has_z) zi += row * in.c[k];
      }
      if constexpr (has_gradient) g[k] = get(in.gradient + k * in.gradient_stride + i) + ei * in.c[k];
    }
    if constexpr (has_gradient) {
      TIEDLORA_UNROLL for (unsigned k = 0; k < K; ++k) put(in.gradient + k * in.gradient_stride + i, g[k]);
    }
    if constexpr (has_z) put(z + i, zi);
  };
  Index i = 0;
  for (; i + static_cast<Index>(lanes) <= n; i += lanes)
    step([](const auto* p) __attribute__((always_inline)) { return load(p); },
         [](float* p, Vector v) __attribute__((always_inline)) { store(p, v); }, i);
  if (i < n)
    step([&](const auto* p) __attribute__((always_inline)) { return load_part(p, n - i); },
         [&](float* p, Vector v) __attribute__((always_inline)) { store_part(p, v, n - i); }, i);
  if constexpr (has_dots) {
    TIEDLORA_UNROLL for (unsigned k = 0; k < K; ++k) dots[k] += sum(dot[k]);
  }
}

}  // namespace TIEDLORA_ISA
}  // namespace kernels
}  // namespace v1
}  // namespace tiedlora
