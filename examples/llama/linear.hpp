// A linear layer: the product with the base weight, and the adapters that stand on rows of its output.
//   N tokens; r rank; y = W x + Σ over sites, on their rows, s · v∘B(u∘A x)
#pragma once

#include <array>    // array
#include <cstddef>  // size_t
#include <span>     // span

#include <tiedlora/adapter.hpp>  // Factors
#include <tiedlora/ops.hpp>      // expand, expand_backward

#include "dropout.hpp"
#include "product.hpp"
#include "thread_pool.hpp"

namespace llama {

/// Where an adapted module stands: its output is the rows [first_row, first_row + out_features).
template <class T>
struct AdapterSite {
  Index first_row = 0;
  T* h = nullptr;                             ///< r×N, kept for backward; modules that share A share it
  T* dh = nullptr;                            ///< r×N, scratch
  tiedlora::BlockGradients<T> gradient = {};  ///< without that of A where a module before it has the same A
  bool trains_A = false;
  bool shares_A = false;  ///< with a module before it
};

template <class T>
struct Linear {
  static constexpr std::size_t most_sites = 3;  // q, k, v

  std::span<const Weight<T>> weights = {};  ///< that read the same x, the outputs of each below the others'
  std::span<const T* const> biases = {};    ///< one for each of them, null where it has none; or empty
  T* weight_gradient = nullptr;             ///< of all of them, out×in, row-major; null: the base is frozen
  Index in_features = 0, out_features = 0;
  std::array<tiedlora::Factors<const T>, most_sites> factors = {};
  std::array<AdapterSite<T>, most_sites> sites = {};
  std::size_t site_count = 0;
  tiedlora::Dropout dropout = {};  ///< of the adapters' input

