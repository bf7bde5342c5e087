// The optimiser on the device: one launch looks at all gradients, one does the step.
//
// A flat array makes both simple: a parameter's place says its segment (A, B, v or u), of at most four. A
// step
// reads 16 bytes a parameter and writes 16: parameter, both moments, and the gradient, which becomes zero for
// the next step. Whether gradients are finite, and what they are clipped with, is decided on the device.
#pragma once

#include <tiedlora/adapter/optimizer.hpp>

#include "product.cuh"

namespace gpu_cuda {

namespace statistics_shape {
inline constexpr int threads = 256, blocks = 512;  // whatever the device is: the bits of a norm depend on it
struct Shared {
  double sums[threads / lanes];
  bool is_last;
};
/// What the device holds: the results, then what blocks have.
struct State {
  double square;  ///< of the norm; NaN or infinite: not all gradients are finite
  float clip;     ///< what a step multiplies gradients by; NaN: not all are finite, there is no step
  unsigned ticket;
  double partial[blocks];
};
}  // namespace statistics_shape

__device__ inline double warp_sum(double value) {
#pragma unroll
  for (int distance = lanes / 2; distance > 0; distance /= 2)
    value += __shfl_xor_sync(full_warp, value, distance);
  return value;
}

/// The block's sum, in its first thread.
__device__ inline double block_sum(double value, statistics_shape::Shared& shared) {
  value = warp_sum(value);
  if (threadIdx.x % lanes == 0) shared.sums[threadIdx.x / lanes] = value;
  __syncthreads();
  double sum = 0;
  if (threadIdx.x == 0)
    for (const double of_warp : shared.sums) sum += of_warp;
  return sum;
}

/// The sum over the grid, of statistics_shape::blocks blocks, to state->square. True in the thread that wrote
/// it.
__device__ inline bool add_up(double sum, statistics_shape::State* state, statistics_shape::Shared& shared) {
  using namespace statistics_shape;
  const double of_block = block_sum(sum, shared);
  if (threadIdx.x == 0) state->partial[blockIdx.x] = of_block;
  if (!comes_last(&state->ticket, blocks, &shared.is_last)) return false;
  double of_thread = 0;
  for (int b = static_cast<int>(threadIdx.x); b < blocks; b += threads)
    of_thread += __ldcg(&state->partial[b]);
  const double total = block_sum(of_thread, shared);
  if (threadIdx.x == 0) state->square = total;
  return threadIdx.x == 0;
}

/// max_norm 0: not clipped; else the norm is that after the step's gradient_scale, which is one for all
/// segments.
__device__ inline float clip_of(const tiedlora::StepPlan<float>& plan, double square, double max_norm) {
  const double norm = sqrt(square);
  if (!isfinite(norm)) return __uint_as_float(0x7fffffffu);
  if (max_norm <= 0) return 1;
  const double scaled = fabs(static_cast<double>(plan.segments[0].constants.gradient_scale)) * norm;
  return static_cast<float>(min(1.0, max_norm / (scaled + 1e-6)));
}

/// The square of the norm, in double, in which squares of floats cannot overflow: it is finite exactly where
/// all gradients are; and what the step will clip with. Grid: statistics_shape::blocks.
[[maybe_unused]] static __global__ void __launch_bounds__(statistics_shape::threads)
    gradient_statistics_kernel(const float* gradients, Index count, const tiedlora::StepPlan<float>* plan,
                               double max_norm, statistics_shape::State* state) {
  using namespace statistics_shape;
  auto& shared = shared_memory<Shared>();
  double sum = 0;
#pragma unroll 4
  for (Index i = static_cast<Index>(blockIdx.x) * threads + threadIdx.x; i < count;
       i += static_cast<Index>(threads) * blocks) {
    const double g = gradients[i];
    sum += g * g;
  }
  if (add_up(sum, state, shared)) state->clip = clip_of(*plan, state->square, max_norm);
}

/// One step over all segments; gradients become zero. A step whose gradients are not finite leaves parameters
/// and moments as they are.
[[maybe_unused]] static __global__ void adamw_kernel(const tiedlora::StepPlan<float>* plan, float* parameters,
                                                     float* gradients, float* first_moment,
                                                     float* second_moment, Index count,
                                                     const statistics_shape::State* statistics) {
  const Index i = static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const float clip = statistics->clip;
  if (!isfinite(clip)) {
    gradients[i] = 0;
    return;
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
