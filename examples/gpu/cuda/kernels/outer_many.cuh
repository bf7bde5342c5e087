// outer of many tokens on the tensor cores and, in the same pass over dy, dh.
//
// A block has 256 features, 64 a warp, 32 ranks, and a share of the tokens, 16 at a time. In outer tokens are
// what is summed over: lane (g, q) takes the tokens 4q … 4q + 3 (they stand for the rows 2q, 2q+1, 2q+8,
// 2q+9) and their features 8g … 8g + 7, one load of 16 bytes each, and feature 8g + j is column g of tile j.
// So X need not be transposed: two values of neighbouring tokens make a word. For dh the same 16 × 64 values
// are read again as shrink needs them, from L1.
//
// G of a share goes to the workspace, 4 r / (2 tokens) of X's bytes in bfloat16: an eighth for 16 ranks and
// 256 tokens. dh's sums of a tile likewise, 4 r / (2 · 256) of X's.
#pragma once

#include "gradient.cuh"
#include "shrink_step.cuh"

namespace gpu_cuda {

namespace outer_many_shape {
inline constexpr int warps = 4, threads = warps * lanes, m_tiles = 2, n_tiles = 8;
inline constexpr int ranks = 16 * m_tiles, warp_features = 8 * n_tiles, features = warps * warp_features;
inline constexpr int tokens = 16;
struct Shared {
  float d[warps][m_tiles][2][4][lanes];
  bool is_last;
};
/// The workspace, in floats: G of every share of the tokens; dh of every tile of features; du of every warp.
struct Sizes {
  Index g, dh, du;
  __host__ __device__ Sizes(int rank, int features_all, int tokens_all, int shares)
      : g(static_cast<Index>(shares) * rank * features_all),
        dh(static_cast<Index>((features_all + features - 1) / features) * tokens_all * rank),
        du(static_cast<Index>((features_all + features - 1) / features) * warps * rank) {}
};
}  // namespace outer_many_shape

/// One number of each of two tokens, as words of bfloat16.
template <class X>
__device__ inline void pair_tokens(const Eight<X>& first, const Eight<X>& second, int j,
                                   std::uint32_t (&words)[piece_count<X>]) {
  if constexpr (std::is_same_v<X, __nv_bfloat16>) {
    const std::uint32_t a = first.words[j / 2], b = second.words[j / 2];
    words[0] = j % 2 ? (a >> 16 | (b & 0xffff0000u)) : ((a & 0xffffu) | b << 16);
  } else {
    split_pair(element(first, j), element(second, j), words);
  }
}

/// Grid: tiles of features, groups of ranks, shares of the tokens. dh: none where it is not wanted.
template <class P, class X>
__global__ void __launch_bounds__(outer_many_shape::threads, 2)
    outer_many_kernel(Product<P> p, Tokens<const float> h, Tokens<const X> x, Gradient gradient,
                      Tokens<float> dh, const float* token_scales, int tokens_per_block,
                      Workspace workspace) {
  using namespace outer_many_shape;
  auto& shared = shared_memory<Shared>();
  const int lane = threadIdx.x % lanes, warp = threadIdx.x / lanes, g = lane / 4, q = lane % 4;
  const int tile = static_cast<int>(blockIdx.x), tiles = static_cast<int>(gridDim.x);
  const int first_rank = static_cast<int>(blockIdx.y) * ranks, groups = static_cast<int>(gridDim.y);
  const int share = static_cast<int>(blockIdx.z), shares = static_cast<int>(gridDim.z);
  const int first = tile * features + warp * warp_features;
  const int begin = share * tokens_per_block, end = min(p.count, begin + tokens_per_block);
  const bool wants_dh = !dh.is_none(), wants_gradient = gradient.any();
  const Sizes sizes(p.rank, p.features, p.count, shares);
  float* const of_g = workspace.sums;
  float* const of_dh = of_g + sizes.g;
  float* const of_du = of_dh + sizes.dh;

  float sums[m_tiles][n_tiles][4] = {};
  for (int t0 = begin; t0 < end; t0 += tokens) {
    if (wants_gradient) {
      Eight<X> numbers[4];
      std::uint32_t a[m_tiles][3][4];
      float weights[4];
#pragma unroll
      for (int z = 0; z < 4; ++z) {
        const int t = t0 + 4 * q + z;
        numbers[z] = load(t < end ? x[t] + first + 8 * g : nullptr, t < end ? p.features - first - 8 * g : 0);
        weights[z] = t < end ? token_scale(token_scales, p.scale, t) : 0;
      }
#pragma unroll
      for (int m = 0; m < m_tiles; ++m)
#pragma unroll
        for (int w = 0; w < 4; ++w) {
          const int k = first_rank + 16 * m + g + 8 * (w % 2), z = 2 * (w / 2), t = t0 + 4 * q + z;
          std::uint32_t pair[3];
          split_pair(k < p.rank && t < end ? weights[z] * h[t][k] : 0.0f,
                     k < p.rank && t + 1 < end ? weights[z + 1] * h[t + 1][k] : 0.0f, pair);
          a[m][0][w] = pair[0], a[m][1][w] = pair[1], a[m][2][w] = pair[2];
        }
#pragma unroll
      for (int n = 0; n < n_tiles; ++n) {
        std::uint32_t upper[piece_count<X>], lower[piece_count<X>], b[piece_count<X>][2];
        pair_tokens(numbers[0], numbers[1], n, upper);
        pair_tokens(numbers[2], numbers[3], n, lower);
#pragma unroll
        for (int piece = 0; piece < piece_count<X>; ++piece)
          b[piece][0] = upper[piece], b[piece][1] = lower[piece];
#pragma unroll
        for (int m = 0; m < m_tiles; ++m)
          if (first_rank + 16 * m < p.rank) multiply(sums[m][n], a[m], b);
      }
    }
    if (!wants_dh) continue;
    float d[m_tiles][2][4] = {};
#pragma unroll
    for (int step = 0; step < warp_features / step_features; ++step) {
      const int i = first + step * step_features + 8 * q, left = p.features - i;
      float s[8];
      load_scales(p, i, s);
      Eight<X> numbers[2];
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        const int t = t0 + 8 * n + g;
        numbers[n] = load(t < end ? x[t] + i : nullptr, t < end ? left : 0);
      }
#pragma unroll
      for (int m = 0; m < m_tiles; ++m) {
        if (first_rank + 16 * m >= p.rank) continue;
        const int k = first_rank + 16 * m + g;
        const MatrixFragment<P> fragment(load(p.matrix + k * p.stride + i, k < p.rank ? left : 0),
                                         load(p.matrix + (k + 8) * p.stride + i, k + 8 < p.rank ? left : 0));
#pragma unroll
        for (int n = 0; n < 2; ++n) shrink_step(d[m][n], fragment, numbers[n], p.feature_scale, s);
      }
    }
#pragma unroll
    for (int m = 0; m < m_tiles; ++m)
#pragma unroll
      for (int n = 0; n < 2; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) shared.d[warp][m][n][e][lane] = d[m][n][e];
    __syncthreads();
    for (int z = static_cast<int>(threadIdx.x); z < m_tiles * 2 * 4 * lanes; z += threads) {
      const int from = z % lanes, e = z / lanes % 4, n = z / (lanes * 4) % 2, m = z / (lanes * 8);
      const int k = first_rank + 16 * m + from / 4 + (e >= 2 ? 8 : 0), t = t0 + 8 * n + from % 4 * 2 + e % 2;
      if (k >= p.rank || t >= end) continue;
      float sum = 0;
      for (int w = 0; w < warps; ++w) sum += shared.d[w][m][n][e][from];
      of_dh[(static_cast<Index>(tile) * p.count + t) * p.rank + k] = sum;
    }
    __syncthreads();
  }

