// expand of many tokens on the tensor cores: Y is read and written once, 16 bytes a lane in bfloat16.
//
// A warp has 32 features, for all tokens of its block, 32 at a time: rows of the instruction are tokens, its
// columns features, so that neighbours of Y are neighbours in a lane. Columns may go in any order: with four
// instructions side by side lane (g, q) holds the features 8q … 8q + 7 of the tokens g and g + 8. M's share
// of a warp, 32 features of all ranks, is split and laid out for the instruction once, in shared memory,
// every lane's own words (nobody else reads them: no barrier).
#pragma once

#include "pieces.cuh"
#include "product.cuh"

namespace gpu_cuda {

namespace expand_many_shape {
inline constexpr int most_warps = 4, n_tiles = 4, m_tiles = 2;
inline constexpr int features = 8 * n_tiles, tokens = 16 * m_tiles;  // of a warp
/// Shared memory of a warp, in bytes.
template <class P>
constexpr std::size_t bytes(int rank) {
  return static_cast<std::size_t>((rank + 15) / 16) * n_tiles * piece_count<P> * lanes * sizeof(uint2);
}
struct Shared {
  uint2 words[1];
};
}  // namespace expand_many_shape

/// Grid: groups of features (32 for each warp), shares of the tokens.
template <class P, class Y>
__global__ void __launch_bounds__(expand_many_shape::most_warps* lanes)
    expand_many_kernel(Product<P> p, Tokens<const float> h, Tokens<Y> y, int tokens_per_block,
                       const float* token_scales, const P* const* arrays) {
  using namespace expand_many_shape;
  constexpr int pieces = piece_count<P>;
  const int lane = threadIdx.x % lanes, warp = threadIdx.x / lanes, g = lane / 4, q = lane % 4;
  const int warps = static_cast<int>(blockDim.x) / lanes;
  const int first = (static_cast<int>(blockIdx.x) * warps + warp) * features;
  if (first >= p.features) return;
  const int steps = (p.rank + 15) / 16;
  uint2* const own = shared_memory<Shared>().words + warp * steps * n_tiles * pieces * lanes + lane;

  // M, as the operand b: its rows are ranks, column g of tile n the feature 8 (g / 2) + 2 n + g % 2.
  const auto number = [&](int k, int i) {
    return k < p.rank && i < p.features ? static_cast<float>(p.matrix[k * p.stride + i]) : 0.0f;
  };
  for (int step = 0; step < steps; ++step)
#pragma unroll
    for (int n = 0; n < n_tiles; ++n) {
      const int i = first + 8 * (g / 2) + 2 * n + g % 2, k = 16 * step + 2 * q;
      std::uint32_t upper[pieces], lower[pieces];
      split_pair(number(k, i), number(k + 1, i), upper);
      split_pair(number(k + 8, i), number(k + 9, i), lower);
#pragma unroll
      for (int piece = 0; piece < pieces; ++piece)
        own[((step * n_tiles + n) * pieces + piece) * lanes] = {upper[piece], lower[piece]};
    }

  const int i = first + 8 * q, left = p.features - i;
  const int end = min(p.count, (static_cast<int>(blockIdx.y) + 1) * tokens_per_block);
  for (int t0 = static_cast<int>(blockIdx.y) * tokens_per_block; t0 < end; t0 += tokens) {
    float d[m_tiles][n_tiles][4] = {};
    for (int step = 0; step < steps; ++step) {
      // q ∘ H, as the operand a: rows g and g + 8 of its tile.
      std::uint32_t a[m_tiles][3][4];
#pragma unroll
      for (int m = 0; m < m_tiles; ++m)
#pragma unroll
        for (int w = 0; w < 4; ++w) {
          const int t = t0 + 16 * m + g + 8 * (w % 2), k = 16 * step + 2 * q + 8 * (w / 2);
          float2 pair = {0, 0};
          if (t < end && k < p.rank) {
            const bool is_last = k + 1 == p.rank;
            const float* const row = h[p.begin + t] + k;
            pair = is_last ? float2{*row, 0} : load_pair(row);
            if (const P* const scales = rank_scales(p, arrays, p.begin + t)) {
              pair.x *= static_cast<float>(scales[k]);
              if (!is_last) pair.y *= static_cast<float>(scales[k + 1]);
            }
          }
          std::uint32_t split_up[3];
          split_pair(pair.x, pair.y, split_up);
          a[m][0][w] = split_up[0], a[m][1][w] = split_up[1], a[m][2][w] = split_up[2];
        }
#pragma unroll
      for (int n = 0; n < n_tiles; ++n) {
        std::uint32_t b[pieces][2];
#pragma unroll
        for (int piece = 0; piece < pieces; ++piece) {
          const uint2 words = own[((step * n_tiles + n) * pieces + piece) * lanes];
          b[piece][0] = words.x, b[piece][1] = words.y;
        }
#pragma unroll
        for (int m = 0; m < m_tiles; ++m) multiply(d[m][n], a[m], b);
      }
    }
#pragma unroll
    for (int m = 0; m < m_tiles; ++m)
#pragma unroll
      for (int lower = 0; lower < 2; ++lower) {
        const int t = t0 + 16 * m + 8 * lower + g;
        if (t >= end) continue;
        const P* const scales = feature_scales(p, arrays, p.begin + t);
        const Eight<P> s = scales ? load(scales + i, left) : zeros<P>();
        const float c = token_scale(token_scales, p.scale, p.begin + t);
        float values[8];
#pragma unroll
        for (int n = 0; n < n_tiles; ++n)
#pragma unroll
          for (int z = 0; z < 2; ++z)
            values[2 * n + z] = c * d[m][n][2 * lower + z] * (scales ? element(s, 2 * n + z) : 1.0f);
        store(values, y[p.begin + t] + i, left, p.overwrite);
      }
  }
}

}  // namespace gpu_cuda
