// dh of modules with one A: dx and dA are those of the sum.
#pragma once

#include "product.cuh"

namespace gpu_cuda {

inline constexpr int sum_threads = 256;

/// to[t][k] = Σ_n dh.of[n][t][k] of the first `count`, in order. `to` may be one of them.
[[maybe_unused]] static __global__ void __launch_bounds__(sum_threads)
    sum_kernel(Inputs<float> dh, int count, Tokens<float> to) {
  const Index n = static_cast<Index>(blockIdx.x) * sum_threads + threadIdx.x;
  const Index t = n / to.width, k = n % to.width;
  if (t >= to.count) return;
  float sum = dh.of[0][t][k];
  for (int m = 1; m < count; ++m) sum += dh.of[m][t][k];
  to[t][k] = sum;
}

}  // namespace gpu_cuda
