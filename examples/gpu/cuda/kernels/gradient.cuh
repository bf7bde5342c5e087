// What is done with G = Σ_t c_t H[t] X[t]ᵀ, once its sums over tokens are there.
#pragma once

#include "product.cuh"

namespace gpu_cuda {

/// Where gradients are added to; null: not wanted.
struct Gradient {
  float* matrix = nullptr;  ///< dA or dB
  Index stride = 0;
  float* rank_scale = nullptr;     ///< du
  float* feature_scale = nullptr;  ///< dv

  __host__ __device__ bool any() const { return matrix || rank_scale || feature_scale; }
};

/// Row k, eight features from i on, of which M has m: adds to dA or dB, to this thread's share of dv, and
/// returns its share of du_k.
template <class P>
__device__ inline float add_gradient(const Product<P>& p, const Gradient& gradient, int k, int i,
                                     const Eight<P>& m, const float (&g)[8], const float (&s)[8],
                                     float (&dv)[8]) {
  const int left = p.features - i;
  const float q = scale_at(p.rank_scale, k);
  if (gradient.matrix) {
    float values[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) values[j] = q * s[j] * g[j];
    store(values, gradient.matrix + k * gradient.stride + i, left, false);
  }
  float du = 0;
  if (gradient.rank_scale || gradient.feature_scale) {
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const float mg = element(m, j) * g[j];
      dv[j] += q * mg;
      du += s[j] * mg;
    }
  }
  return du;
}

}  // namespace gpu_cuda
