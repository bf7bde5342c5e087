// The three products as launches: which kernel, how many blocks, how much workspace.
//
// What grows with the batch (tokens, pieces) is a grid's x, which has room for 2³¹ - 1 blocks; y and z, with
// room for 65535, are features, ranks and shares.
#pragma once

#include <algorithm>  // clamp, max, min
#include <cstddef>    // size_t

#include "device.cuh"
#include "kernels/expand_few.cuh"
#include "kernels/expand_many.cuh"
#include "kernels/outer_few.cuh"
#include "kernels/outer_many.cuh"
#include "kernels/shrink_few.cuh"
#include "kernels/shrink_many.cuh"
#include "memory.hpp"

namespace gpu_cuda {

inline int parts_of(Index n, int of) { return static_cast<int>((n + of - 1) / of); }
inline unsigned at_least_one(int n) { return static_cast<unsigned>(std::max(n, 1)); }

/// Of one stream. Token numbers are those of a product's range.
class Launches {
 public:
  explicit Launches(Stream stream) : stream_(stream), limits_(device_limits()) {}
  Launches(const Launches&) = delete;
  Launches& operator=(const Launches&) = delete;

  template <class P, class X>
  void shrink_tokens(const Product<P>& p, const Tokens<const X>& x, const Tokens<float>& h,
                     const float* token_scales) const {
    if (p.count == 0 || p.rank == 0) return;
    if (p.count <= few_tokens) {
      Products<P> products;
      products.some[0] = p;
      return shrink_few(products, 1, p.rank, p.features, x, {.of = {h}}, token_scales);
    }
    using namespace shrink_many_shape;
    const int groups = parts_of(p.rank, ranks), tiles = parts_of(p.count, tokens);
    const int splits = std::clamp(parts_of(2 * limits_.multiprocessors, groups * tiles), 1,
                                  std::max(1, parts_of(p.features, warps * step_features)));
    const Workspace room = splits == 1 ? Workspace()
                                       : room_.get(static_cast<Index>(groups) * tiles * splits * sums,
                                                   static_cast<Index>(groups) * tiles, stream_);
    launch({{at_least_one(groups * tiles), at_least_one(splits), 1}, threads, sizeof(Shared), stream_},
           shrink_many_kernel<P, X>, p, x, h, token_scales, room);
  }

  template <class P, class X>
  void shrink_few(const Products<P>& products, int count, int largest_rank, int features,
                  const Tokens<const X>& x, const Outputs<float>& h, const float* token_scales) const {
    namespace shape = shrink_few_shape;
    const int groups = parts_of(largest_rank, shape::ranks),
              splits = std::max(1, parts_of(features, shape::features));
    const Index places = static_cast<Index>(groups) * count;
    launch({{at_least_one(count), at_least_one(groups), at_least_one(splits)},
            shape::threads,
            sizeof(shape::Shared),
            stream_},
           shrink_few_kernel<P, X>, products, x, h, token_scales,
           room_.get(places * splits * shape::sums, places, stream_));
  }

  template <class P, class Y>
  void expand_tokens(const Product<P>& p, const Tokens<const float>& h, const Tokens<Y>& y,
                     const float* token_scales, const P* const* arrays = nullptr) const {
    using namespace expand_many_shape;
    if (p.count == 0 || p.features == 0) return;
    const std::size_t each = bytes<P>(p.rank);
    const int warps =
        each == 0 ? most_warps : std::min<int>(most_warps, static_cast<int>(limits_.shared_bytes / each));
    if (p.count <= few_tokens || warps == 0) {  // no room for such ranks: eight tokens at a time
      for (int t = 0; t < p.count; t += few_tokens) {
        Products<P> products;
        products.some[0] = p;
        products.some[0].begin += t;
        products.some[0].count = std::min(few_tokens, p.count - t);
        expand_few(products, 1, p.features, {.of = {h}}, Outputs<Y>{.of = {y}}, token_scales, arrays);
      }
      return;
    }
    const int groups = parts_of(p.features, warps * features), tiles = parts_of(p.count, tokens);
    const int shares = std::clamp(parts_of(4 * limits_.multiprocessors, groups), 1, tiles);
    const int tokens_per_block = parts_of(tiles, shares) * tokens;
    launch({{at_least_one(groups), at_least_one(parts_of(p.count, tokens_per_block)), 1},
            static_cast<unsigned>(warps * lanes),
            static_cast<std::size_t>(warps) * each,
            stream_},
           expand_many_kernel<P, Y>, p, h, y, tokens_per_block, token_scales, arrays);
  }

  template <class P, class Y>
  void expand_few(const Products<P>& products, int count, int features, const Inputs<float>& h,
                  const Outputs<Y>& y, const float* token_scales, const P* const* arrays,
                  bool overwrites = true) const {
    namespace shape = expand_few_shape;
    launch({{at_least_one(count), at_least_one(parts_of(features, shape::features)), 1},
            shape::threads,
            sizeof(shape::Shared),
            stream_},
           expand_few_kernel<P, Y>, products, h, y, token_scales, arrays, overwrites);
  }

  template <class P, class X>
  void outer_tokens(const Product<P>& p, const Tokens<const float>& h, const Tokens<const X>& x,
                    const Gradient& gradient, const Tokens<float>& dh, const float* token_scales) const {
    if (p.count == 0 || p.rank == 0) return;
    if (!gradient.any() && dh.is_none()) return;
    if (p.count <= few_tokens) {
      using namespace outer_few_shape;
      const int tiles = std::max(1, parts_of(p.features, features)), groups = parts_of(p.rank, ranks);
      launch({{at_least_one(tiles), at_least_one(groups), 1}, threads, sizeof(Shared), stream_},
             outer_few_kernel<P, X>, p, h, x, gradient, dh, token_scales,
             room_.get(tiles * floats_per_tile(p.rank) + static_cast<Index>(groups) * p.features, 1 + tiles,
                       stream_));
      return;
    }
    using namespace outer_many_shape;
    const int tiles = std::max(1, parts_of(p.features, features)), groups = parts_of(p.rank, ranks);
    const int wanted =
        std::clamp(parts_of(2 * limits_.multiprocessors, tiles * groups), 1, parts_of(p.count, 4 * tokens));
    const int tokens_per_block = parts_of(parts_of(p.count, tokens), wanted) * tokens;
    const int shares = parts_of(p.count, tokens_per_block);
    const Sizes sizes(p.rank, p.features, p.count, shares);
    launch(
        {{at_least_one(tiles), at_least_one(groups), at_least_one(shares)}, threads, sizeof(Shared), stream_},
        outer_many_kernel<P, X>, p, h, x, gradient, dh, token_scales, tokens_per_block,
        room_.get(sizes.g + sizes.dh + sizes.du, 1 + tiles + static_cast<Index>(shares) * groups, stream_));
  }

  Workspace workspace(Index sums, Index tickets) const { return room_.get(sums, tickets, stream_); }
  Stream stream() const { return stream_; }

 private:
  Stream stream_;
  DeviceLimits limits_;
  mutable Room room_;
};

}  // namespace gpu_cuda