  // dh of this share of the tokens and these ranks: over the tiles.
  unsigned* const tickets_dh = workspace.tickets + 1 + tiles;
  if (wants_dh && comes_last(tickets_dh + share * groups + blockIdx.y, gridDim.x, &shared.is_last))
    for (int z = static_cast<int>(threadIdx.x); z < (end - begin) * ranks; z += threads) {
      const int k = first_rank + z % ranks, t = begin + z / ranks;
      if (k >= p.rank) continue;
      float sum = 0;
#pragma unroll 4
      for (int n = 0; n < tiles; ++n)
        sum += __ldcg(of_dh + (static_cast<Index>(n) * p.count + t) * p.rank + k);
      dh[t][k] = token_scale(token_scales, p.scale, t) * scale_at(p.rank_scale, k) * sum;
    }
  if (!wants_gradient) return;

  // Column 2q + z of tile j is the feature 8 (2q + z) + j.
#pragma unroll
  for (int m = 0; m < m_tiles; ++m)
#pragma unroll
    for (int lower = 0; lower < 2; ++lower) {
      const int k = first_rank + 16 * m + 8 * lower + g;
      if (k >= p.rank) continue;
      float* const row = of_g + (static_cast<Index>(share) * p.rank + k) * p.features;
#pragma unroll
      for (int z = 0; z < 2; ++z)
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          const int i = first + 8 * (2 * q + z) + j;
          if (i < p.features) row[i] = sums[m][j][2 * lower + z];
        }
    }
  // The last of a tile has G of all tokens and ranks.
  if (!comes_last(workspace.tickets + 1 + tile, gridDim.y * gridDim.z, &shared.is_last)) return;
  // Two features a thread, and many loads in flight: these sums are few, but nothing else runs meanwhile.
  const int i0 = tile * features + static_cast<int>(threadIdx.x);
  const bool needs_m = gradient.rank_scale || gradient.feature_scale;
  float s[2], dv[2] = {};
