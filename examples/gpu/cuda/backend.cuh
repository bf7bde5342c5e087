// The backend: tiedlora's four functions, and some for several modules, by kernels on a CUDA device.
//
// Few tokens (up to eight) go by vector kernels, more by tensor cores. A call is a launch or a few, without
// synchronisation; calls of one backend go in the order of its stream. Results are the same bits every time.
// Not done: slices, dropout.
#pragma once

#include <algorithm>  // max, min
#include <cstddef>    // size_t
#include <span>       // span

#include <tiedlora/ops.hpp>

#include "device.cuh"
#include "kernels/forward_few.cuh"
#include "kernels/sum.cuh"
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
          .count = static_cast<int>(tokens)};
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
                            .feature_scale = gradient.v},
                           dh, o.token_scale);
  }
  template <class P, class X, class Dx>
  void shrink_backward(const Factors<const P>& f, const Tokens<const X>& x, const Tokens<const float>& dh,
                       const Factors<float>& gradient, const Tokens<Dx>& dx, const CallOptions& o) const {
    if (gradient.A && f.rank > 0)
      launches_.outer_tokens(product_of_A(f, x.count), dh, x,
                             {.matrix = gradient.A, .stride = gradient.a_stride}, Tokens<float>(), nullptr);
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
        inputs.of[n] = h[m], outputs.of[n] = y[m];
        if (modules[m].rank > 0 || o.overwrite) features = std::max(features, products.some[n].features);
      }
      if (features > 0)
        launches_.expand_few(products, count, features, inputs, outputs, o.token_scale,
                             static_cast<const P* const*>(nullptr));
    });
  }

  /// Several modules with one x: those that share A and its gradient go through both once, with the sum of
  /// their dh, so that x is read and dx read and written once for all of them.
  template <class P, class X, class Dx>
  void shrink_backward(std::span<const Factors<const P>> modules, const Tokens<const X>& x,
                       std::span<const Tokens<const float>> dh, std::span<const Factors<float>> gradients,
                       const Tokens<Dx>& dx, const CallOptions& o) const {
    CallOptions options = o;
    const auto share = [&](std::size_t a, std::size_t b) {
      return modules[a].A == modules[b].A && modules[a].a_stride == modules[b].a_stride &&
             modules[a].rank == modules[b].rank && gradients[a].A == gradients[b].A;
    };
    for (std::size_t m = 0; m < modules.size(); ++m) {
      bool is_done = modules[m].rank == 0;
      for (std::size_t before = 0; before < m; ++before) is_done = is_done || share(before, m);
      if (is_done) continue;
      Tokens<const float> sum = dh[m];
      Inputs<float> terms = {.of = {sum}};
      int count = 1;
      for (std::size_t other = m + 1; other < modules.size(); ++other) {
        if (!share(m, other)) continue;
        if (count == most_modules) {
          sum = terms.of[0] = sum_of(terms, count, modules[m].rank);
          count = 1;
        }
        terms.of[count++] = dh[other];
      }
      if (count > 1) sum = sum_of(terms, count, modules[m].rank);
      shrink_backward(modules[m], x, sum, gradients[m], dx, options);
      options.overwrite = false;  // only the first sets dx
    }
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

  /// Good until the next sum: the stream keeps the order. (It may be its own first term.)
  Tokens<const float> sum_of(const Inputs<float>& terms, int count, Index rank) const {
    Tokens<float> to = {.width = rank, .count = terms.of[0].count, .stride = rank};
    to.data = sums_.get(rank * to.count, 0, stream()).sums;
    const Index blocks = (rank * to.count + sum_threads - 1) / sum_threads;
    launch({{static_cast<unsigned>(std::max<Index>(blocks, 1)), 1, 1}, sum_threads, 0, stream()}, sum_kernel,
           terms, count, to);
    return Tokens<const float>(to);
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
      outputs.of[m] = y[m];
      pieces_of_expand += parts_of(modules[m].out_features, expand_few_shape::features);
    }
    const int pieces_of_shrink = parts_of(a.rank, shrink_few_shape::ranks) *
                                 std::max(1, parts_of(a.features, shrink_few_shape::features));
    const int work = std::max(pieces_of_shrink, pieces_of_expand);
    const int at_once =
        blocks_at_once(forward_few_kernel<P, X, Y>, threads, sizeof(Shared));  // of this device
    const int grid = std::min(work, at_once);
    launch({{at_least_one(grid), 1, 1}, threads, sizeof(Shared), stream(), true}, forward_few_kernel<P, X, Y>,
           a, products, static_cast<int>(modules.size()), x, h, outputs, o.token_scale,
           launches_.workspace(static_cast<Index>(pieces_of_shrink) * shrink_few_shape::sums, 0));
  }

  Launches launches_;
  mutable Room sums_;  // of dh
};

}  // namespace gpu_cuda
