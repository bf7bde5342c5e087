// What the kernels compute. All of forward and backward is three products with r rows of values, the rows of
// A or the columns of B, which lie in memory alike:
//
//   shrink   H[t][k]  = c_t q_k Σ_i M[k][i] s_i X[t][i]     h of A; dh of B, with s = v and q = u
//   expand   Y[t][i] += c_t s_i Σ_k M[k][i] q_k H[t][k]     y of B, with s = v and q = u; dx of A
//   outer    G[k][i]  = Σ_t c_t H[t][k] X[t][i]             dA of dh and x; of h and dy it gives
//                         dB = u v ∘ G    dv = Σ_k B ∘ u G    du = Σ_i B ∘ v G
#pragma once

#include "numbers.cuh"

namespace gpu_cuda {

/// Vector kernels up to this many tokens: each reads the factor once. Above, tensor cores.
inline constexpr int few_tokens = 8;

/// M, its scales, and some tokens that go through it.
template <class P>
struct Product {
  const P* matrix = nullptr;
  Index stride = 0;
  const P* rank_scale = nullptr;     ///< q; null: ones
  const P* feature_scale = nullptr;  ///< s; null: ones
  float scale = 1;
  int rank = 0, features = 0;
  int begin = 0, count = 0;  ///< the tokens
  int place = 0;             ///< which of a launch's H and Y
  /// Of tenants over one M: where the scales begin in the array of a token's own; -1: they have none.
  Index own_rank_scale = -1, own_feature_scale = -1;
  bool overwrite = false;
};

/// Some tokens of a batch that go through one adapter's M, or one that adapters share: the same for all
/// modules of all layers.
template <class P>
struct Piece {
  const P* trained = nullptr;  ///< the adapter's arrays
  const P* frozen = nullptr;
  int begin = 0, count = 0;  ///< the tokens
  int layout = 0;            ///< which of the launch's products it is one of
  bool overwrite = false;
};
/// Where all adapters of a layout have the M and the scales of a module, in their arrays; -1: ones, or each
/// token's own.
struct Offsets {
  Index matrix = 0, rank_scale = -1, feature_scale = -1;
  bool is_trained = false;  ///< M; the scales are frozen
};

/// Several at a time, one for each blockIdx.x: modules that read one x, or the pieces of a batch.
inline constexpr int most_modules = 4;
template <class P>
struct Products {
  const Piece<P>* pieces = nullptr;  ///< on the device
  Product<P> some[most_modules] = {};
  Offsets offsets[most_modules] = {};  ///< of pieces

  __device__ Product<P> operator[](unsigned n) const {
    if (!pieces) return some[n];
    const Piece<P> piece = pieces[n];
    const Offsets at = offsets[piece.layout];
    Product<P> p = some[piece.layout];
    p.matrix = (at.is_trained ? piece.trained : piece.frozen) + at.matrix;
    if (at.rank_scale >= 0) p.rank_scale = piece.frozen + at.rank_scale;
    if (at.feature_scale >= 0) p.feature_scale = piece.frozen + at.feature_scale;
    p.begin = piece.begin, p.count = piece.count, p.overwrite = piece.overwrite;
    return p;
  }
};

/// H and Y of the modules of a launch.
template <class T>
struct Operands {
  Tokens<T> of[most_modules] = {};
};
template <class T>
using Outputs = Operands<T>;
template <class T>
using Inputs = Operands<const T>;

/// Where partial sums wait for each other. Whoever comes last adds them up, in a fixed order, so that results
/// are the same bits every time without another launch.
struct Workspace {
  float* sums = nullptr;
  unsigned* tickets = nullptr;  ///< zero between launches
};

/// Called by all threads of a block when its partial sums are written. True in the block that is the last of
/// `expected`, for all its threads; then all sums can be read (through L2: __ldcg).
__device__ inline bool comes_last(unsigned* ticket, unsigned expected, bool* shared_flag) {
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    *shared_flag = atomicAdd(ticket, 1u) + 1 == expected;
    if (*shared_flag) *ticket = 0;
  }
  __syncthreads();
  const bool last = *shared_flag;
  __threadfence();
  return last;
}

template <class P>
__device__ inline float scale_at(const P* scales, int i) {
  return scales ? static_cast<float>(scales[i]) : 1.0f;
}
/// s for eight features, zeros after the last.
template <class P>
__device__ inline void load_scales(const Product<P>& p, int i, float (&s)[8]) {
  const Eight<P> e = p.feature_scale ? load(p.feature_scale + i, p.features - i) : zeros<P>();
#pragma unroll
  for (int j = 0; j < 8; ++j) s[j] = p.feature_scale ? element(e, j) : 1.0f;
}
/// The scales of one token: its tenant's, or those of all. `arrays`: by token, what its tenant trained.
template <class P>
__device__ inline const P* rank_scales(const Product<P>& p, const P* const* arrays, int t) {
  return p.own_rank_scale >= 0 ? arrays[t] + p.own_rank_scale : p.rank_scale;
}
template <class P>
__device__ inline const P* feature_scales(const Product<P>& p, const P* const* arrays, int t) {
  return p.own_feature_scale >= 0 ? arrays[t] + p.own_feature_scale : p.feature_scale;
}
__device__ inline float token_scale(const float* scales, float c, int t) {
  return scales ? c * scales[t] : c;
}

}  // namespace gpu_cuda
