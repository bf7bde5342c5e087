// A linear layer: the product with the base weight, and the adapters that stand on rows of its output.
//   N tokens; r rank; y = W x + Σ over sites, on their rows, s · v∘B(u∘A x)
#pragma once

#include <array>  // array
#include <span>   // span

#include <tiedlora/adapter.hpp>           // Factors
#include <tiedlora/forward_backward.hpp>  // forward, expand_backward, shrink_backward

#include "product.hpp"
#include "thread_pool.hpp"

namespace transformer {

/// One adapted module: its output is the rows [first_row, first_row + factors.out_features).
template <class T>
struct AdapterSite {
  tiedlora::Factors<const T> factors = {};
  tiedlora::Factors<T> gradient = {};  ///< null pointers: not wanted
  Index first_row = 0;
  T* h = nullptr;         ///< r×N, kept for backward
  bool shares_h = false;  ///< its A, and so its h = A x, is that of the site before
};

template <class T>
struct Linear {
  const T* weight = nullptr;     ///< out×in, row-major
  T* weight_gradient = nullptr;  ///< likewise; null: the base is frozen
  Index in_features = 0, out_features = 0;
  std::array<AdapterSite<T>, 3> sites = {};  ///< q, k, v at most
  int site_count = 0;

  std::span<const AdapterSite<T>> adapters() const {
    return {sites.data(), static_cast<std::size_t>(site_count)};
  }
  /// Whether backward reads x.
  bool needs_x() const {
    for (const AdapterSite<T>& site : adapters())
      if (site.gradient.A) return true;
    return weight_gradient != nullptr;
  }
};

enum class Write { set, add };

/// For the tokens of `part`: y = W x (or y += W x), and what the adapters add.
template <class T>
void linear_forward(const Linear<T>& linear, const T* x,  // in×N
                    T* y,                                 // out×N
                    Range part, Write write = Write::set) {
  const auto x_part = columns(x + part.begin * linear.in_features, linear.in_features, part.size());
  const auto y_part = columns(y + part.begin * linear.out_features, linear.out_features, part.size());
  if (write == Write::set)
    product(linear.weight, x_part, y_part);
  else
    add_product(linear.weight, x_part, y_part);
  for (const AdapterSite<T>& site : linear.adapters()) {
    const auto& f = site.factors;
    const auto h = columns(site.h + part.begin * f.rank, f.rank, part.size());
    if (!site.shares_h) tiedlora::shrink(f, x_part, h);
    tiedlora::expand(f, h, y_part.features(site.first_row, f.out_features));
  }
}

/// Runs on the whole pool. First before(Range of tokens), which may finish x and dy, then dx = Wᵀ dy + the
/// adapters' part, left out if null; gradients of W and of the adapters accumulate.
template <class T, class Before>
void linear_backward(ThreadPool& pool, const Linear<T>& linear,
                     const T* x,   // in×N, unused unless needs_x()
                     const T* dy,  // out×N
                     T* dx,        // in×N, overwritten, or null
                     Index N,
                     T* dh,  // scratch, twice r×N of the largest r
                     const Before& before) {
  const Index in = linear.in_features, out = linear.out_features;
  const auto x_all = columns(x, in, N), dy_all = columns(dy, out, N);
  const auto dx_all = columns(dx, in, N);
  for_tokens(pool, N, [&](Range part) {
    before(part);
    if (dx) transposed_product(linear.weight, cut(dy_all, part), cut(dx_all, part));
  });
  if (linear.weight_gradient)
    pool.parallel([&](int ith, int nth) {
      const Range rows = slice(out, ith, nth);
      add_weight_gradient(dy_all.features(rows.begin, rows.size()), x_all,
                          linear.weight_gradient + rows.begin * in);
    });
  // Sites that share A go through it once, with the sum of their dh.
  const auto sites = linear.adapters();
  for (std::size_t i = 0; i < sites.size(); ++i) {
    const AdapterSite<T>& site = sites[i];
    const auto& f = site.factors;
    const auto h = columns<const T>(site.h, f.rank, N);
    const auto dy_rows = dy_all.features(site.first_row, f.out_features);
    const auto sum = columns(dh, f.rank, N), own = columns(dh + f.rank * N, f.rank, N);
    pool.parallel([&](int ith, int nth) {
      tiedlora::expand_backward(f, h, dy_rows, site.gradient, site.shares_h ? own : sum,
                                {.slice = {ith, nth}});
    });
    if (site.shares_h) matrix(sum) += matrix(own);
    const bool is_last = i + 1 == sites.size() || !sites[i + 1].shares_h;
    if (!is_last || (!site.gradient.A && !dx)) continue;
    pool.parallel([&](int ith, int nth) {
      if (dx)
        tiedlora::shrink_backward(f, x_all, sum, site.gradient, dx_all, {.slice = {ith, nth}});
      else
        tiedlora::shrink_backward(f, x_all, sum, site.gradient, tiedlora::none, {.slice = {ith, nth}});
    });
  }
}

}  // namespace transformer