#pragma unroll
  for (int z = 0; z < 2; ++z)
    s[z] = i0 + z * threads < p.features ? scale_at(p.feature_scale, i0 + z * threads) : 0.0f;
#pragma unroll 2
  for (int k = 0; k < p.rank; ++k) {
    const float q_k = scale_at(p.rank_scale, k);
    float of_k[2] = {}, du = 0;
#pragma unroll 8
    for (int n = 0; n < shares; ++n) {
      const float* const row = of_g + (static_cast<Index>(n) * p.rank + k) * p.features;
#pragma unroll
      for (int z = 0; z < 2; ++z)
        if (i0 + z * threads < p.features) of_k[z] += __ldcg(row + i0 + z * threads);
    }
#pragma unroll
    for (int z = 0; z < 2; ++z) {
      const int i = i0 + z * threads;
      if (i >= p.features) continue;
      if (gradient.matrix) gradient.matrix[k * gradient.stride + i] += q_k * s[z] * of_k[z];
      if (!needs_m) continue;
      const float mg = static_cast<float>(p.matrix[k * p.stride + i]) * of_k[z];
      dv[z] += q_k * mg;
      du += s[z] * mg;
    }
    if (!gradient.rank_scale) continue;
    du = warp_sum(du);
    if (lane == 0) of_du[(static_cast<Index>(tile) * warps + warp) * p.rank + k] = du;
  }
#pragma unroll
  for (int z = 0; z < 2; ++z)
    if (gradient.feature_scale && i0 + z * threads < p.features)
      gradient.feature_scale[i0 + z * threads] += dv[z];
  if (!gradient.rank_scale || !comes_last(workspace.tickets, gridDim.x, &shared.is_last)) return;
  for (int k = static_cast<int>(threadIdx.x); k < p.rank; k += threads) {
    float sum = 0;
    for (int n = 0; n < tiles * warps; ++n) sum += __ldcg(of_du + static_cast<Index>(n) * p.rank + k);
    gradient.rank_scale[k] += sum;
  }
}

}  // namespace gpu_cuda
