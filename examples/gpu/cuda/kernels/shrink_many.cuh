// shrink of many tokens on the tensor cores. X, which is most of the bytes, is read once for 32 ranks.
//
// A block has 32 tokens and 32 ranks: 2 × 4 tiles of 16 × 8 in every warp. Its eight warps share out the
// features, and so do gridDim.y blocks where there are few tokens; sums meet in shared memory (32 KB), then
// in the workspace. M is read again by every block, from L2: 1/32 of X's bytes for each rank.
#pragma once

#include "shrink_step.cuh"

namespace gpu_cuda {

namespace shrink_many_shape {
inline constexpr int warps = 8, threads = warps * lanes, m_tiles = 2, n_tiles = 4;
inline constexpr int ranks = 16 * m_tiles, tokens = 8 * n_tiles;
inline constexpr int sums = ranks * tokens;  // of a block
struct Shared {
  float sums[warps][m_tiles * n_tiles * 4][lanes];
  bool is_last;
};
}  // namespace shrink_many_shape

/// Grid: tiles of tokens, each with its groups of ranks side by side; splits of the features.
template <class P, class X>
__global__ void __launch_bounds__(shrink_many_shape::threads, 1)
    shrink_many_kernel(Product<P> p, Tokens<const X> x, Tokens<float> h, const float* token_scales,
                       Workspace workspace) {
  using namespace shrink_many_shape;
  auto& shared = shared_memory<Shared>();
  const int lane = threadIdx.x % lanes, warp = threadIdx.x / lanes, g = lane / 4, q = lane % 4;
  const int groups = (p.rank + ranks - 1) / ranks, place = static_cast<int>(blockIdx.x);
  const int first_rank = place % groups * ranks, first_token = place / groups * tokens;
  const int split = static_cast<int>(blockIdx.y), splits = static_cast<int>(gridDim.y);

  const X* rows[n_tiles];
#pragma unroll
  for (int n = 0; n < n_tiles; ++n) {
    const int t = first_token + 8 * n + g;
    rows[n] = t < p.count ? x[p.begin + t] : nullptr;
  }
  const bool is_scaled = p.feature_scale;
  float d[m_tiles][n_tiles][4] = {};
  const int step = step_features * warps * splits;
  for (int first = (split * warps + warp) * step_features; first < p.features; first += step) {
    const int i = first + 8 * q, left = p.features - i;
    Eight<P> m[m_tiles][2];
    Eight<X> numbers[n_tiles];
#pragma unroll
    for (int tile = 0; tile < m_tiles; ++tile)
#pragma unroll
      for (int lower = 0; lower < 2; ++lower) {
        const int k = first_rank + 16 * tile + 8 * lower + g;
        m[tile][lower] = load(p.matrix + k * p.stride + i, k < p.rank ? left : 0);
      }
#pragma unroll
    for (int n = 0; n < n_tiles; ++n) numbers[n] = load(rows[n] + i, rows[n] ? left : 0);
    float s[8];
    load_scales(p, i, s);
#pragma unroll
    for (int tile = 0; tile < m_tiles; ++tile) {
      if (first_rank + 16 * tile >= p.rank) continue;
      const MatrixFragment<P> fragment(m[tile][0], m[tile][1]);
#pragma unroll
      for (int n = 0; n < n_tiles; ++n)
        if (first_token + 8 * n < p.count) shrink_step(d[tile][n], fragment, numbers[n], is_scaled, s);
    }
  }

  // Over the warps; neighbouring lanes side by side, so that there are no bank conflicts.
#pragma unroll
  for (int tile = 0; tile < m_tiles; ++tile)
#pragma unroll
    for (int n = 0; n < n_tiles; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) shared.sums[warp][(tile * n_tiles + n) * 4 + e][lane] = d[tile][n][e];
  __syncthreads();
  float* const partial = workspace.sums + static_cast<Index>(place) * splits * sums;
  const auto write = [&](int n, float sum) {
    const int from = n % lanes, e = n / lanes % 4, n_tile = n / (lanes * 4) % n_tiles,
              tile = n / (lanes * 4 * n_tiles);
    const int k = first_rank + 16 * tile + from / 4 + (e >= 2 ? 8 : 0);
    const int t = first_token + 8 * n_tile + from % 4 * 2 + e % 2;
    if (k < p.rank && t < p.count)
      h[p.begin + t][k] = token_scale(token_scales, p.scale, p.begin + t) * scale_at(p.rank_scale, k) * sum;
  };
  for (int n = static_cast<int>(threadIdx.x); n < sums; n += threads) {
    float sum = 0;
    for (int w = 0; w < warps; ++w) sum += shared.sums[w][n / lanes][n % lanes];
    if (splits == 1)
      write(n, sum);
    else
      partial[split * sums + n] = sum;
  }
  if (splits == 1 || !comes_last(workspace.tickets + place, gridDim.y, &shared.is_last)) return;
  for (int n = static_cast<int>(threadIdx.x); n < sums; n += threads) {
    float sum = 0;
    for (int z = 0; z < splits; ++z) sum += __ldcg(partial + z * sums + n);
    write(n, sum);
  }
}

}  // namespace gpu_cuda
