// The backend: tiedlora's four functions, and some for several modules, by kernels on a CUDA device.
//
// Few tokens (up to eight) go by vector kernels, more by tensor cores. Every call is one launch, without
// synchronisation; calls of one backend go in the order of its stream. Results are the same bits every time.
// Not done: slices, dropout.
#pragma once

#include <algorithm>  // clamp, max, min
#include <cstdint>    // uintptr_t
#include <span>       // span

#include <tiedlora/ops.hpp>

#include "device.cuh"
#include "kernels/expand_few.cuh"
#include "kernels/expand_many.cuh"
#include "kernels/forward_few.cuh"
#include "kernels/outer_few.cuh"
#include "kernels/outer_many.cuh"
#include "kernels/shrink_few.cuh"
#include "kernels/shrink_many.cuh"
#include "memory.hpp"

namespace gpu_cuda {

using tiedlora::CallOptions, tiedlora::Factors, tiedlora::Tenants;

inline int parts_of(Index n, int of) { return static_cast<int>((n + of - 1) / of); }
inline unsigned at_least_one(int n) { return static_cast<unsigned>(std::max(n, 1)); }

/// Whether rows can be loaded 16 bytes at a time. Of pointers the host knows nothing.
template <class T>
bool is_wide(const T* data, Index stride) {
  return reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && stride * static_cast<Index>(sizeof(T)) % 16 == 0;
}
template <class T>
bool is_wide(const Tokens<T>& tokens) {
  return !tokens.pointers && is_wide(tokens.data, tokens.stride);
}

/// A of shrink and of dx, with no scales.
template <class P>
Product<P> product_of_A(const Factors<const P>& f, Index tokens) {
  return {.matrix = f.A,
          .stride = f.a_stride,
          .rank = static_cast<int>(f.rank),
          .features = static_cast<int>(f.in_features),
          .count = static_cast<int>(tokens),
          .wide = is_wide(f.A, f.a_stride)};
}
/// B with its scales; of rank 0 without, since nothing times NaN is NaN.
template <class P>
Product<P> product_of_B(const Factors<const P>& f, Index tokens, const CallOptions& o) {
  return {.matrix = f.B,
          .stride = f.b_stride,
          .rank_scale = f.rank > 0 ? f.u : nullptr,
          .feature_scale = f.rank > 0 ? f.v : nullptr,
          .scale = f.scaling * static_cast<float>(o.scale),
          .rank = static_cast<int>(f.rank),
          .features = static_cast<int>(f.out_features),
          .count = static_cast<int>(tokens),
          .wide = is_wide(f.B, f.b_stride),
          .overwrite = o.overwrite};
}

class CudaBackend {
 public:
  explicit CudaBackend(Stream stream = {}) : stream_(stream), limits_(device_limits()) {}
  CudaBackend(const CudaBackend&) = delete;
  CudaBackend& operator=(const CudaBackend&) = delete;

  Heap memory() const { return {stream_}; }
  Stream stream() const { return stream_; }

  template <class P, class X>
  void shrink(const Factors<const P>& f, const Tokens<const X>& x, const Tokens<float>& h,
              const CallOptions&) const {
    shrink_tokens(product_of_A(f, x.count), x, h, nullptr);
  }
  template <class P, class Y>
  void expand(const Factors<const P>& f, const Tokens<const float>& h, const Tokens<Y>& y,
              const CallOptions& o) const {
    expand_tokens(product_of_B(f, y.count, o), h, y, o.token_scale);
  }
  /// For tenants, whose tokens have their own u and v: two products for all of them.
  template <class P, class Y>
  void expand(const Factors<const P>& f, const Tenants<P>& tenants, const Tokens<const float>& h,
              const Tokens<Y>& y, const CallOptions& o) const {
    Product<P> p = product_of_B(f, y.count, o);
    p.own_rank_scale = tenants.u, p.own_feature_scale = tenants.v;
    expand_tokens(p, h, y, o.token_scale, tenants.arrays);
  }
  template <class P, class Y>
  void expand_backward(const Factors<const P>& f, const Tokens<const float>& h, const Tokens<const Y>& dy,
                       const Factors<float>& gradient, const Tokens<float>& dh, const CallOptions& o) const {
    outer_tokens(product_of_B(f, dy.count, o), h, dy,
                 {.matrix = gradient.B,
                  .stride = gradient.b_stride,
                  .rank_scale = gradient.u,
                  .feature_scale = gradient.v,
                  .wide = is_wide(gradient.B, gradient.b_stride)},
                 dh, o.token_scale);
  }
  template <class P, class X, class Dx>
  void shrink_backward(const Factors<const P>& f, const Tokens<const X>& x, const Tokens<const float>& dh,
                       const Factors<float>& gradient, const Tokens<Dx>& dx, const CallOptions& o) const {
    if (gradient.A && f.rank > 0)
      outer_tokens(
          product_of_A(f, x.count), dh, x,
          {.matrix = gradient.A, .stride = gradient.a_stride, .wide = is_wide(gradient.A, gradient.a_stride)},
          Tokens<float>(), nullptr);
    if (dx.is_none()) return;
    Product<P> p = product_of_A(f, dx.count);
    p.overwrite = o.overwrite;
    expand_tokens(p, dh, dx, nullptr);
  }

