// forward of at most eight tokens in one launch: shrink, a barrier across the grid, expand. For up to four
// modules that read one x by one A, as q, k and v do. Two launches less are most of what there is to save
// when a call takes some microseconds.
#pragma once

#include "expand_few.cuh"
#include "shrink_few.cuh"

namespace gpu_cuda {

namespace forward_few_shape {
static_assert(shrink_few_shape::threads == expand_few_shape::threads);
inline constexpr int threads = shrink_few_shape::threads, largest_rank = 256;
struct Shared {
  union {
    shrink_few_shape::Shared shrink;
    expand_few_shape::Shared expand;
  };
  float h[largest_rank][few_tokens];
};
}  // namespace forward_few_shape

/// Grid: as many blocks as run at once, at most one for each piece of work. h: kept for backward.
template <class P, class X, class Y>
__global__ void __launch_bounds__(forward_few_shape::threads)
    forward_few_kernel(Product<P> a, Products<P> modules, int module_count, Tokens<const X> x,
                       Tokens<float> h, Outputs<Y> y, const float* token_scales, Workspace workspace) {
  auto& shared = shared_memory<forward_few_shape::Shared>();
  const int groups = (a.rank + shrink_few_shape::ranks - 1) / shrink_few_shape::ranks;
  const int splits = max(1, (a.features + shrink_few_shape::features - 1) / shrink_few_shape::features);
  for (int n = static_cast<int>(blockIdx.x); n < groups * splits; n += static_cast<int>(gridDim.x)) {
    shrink_few_partial(a, x, n / splits * shrink_few_shape::ranks, n % splits,
                       workspace.sums + n * shrink_few_shape::sums, shared.shrink);
    __syncthreads();
  }
  grid_barrier();

  for (int n = static_cast<int>(threadIdx.x); n < a.rank * few_tokens; n += forward_few_shape::threads) {
    const int k = n / few_tokens, t = n % few_tokens;
    if (t >= a.count) continue;
    const float* const partial =
        workspace.sums + k / shrink_few_shape::ranks * splits * shrink_few_shape::sums;
    shared.h[k][t] = shrink_few_total(partial, splits, k % shrink_few_shape::ranks, t);
    if (blockIdx.x == 0) h[t][k] = shared.h[k][t];
  }
  __syncthreads();
  int n = static_cast<int>(blockIdx.x);
  for (int m = 0; m < module_count; ++m) {
    const Product<P>& p = modules[static_cast<unsigned>(m)];
    const int blocks = (p.features + expand_few_shape::features - 1) / expand_few_shape::features;
    for (; n < blocks; n += static_cast<int>(gridDim.x)) {
      expand_few_block(
          p, y.of[p.place], n * expand_few_shape::features, token_scales,
          static_cast<const P* const*>(nullptr),
          [&](int t, int k) { return shared.h[k][t] * scale_at(p.rank_scale, k); }, shared.expand);
      __syncthreads();
    }
    n -= blocks;
  }
}

}  // namespace gpu_cuda
