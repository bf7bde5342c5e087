// The backend: tiedlora's four functions, and some for several modules, by kernels on a CUDA device.
//
// Few tokens (up to eight) go by vector kernels, more by tensor cores. A call is a launch or a few, without
// synchronisation; calls of one backend go in the order of its stream. Results are the same bits every time.
// Not done: slices, dropout, shrink_backward of several modules in one launch.
#pragma once

#include <algorithm>  // max, min
#include <cstddef>    // size_t
#include <span>       // span

#include <tiedlora/ops.hpp>

#include "device.cuh"
#include "kernels/forward_few.cuh"
#include "launches.cuh"
#include "memory.hpp"

namespace gpu_cuda {

using tiedlora::CallOptions, tiedlora::Factors, tiedlora::Tenants;

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
  explicit CudaBackend(Stream stream = {}) : launches_(stream) {}

  Heap memory() const { return {stream()}; }
  Stream stream() const { return launches_.stream(); }
  const Launches& launches() const { return launches_; }

  template <class P, class X>
  void shrink(const Factors<const P>& f, const Tokens<const X>& x, const Tokens<float>& h,
              const CallOptions&) const {
    launches_.shrink_tokens(product_of_A(f, x.count), x, h, nullptr);
  }
  template <class P, class Y>
  void expand(const Factors<const P>& f, const Tokens<const float>& h, const Tokens<Y>& y,
              const CallOptions& o) const {
    launches_.expand_tokens(product_of_B(f, y.count, o), h, y, o.token_scale);
  }
  /// For tenants, whose tokens have their own u and v: two products for all of them.
  template <class P, class Y>
  void expand(const Factors<const P>& f, const Tenants<P>& tenants, const Tokens<const float>& h,
              const Tokens<Y>& y, const CallOptions& o) const {
    Product<P> p = product_of_B(f, y.count, o);
    p.own_rank_scale = tenants.u, p.own_feature_scale = tenants.v;
    launches_.expand_tokens(p, h, y, o.token_scale, tenants.arrays);
  }
  template <class P, class Y>
  void expand_backward(const Factors<const P>& f, const Tokens<const float>& h, const Tokens<const Y>& dy,
                       const Factors<float>& gradient, const Tokens<float>& dh, const CallOptions& o) const {
    launches_.outer_tokens(product_of_B(f, dy.count, o), h, dy,
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
      launches_.outer_tokens(
          product_of_A(f, x.count), dh, x,
          {.matrix = gradient.A, .stride = gradient.a_stride, .wide = is_wide(gradient.A, gradient.a_stride)},
          Tokens<float>(), nullptr);
    if (dx.is_none()) return;
    Product<P> p = product_of_A(f, dx.count);
    p.overwrite = o.overwrite;
    launches_.expand_tokens(p, dh, dx, nullptr);
  }

  /// Several modules with one x: few tokens go in one launch for each four modules.
  template <class P, class X>
  void shrink(std::span<const Factors<const P>> modules, const Tokens<const X>& x,
              std::span<const Tokens<float>> h, const CallOptions& o) const {
    if (x.count > few_tokens || x.count == 0) {
      for (std::size_t m = 0; m < modules.size(); ++m)
        if (modules[m].rank > 0) shrink(modules[m], x, h[m], o);
      return;
    }
    for_fours(modules.size(), [&](std::size_t first, int count) {
      Products<P> products;
      Outputs<float> outputs;
      int rank = 0;
      for (int n = 0; n < count; ++n) {
        const Factors<const P>& f = modules[first + static_cast<std::size_t>(n)];
        products.some[n] = product_of_A(f, x.count);
        products.some[n].place = n;
        outputs.of[n] = h[first + static_cast<std::size_t>(n)];
        rank = std::max(rank, products.some[n].rank);
      }
      if (rank > 0)
        launches_.shrink_few(products, count, rank, static_cast<int>(x.width), x, outputs, nullptr);
    });
  }
  template <class P, class Y>
  void expand(std::span<const Factors<const P>> modules, std::span<const Tokens<const float>> h,
              std::span<const Tokens<Y>> y, const CallOptions& o) const {
    if (modules.empty()) return;
    if (y.front().count > few_tokens || y.front().count == 0) {
      for (std::size_t m = 0; m < modules.size(); ++m)
        if (modules[m].rank > 0 || o.overwrite) expand(modules[m], h[m], y[m], o);
      return;
    }
    for_fours(modules.size(), [&](std::size_t first, int count) {
      Products<P> products;
      Inputs<float> inputs;
      Outputs<Y> outputs;
      int features = 0;
      for (int n = 0; n < count; ++n) {
        const std::size_t m = first + static_cast<std::size_t>(n);
        products.some[n] = product_of_B(modules[m], y[m].count, o);
        products.some[n].place = n;
        inputs.of[n] = h[m], outputs.of[n] = y[m], outputs.wide[n] = is_wide(y[m]);
        if (modules[m].rank > 0 || o.overwrite) features = std::max(features, products.some[n].features);
      }
      if (features > 0)
        launches_.expand_few(products, count, features, inputs, outputs, o.token_scale,
                             static_cast<const P* const*>(nullptr));
    });
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

 private:
  template <class Body>
  static void for_fours(std::size_t count, const Body& body) {
    for (std::size_t first = 0; first < count; first += most_modules)
      body(first, static_cast<int>(std::min<std::size_t>(most_modules, count - first)));
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
    const int at_once =
        blocks_at_once(forward_few_kernel<P, X, Y>, threads, sizeof(Shared));  // of this device
    const int grid = std::min(work, at_once);
    launch({{at_least_one(grid), 1, 1}, threads, sizeof(Shared), stream(), true}, forward_few_kernel<P, X, Y>,
           a, products, static_cast<int>(modules.size()), x, is_wide(x), h, outputs, o.token_scale,
           launches_.workspace(static_cast<Index>(pieces_of_shrink) * shrink_few_shape::sums, 0));
  }

  Launches launches_;
};

}  // namespace gpu_cuda
