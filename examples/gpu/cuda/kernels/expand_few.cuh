// expand of at most eight tokens: M is read once, 16 bytes a thread and load.
//
// A block has 256 features, eight a lane. Its four warps share out the ranks, so that all of M's loads are in
// flight together, and add up through shared memory (32 KB).
#pragma once

#include "product.cuh"

namespace gpu_cuda {

namespace expand_few_shape {
inline constexpr int warps = 4, threads = warps * lanes, features = lanes * 8;
struct Shared {
  float4 sums[warps][few_tokens][2][lanes];  // neighbours of a warp side by side: no bank conflicts
};
}  // namespace expand_few_shape

/// The features of one block from `first` on; h(t, k) is q_k H[t][k]. The block's shared memory is free again
/// after the next barrier.
template <class P, class Y, class Hidden>
__device__ inline void expand_few_block(const Product<P>& p, const Tokens<Y>& y, int first,
                                        const float* token_scales, const P* const* arrays, const Hidden& h,
                                        expand_few_shape::Shared& shared) {
  using namespace expand_few_shape;
  const int lane = threadIdx.x % lanes, warp = threadIdx.x / lanes;
  const int i = first + lane * 8;
  float sums[few_tokens][8] = {};
#pragma unroll 4
  for (int k = warp; k < p.rank; k += warps) {
    const Eight<P> m = load(p.matrix + k * p.stride + i, p.features - i);
#pragma unroll
    for (int t = 0; t < few_tokens; ++t) {
      if (t >= p.count) break;
      const float hidden = h(t, k);
#pragma unroll
      for (int j = 0; j < 8; ++j) sums[t][j] += element(m, j) * hidden;
    }
  }
#pragma unroll
  for (int t = 0; t < few_tokens; ++t) {
    if (t >= p.count) break;
    shared.sums[warp][t][0][lane] = make_float4(sums[t][0], sums[t][1], sums[t][2], sums[t][3]);
    shared.sums[warp][t][1][lane] = make_float4(sums[t][4], sums[t][5], sums[t][6], sums[t][7]);
  }
  __syncthreads();
  // A warp writes every fourth token.
  for (int t = warp; t < p.count; t += warps) {
    const int token = p.begin + t, left = p.features - i;
    const P* const scales = feature_scales(p, arrays, token);
    const Eight<P> s = scales ? load(scales + i, left) : zeros<P>();
    const float c = token_scale(token_scales, p.scale, token);
    float values[8] = {};
#pragma unroll
    for (int w = 0; w < warps; ++w) {
      const float4 a = shared.sums[w][t][0][lane], b = shared.sums[w][t][1][lane];
      values[0] += a.x, values[1] += a.y, values[2] += a.z, values[3] += a.w;
      values[4] += b.x, values[5] += b.y, values[6] += b.z, values[7] += b.w;
    }
#pragma unroll
    for (int j = 0; j < 8; ++j) values[j] *= c * (scales ? element(s, j) : 1.0f);
    store(values, y[token] + i, left, p.overwrite);
  }
}

/// Grid: products, tiles of the features. For pieces, which serve calls of several kinds: whether they
/// overwrite at all.
template <class P, class Y>
__global__ void __launch_bounds__(expand_few_shape::threads)
    expand_few_kernel(Products<P> products, Inputs<float> h, Outputs<Y> y, const float* token_scales,
                      const P* const* arrays, bool overwrites) {
  using namespace expand_few_shape;
  Product<P> p = products[blockIdx.x];
  p.overwrite = p.overwrite && overwrites;
  if (p.rank == 0 && !p.overwrite) return;
  const int first = static_cast<int>(blockIdx.y) * features;
  if (first >= p.features) return;
  const Tokens<const float> hidden = h.of[p.place];
  const auto scaled = [&](int t, int k) {
    return hidden[p.begin + t][k] * scale_at(rank_scales(p, arrays, p.begin + t), k);
  };
  expand_few_block(p, y.of[p.place], first, token_scales, arrays, scaled, shared_memory<Shared>());
}

}  // namespace gpu_cuda