  /// forward of modules with one A (same pointer, rank and x), in one launch where tokens are few: h is
  /// theirs in common.
  template <class P, class X, class Y>
  void forward(std::span<const Factors<const P>> modules, const Tokens<const X>& x,
               std::span<const Tokens<Y>> y, const Tokens<float>& h, const CallOptions& o) const {
    for (std::size_t first = 0; first < modules.size(); first += most_modules) {
      const std::size_t n = std::min<std::size_t>(most_modules, modules.size() - first);
      forward_some(modules.subspan(first, n), x, y.subspan(first, n), h, o, first == 0);
    }
  }
  template <class P, class X, class Y>
  void forward(const Factors<const P>& f, const Tokens<const X>& x, const Tokens<Y>& y,
               const Tokens<float>& h, const CallOptions& o) const {
    forward(std::span<const Factors<const P>>(&f, 1), x, std::span<const Tokens<Y>>(&y, 1), h, o);
  }

  // The products, for grouped batches too. Token numbers are those of a product's range.

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
    launch(
        {{at_least_one(groups), at_least_one(tiles), at_least_one(splits)}, threads, sizeof(Shared), stream_},
        shrink_many_kernel<P, X>, p, x, is_wide(x), h, token_scales, room);
  }

  template <class P, class X>
  void shrink_few(const Products<P>& products, int count, int largest_rank, int features,
                  const Tokens<const X>& x, const Outputs<float>& h, const float* token_scales) const {
    namespace shape = shrink_few_shape;
    const int groups = parts_of(largest_rank, shape::ranks),
              splits = std::max(1, parts_of(features, shape::features));
    const Index places = static_cast<Index>(groups) * count;
    launch({{at_least_one(splits), at_least_one(groups), at_least_one(count)},
            shape::threads,
            sizeof(shape::Shared),
            stream_},
           shrink_few_kernel<P, X>, products, x, is_wide(x), h, token_scales,
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
        expand_few(products, 1, p.features, {.of = {h}}, Outputs<Y>{.of = {y}, .wide = {is_wide(y)}},
                   token_scales, arrays);
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
           expand_many_kernel<P, Y>, p, h, y, is_wide(y), tokens_per_block, token_scales, arrays);
  }

  template <class P, class Y>
  void expand_few(const Products<P>& products, int count, int features, const Inputs<float>& h,
                  const Outputs<Y>& y, const float* token_scales, const P* const* arrays, float scale = 1,
                  bool overwrites = true) const {
    namespace shape = expand_few_shape;
    launch({{at_least_one(parts_of(features, shape::features)), 1, at_least_one(count)},
            shape::threads,
            sizeof(shape::Shared),
            stream_},
           expand_few_kernel<P, Y>, products, h, y, token_scales, arrays, scale, overwrites);
  }

 private:
  template <class P, class X>
  void outer_tokens(const Product<P>& p, const Tokens<const float>& h, const Tokens<const X>& x,
                    const Gradient& gradient, const Tokens<float>& dh, const float* token_scales) const {
    if (p.count == 0 || p.rank == 0) return;
    if (!gradient.any() && dh.is_none()) return;
    if (p.count <= few_tokens) {
      using namespace outer_few_shape;
      const int tiles = std::max(1, parts_of(p.features, features)), groups = parts_of(p.rank, ranks);
      launch({{at_least_one(tiles), at_least_one(groups), 1}, threads, sizeof(Shared), stream_},
             outer_few_kernel<P, X>, p, h, x, is_wide(x), gradient, dh, token_scales,
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
        outer_many_kernel<P, X>, p, h, x, is_wide(x), gradient, dh, token_scales, tokens_per_block,
        room_.get(sizes.g + sizes.dh + sizes.du, 1 + tiles + static_cast<Index>(shares) * groups, stream_));
  }

  template <class P, class X, class Y>
  void forward_some(std::span<const Factors<const P>> modules, const Tokens<const X>& x,
                    std::span<const Tokens<Y>> y, const Tokens<float>& h, const CallOptions& o,
                    bool needs_h) const {
    using namespace forward_few_shape;
    const Factors<const P>& first = modules.front();
    if (x.count == 0) return;
    if (!needs_h || x.count > few_tokens || first.rank > largest_rank || first.rank == 0) {
      if (needs_h) shrink(first, x, h, o);
      for (std::size_t m = 0; m < modules.size(); ++m) expand(modules[m], Tokens<const float>(h), y[m], o);
      return;
    }
    const Product<P> a = product_of_A(first, x.count);
    Products<P> products;
    Outputs<Y> outputs;
    int pieces_of_expand = 0;
    for (std::size_t m = 0; m < modules.size(); ++m) {
      products.some[m] = product_of_B(modules[m], x.count, o);
      products.some[m].place = static_cast<int>(m);
      outputs.of[m] = y[m], outputs.wide[m] = is_wide(y[m]);
      pieces_of_expand += parts_of(modules[m].out_features, expand_few_shape::features);
    }
    const int pieces_of_shrink = parts_of(a.rank, shrink_few_shape::ranks) *
                                 std::max(1, parts_of(a.features, shrink_few_shape::features));
    const int work = std::max(pieces_of_shrink, pieces_of_expand);
    const int grid = std::min(work, blocks_at_once(forward_few_kernel<P, X, Y>, threads, sizeof(Shared)));
    launch({{at_least_one(grid), 1, 1}, threads, sizeof(Shared), stream_, true}, forward_few_kernel<P, X, Y>,
           a, products, static_cast<int>(modules.size()), x, is_wide(x), h, outputs, o.token_scale,
           room_.get(static_cast<Index>(pieces_of_shrink) * shrink_few_shape::sums, 0, stream_));
  }

  Stream stream_;
  DeviceLimits limits_;
  mutable Room room_;
};

}  // namespace gpu_cuda