  std::span<const tiedlora::Factors<const T>> modules() const { return {factors.data(), site_count}; }
  std::span<const AdapterSite<T>> adapters() const { return {sites.data(), site_count}; }
  /// The first of the modules here that has the A of module i.
  std::size_t first_sharer(std::size_t i) const {
    std::size_t first = 0;
    while (factors[first].A != factors[i].A) ++first;
    return first;
  }
  bool masks() const { return dropout.probability > 0; }
  /// For the tokens from `first` on.
  tiedlora::Dropout dropout_from(Index first) const {
    tiedlora::Dropout part = dropout;
    part.first_token = first;
    return part;
  }
  /// What the adapters read of x for some tokens: valid until the next one of this thread.
  Tokens<const T> adapter_input(const T* x, Range part) const {
    const auto all = columns<const T>(x + part.begin * in_features, in_features, part.size());
    if (!masks()) return all;
    const auto masked = dropout_buffer<T>(in_features, part.size());
    set_masked(all, dropout_from(part.begin), masked);
    return masked;
  }
  /// Whether backward reads x.
  bool needs_x() const {
    for (const AdapterSite<T>& site : adapters())
      if (site.trains_A) return true;
    return weight_gradient != nullptr;
  }
};

/// y = W x, on the whole pool; what the adapters add comes after it.
template <class T>
void base_forward(ThreadPool& pool, const Linear<T>& linear, const T* x,  // in×N
                  T* y, Index N) {                                        // out×N, overwritten
  product(pool, Part::base_forward, linear.weights, columns(x, linear.in_features, N),
          columns(y, linear.out_features, N));
}

/// y += b, for the tokens of `part`.
template <class T>
void add_biases(const Linear<T>& linear, T* y, Range part) {  // out×N
  Index first_row = 0;
  for (std::size_t i = 0; i < linear.biases.size(); ++i) {
    const Index rows = linear.weights[i].out;
    if (const T* bias = linear.biases[i])
      for (Index t = part.begin; t < part.end; ++t)
        ArrayMap<T>(y + t * linear.out_features + first_row, rows) += ArrayMap<const T>(bias, rows);
    first_row += rows;
  }
}

/// dx = Wᵀ dy, likewise.
template <class T>
void base_backward(ThreadPool& pool, const Linear<T>& linear, const T* dy,  // out×N
                   T* dx, Index N) {                                        // in×N, overwritten
  transposed_product(pool, Part::base_backward, linear.weights, columns(dy, linear.out_features, N),
                     columns(dx, linear.in_features, N));
}

/// For the tokens of `part`: what the adapters add to y; with y null h alone.
template <class T>
void adapters_forward(const Linear<T>& linear, const T* x,  // in×N
                      T* y,                                 // out×N or null
                      Range part) {
  if (linear.site_count == 0) return;
  const Timed timed(Part::adapter_forward);
  const auto x_part = linear.adapter_input(x, part);
  std::array<Tokens<T>, Linear<T>::most_sites> h;
  for (std::size_t i = 0; i < linear.site_count; ++i) {
    const Index r = linear.factors[i].rank;
    h[i] = columns(linear.sites[i].h + part.begin * r, r, part.size());
  }
  tiedlora::shrink(linear.modules(), x_part, std::span(h).first(linear.site_count));
  if (!y) return;
  const auto y_part = columns(y + part.begin * linear.out_features, linear.out_features, part.size());
  for (std::size_t i = 0; i < linear.site_count; ++i)
    tiedlora::expand(linear.factors[i], h[i],
                     y_part.features(linear.sites[i].first_row, linear.factors[i].out_features));
}

/// For the tokens of one block: what the adapters add to dx, if that is not null. Their gradients go to those
/// of the block.
template <class T>
void adapters_backward(const Linear<T>& linear, const T* x,  // in×N, unused unless needs_x()
                       const T* dy,                          // out×N
                       T* dx,                                // in×N, accumulates, or null
                       const Block& block) {
  if (linear.site_count == 0) return;
  const Timed timed(Part::adapter_backward);
  const Index n = block.size();
  const auto dy_part = columns(dy + block.begin * linear.out_features, linear.out_features, n);
  std::array<Tokens<const T>, Linear<T>::most_sites> dh;
  std::array<tiedlora::Factors<T>, Linear<T>::most_sites> gradients;
  for (std::size_t i = 0; i < linear.site_count; ++i) {
    const AdapterSite<T>& site = linear.sites[i];
    const auto& f = linear.factors[i];
    const auto dh_part = columns(site.dh + block.begin * f.rank, f.rank, n);
    // Frozen adapters have no blocks of gradients.
    if (site.gradient.blocks() > 0) gradients[i] = site.gradient.zeroed_block(block.index);
    tiedlora::expand_backward(f, columns<const T>(site.h + block.begin * f.rank, f.rank, n),
                              dy_part.features(site.first_row, f.out_features), gradients[i], dh_part);
    if (site.shares_A) gradients[i].A = gradients[linear.first_sharer(i)].A;
    dh[i] = dh_part;
  }
  const auto all_dh = std::span(dh).first(linear.site_count);
  const auto all_gradients = std::span(gradients).first(linear.site_count);
  const auto x_part = linear.needs_x()
                          ? linear.adapter_input(x, block)
                          : columns<const T>(x + block.begin * linear.in_features, linear.in_features, n);
  if (!dx) {
    tiedlora::shrink_backward(linear.modules(), x_part, all_dh, all_gradients, tiedlora::none);
    return;
  }
  const auto dx_part = columns(dx + block.begin * linear.in_features, linear.in_features, n);
  if (!linear.masks()) {
    tiedlora::shrink_backward(linear.modules(), x_part, all_dh, all_gradients, dx_part);
    return;
  }
  // x is in the buffer that dx could have: one after the other.
  tiedlora::shrink_backward(linear.modules(), x_part, all_dh, all_gradients, tiedlora::none);
  const std::array<tiedlora::Factors<T>, Linear<T>::most_sites> no_gradients = {};
  const auto masked = dropout_buffer<T>(linear.in_features, n);
  tiedlora::shrink_backward(linear.modules(), x_part, all_dh,
                            std::span(no_gradients).first(linear.site_count), masked, {.overwrite = true});
  add_masked(Tokens<const T>(masked), linear.dropout_from(block.begin), dx_part);
}

/// The gradient of W, if wanted, on the whole pool: dW += dy xᵀ.
template <class T>
void add_weight_gradient(ThreadPool& pool, const Linear<T>& linear, const T* x, const T* dy, Index N) {
  if (!linear.weight_gradient) return;
  add_weight_gradient(pool, columns(dy, linear.out_features, N), columns(x, linear.in_features, N),
                      linear.weight_gradient);
}

}  // namespace llama
