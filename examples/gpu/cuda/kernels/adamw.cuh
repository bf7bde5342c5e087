// The optimiser on the device: one launch looks at all gradients, one does the step.
//
// A flat array makes both simple: a number's place says its segment (A, B, v or u), of at most four. A step
// reads 16 bytes a number and writes 16: parameter, both moments, and the gradient, which becomes zero for
// the next step. Whether gradients are finite, and what they are clipped with, is decided on the device.
#pragma once

#include <tiedlora/adapter/optimizer.hpp>

#include "product.cuh"

namespace gpu_cuda {

namespace statistics_shape {
inline constexpr int threads = 256, blocks = 64;  // whatever the device is: the bits of a norm depend on it
struct Shared {
  double sums[threads / lanes];
  bool is_last;
};
/// What the device holds: the result, then what blocks have.
struct State {
  double square;  ///< of the norm; NaN or infinite: not all gradients are finite
  double partial[blocks];
  unsigned ticket;
};
}  // namespace statistics_shape

__device__ inline double warp_sum(double value) {
#pragma unroll
  for (int distance = lanes / 2; distance > 0; distance /= 2)
    value += __shfl_xor_sync(full_warp, value, distance);
  return value;
}

/// The sum over the grid, of statistics_shape::blocks blocks, to state->square.
__device__ inline void add_up(double sum, statistics_shape::State* state, statistics_shape::Shared& shared) {
  using namespace statistics_shape;
  sum = warp_sum(sum);
  if (threadIdx.x % lanes == 0) shared.sums[threadIdx.x / lanes] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    double of_block = 0;
    for (const double of_warp : shared.sums) of_block += of_warp;
    state->partial[blockIdx.x] = of_block;
  }
  if (!comes_last(&state->ticket, blocks, &shared.is_last) || threadIdx.x != 0) return;
  double total = 0;
  for (int b = 0; b < blocks; ++b) total += __ldcg(&state->partial[b]);
  state->square = total;
}

/// The square of the norm, in double, in which squares of floats cannot overflow: it is finite exactly where
/// all gradients are. Grid: statistics_shape::blocks.
[[maybe_unused]] static __global__ void __launch_bounds__(statistics_shape::threads)
    gradient_statistics_kernel(const float* gradients, Index count, statistics_shape::State* state) {
  using namespace statistics_shape;
  auto& shared = shared_memory<Shared>();
  double sum = 0;
#pragma unroll 4
  for (Index i = static_cast<Index>(blockIdx.x) * threads + threadIdx.x; i < count;
       i += static_cast<Index>(threads) * blocks) {
    const double g = gradients[i];
    sum += g * g;
  }
  add_up(sum, state, shared);
}

/// One step over all segments; gradients become zero. A step whose gradients are not finite leaves parameters
/// and moments as they are. max_norm 0: not clipped; else the norm is that after the step's gradient_scale,
/// which is one for all segments. statistics: null where neither is wanted.
[[maybe_unused]] static __global__ void adamw_kernel(const tiedlora::StepPlan<float>* plan, float* parameters,
                                                     float* gradients, float* first_moment,
                                                     float* second_moment, Index count, double max_norm,
                                                     const statistics_shape::State* statistics) {
  const Index i = static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= count) return;
  float clip = 1;
  if (statistics) {
    const double norm = sqrt(statistics->square);
    if (!isfinite(norm)) {
      gradients[i] = 0;
      return;
    }
    const double scaled = fabs(static_cast<double>(plan->segments[0].constants.gradient_scale)) * norm;
    if (max_norm > 0) clip = static_cast<float>(min(1.0, max_norm / (scaled + 1e-6)));
  }
  for (int n = 0; n < plan->size; ++n) {
    const auto& segment = plan->segments[n];
    if (i < segment.offset || i >= segment.offset + segment.count) continue;
    const tiedlora::AdamWConstants<float> c = segment.constants;
    const float g = c.gradient_scale * clip * gradients[i];
    const float m = c.beta1 * first_moment[i] + c.rest1 * g;
    const float v = c.beta2 * second_moment[i] + c.rest2 * g * g;
    parameters[i] = c.keep * parameters[i] - c.rate * m / (sqrtf(v) * c.root + c.epsilon);
    first_moment[i] = m, second_moment[i] = v;
  }
  gradients[i] = 0;
}

}  // namespace gpu_cuda
