// shrink of at most eight tokens: M is read once, 16 bytes a thread and load, four loads in flight.
//
// A block has four ranks and 1024 features, eight a thread; sums of the blocks of a row meet in the workspace
// (4 × 8 floats each, against 8 KB of M in bfloat16). At r = 16, in = 4096 that is 16 blocks with one round
// of loads: what takes the time is one trip to memory, not its width.
#pragma once

#include "product.cuh"

namespace gpu_cuda {

namespace shrink_few_shape {
inline constexpr int ranks = 4, warps = 4, threads = warps * lanes, features = threads * 8;
inline constexpr int sums = ranks * few_tokens;  // of a block
struct Shared {
  float sums[warps][ranks][few_tokens];
  bool is_last;
};
}  // namespace shrink_few_shape

/// This block's sums over its features: to[k][t].
template <class P, class X>
__device__ inline void shrink_few_partial(const Product<P>& p, const Tokens<const X>& x, int first_rank,
                                          int split, float* to, shrink_few_shape::Shared& shared) {
  using namespace shrink_few_shape;
  const int lane = threadIdx.x % lanes, warp = threadIdx.x / lanes;
  const int i = split * features + static_cast<int>(threadIdx.x) * 8, left = p.features - i;
  float sums[ranks][few_tokens] = {};
  Eight<P> m[ranks];
#pragma unroll
  for (int k = 0; k < ranks; ++k)
    m[k] = load(p.matrix + (first_rank + k) * p.stride + i, first_rank + k < p.rank ? left : 0);
  const Eight<P> s = p.feature_scale ? load(p.feature_scale + i, left) : zeros<P>();
#pragma unroll
  for (int t = 0; t < few_tokens; ++t) {
    if (t >= p.count) break;
    const Eight<X> numbers = load(x[p.begin + t] + i, left);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const float number = element(numbers, j) * (p.feature_scale ? element(s, j) : 1.0f);
#pragma unroll
      for (int k = 0; k < ranks; ++k) sums[k][t] += element(m[k], j) * number;
    }
  }
#pragma unroll
  for (int t = 0; t < few_tokens; ++t) {
    if (t >= p.count) break;
#pragma unroll
    for (int k = 0; k < ranks; ++k) {
      const float sum = warp_sum(sums[k][t]);
      if (lane == 0) shared.sums[warp][k][t] = sum;
    }
  }
  __syncthreads();
  const int k = threadIdx.x / few_tokens, t = threadIdx.x % few_tokens;
  if (k < ranks && t < p.count) {
    float sum = 0;
    for (int w = 0; w < warps; ++w) sum += shared.sums[w][k][t];
    to[k * few_tokens + t] = sum;
  }
}

/// Rank k of token t, from the sums of all splits.
__device__ inline float shrink_few_total(const float* partial, int splits, int k, int t) {
  float sum = 0;
#pragma unroll 4
  for (int s = 0; s < splits; ++s) sum += __ldcg(partial + s * shrink_few_shape::sums + k * few_tokens + t);
  return sum;
}

/// Grid: products, groups of ranks, splits of the features.
template <class P, class X>
__global__ void __launch_bounds__(shrink_few_shape::threads, 4)
    shrink_few_kernel(Products<P> products, Tokens<const X> x, Outputs<float> h, const float* token_scales,
                      Workspace workspace) {
  using namespace shrink_few_shape;
  auto& shared = shared_memory<Shared>();
  const Product<P> p = products[blockIdx.x];
  const int first_rank = static_cast<int>(blockIdx.y) * ranks, splits = static_cast<int>(gridDim.z);
  if (first_rank >= p.rank) return;
  const Index group = static_cast<Index>(blockIdx.x) * gridDim.y + blockIdx.y;
  float* const partial = workspace.sums + group * splits * sums;
  shrink_few_partial(p, x, first_rank, static_cast<int>(blockIdx.z), partial + blockIdx.z * sums, shared);
  if (!comes_last(workspace.tickets + group, gridDim.z, &shared.is_last)) return;
  const int k = threadIdx.x / few_tokens, t = threadIdx.x % few_tokens;
  if (k >= ranks || t >= p.count || first_rank + k >= p.rank) return;
  h.of[p.place][p.begin + t][first_rank + k] = token_scale(token_scales, p.scale, p.begin + t) *
                                               scale_at(p.rank_scale, first_rank + k) *
                                               shrink_few_total(partial, splits, k, t);
}

}  // namespace gpu_cuda
