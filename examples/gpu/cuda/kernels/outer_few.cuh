// outer of at most eight tokens and, in the same pass over dy and B, dh: M and the gradients are gone through
// once, 8 bytes a number of dB in float and 2 of B in bfloat16, which is what the time goes into.
//
// A block has 256 features, eight a lane, and four ranks, one a warp: all its loads are in flight together,
// and at r = 16, out = 4096 there are 64 blocks. X, which each of the four groups of ranks reads, is T · 512
// bytes.
#pragma once

#include "gradient.cuh"

namespace gpu_cuda {

namespace outer_few_shape {
inline constexpr int warps = 4, threads = warps * lanes, features = lanes * 8, ranks = warps;
struct Shared {
  float dv[warps][features];
  bool is_last;
};
/// The workspace, in floats: for every tile of features (its T sums of dh and one of du, of each rank), then
/// for every group of ranks dv.
__host__ __device__ inline Index floats_per_tile(int rank) {
  return static_cast<Index>(rank) * (few_tokens + 1);
}
}  // namespace outer_few_shape

/// dh: none where it is not wanted. Without it and the scales' gradients M is not read.
template <class P, class X>
__global__ void __launch_bounds__(outer_few_shape::threads)
    outer_few_kernel(Product<P> p, Tokens<const float> h, Tokens<const X> x, Gradient gradient,
                     Tokens<float> dh, const float* token_scales, Workspace workspace) {
  using namespace outer_few_shape;
  auto& shared = shared_memory<Shared>();
  const int lane = threadIdx.x % lanes, warp = threadIdx.x / lanes;
  const int tile = static_cast<int>(blockIdx.x), tiles = static_cast<int>(gridDim.x);
  const int group = static_cast<int>(blockIdx.y), groups = static_cast<int>(gridDim.y);
  const int k = group * ranks + warp, i = tile * features + lane * 8, left = p.features - i;
  const bool wants_dh = !dh.is_none(), wants_du = gradient.rank_scale, wants_dv = gradient.feature_scale;
  float* const of_tile = workspace.sums + tile * floats_per_tile(p.rank);
  float* const of_dv = workspace.sums + tiles * floats_per_tile(p.rank);

  const bool has_rank = k < p.rank, needs_m = wants_dh || wants_du || wants_dv;
  const Eight<P> m = load(p.matrix + k * p.stride + i, has_rank && needs_m ? left : 0);
  Eight<X> x_raw[few_tokens];
  float c[few_tokens], s[8], dv[8] = {};
#pragma unroll
  for (int t = 0; t < few_tokens; ++t) {
    x_raw[t] = load(t < p.count ? x[t] + i : nullptr, t < p.count ? left : 0);
    c[t] = t < p.count ? token_scale(token_scales, p.scale, t) : 0;
  }
  load_scales(p, i, s);
  if (has_rank && gradient.any()) {
    float g[8] = {};
#pragma unroll
    for (int t = 0; t < few_tokens; ++t) {
      if (t >= p.count) break;
      const float ch = c[t] * h[t][k];
#pragma unroll
      for (int j = 0; j < 8; ++j) g[j] += ch * element(x_raw[t], j);
    }
    const float du = add_gradient(p, gradient, k, i, m, g, s, dv);
    if (wants_du) {
      const float sum = warp_sum(du);
      if (lane == 0) of_tile[k * (few_tokens + 1) + few_tokens] = sum;
    }
  }
  if (has_rank && wants_dh) {
#pragma unroll
    for (int t = 0; t < few_tokens; ++t) {
      if (t >= p.count) break;
      float d = 0;
#pragma unroll
      for (int j = 0; j < 8; ++j) d += element(m, j) * s[j] * element(x_raw[t], j);
      d = warp_sum(d);
      if (lane == 0) of_tile[k * (few_tokens + 1) + t] = d;
    }
  }

  // dv of the tile: over the warps, then over the groups of ranks.
  if (wants_dv) {
#pragma unroll
    for (int j = 0; j < 8; ++j) shared.dv[warp][lane * 8 + j] = dv[j];
    __syncthreads();
    for (int f = static_cast<int>(threadIdx.x); f < features && tile * features + f < p.features;
         f += threads) {
      float sum = 0;
      for (int w = 0; w < warps; ++w) sum += shared.dv[w][f];
      of_dv[static_cast<Index>(group) * p.features + tile * features + f] = sum;
    }
    if (comes_last(workspace.tickets + 1 + tile, gridDim.y, &shared.is_last))
      for (int f = static_cast<int>(threadIdx.x); f < features && tile * features + f < p.features;
           f += threads) {
        float sum = 0;
        for (int y = 0; y < groups; ++y)
          sum += __ldcg(of_dv + static_cast<Index>(y) * p.features + tile * features + f);
        gradient.feature_scale[tile * features + f] += sum;
      }
  }
  // dh and du: over the tiles.
  if (!wants_dh && !wants_du) return;
  if (!comes_last(workspace.tickets, gridDim.x * gridDim.y, &shared.is_last)) return;
  for (int n = static_cast<int>(threadIdx.x); n < p.rank * (few_tokens + 1); n += threads) {
    const int row = n / (few_tokens + 1), t = n % (few_tokens + 1);
    if (t == few_tokens ? !wants_du : !wants_dh || t >= p.count) continue;
    float sum = 0;
#pragma unroll 4
    for (int z = 0; z < tiles; ++z) sum += __ldcg(workspace.sums + z * floats_per_tile(p.rank) + n);
    if (t == few_tokens)
      gradient.rank_scale[row] += sum;
    else
      dh[t][row] = token_scale(token_scales, p.scale, t) * scale_at(p.rank_scale, row) * sum;
  }
}

}  // namespace gpu_cuda
