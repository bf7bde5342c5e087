// The loss of the training example: the mean of squared errors, and its derivative.
#pragma once

#include "adamw.cuh"

namespace gpu_cuda {

/// dy = 2 (y - target) / count; the sum of squares in state->square. Grid: statistics_shape::blocks.
[[maybe_unused]] static __global__ void __launch_bounds__(statistics_shape::threads)
    squared_error_kernel(const float* y, const float* target, float* dy, Index count,
                         statistics_shape::State* state) {
  using namespace statistics_shape;
  auto& shared = shared_memory<Shared>();
  const float factor = 2.0f / static_cast<float>(count);
  double sum = 0;
  for (Index i = static_cast<Index>(blockIdx.x) * threads + threadIdx.x; i < count;
       i += static_cast<Index>(threads) * blocks) {
    const float error = y[i] - target[i];
    dy[i] = error * factor;
    sum += static_cast<double>(error) * static_cast<double>(error);
  }
  add_up(sum, state, shared);
}

}  // namespace gpu_cuda
