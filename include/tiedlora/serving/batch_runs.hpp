// The stages of forward by a plan, run by run: operands have been checked (batch.hpp).
#pragma once

#include <algorithm>  // max, min
#include <cstddef>    // size_t
#include <span>       // span

#include "../adapter/factors_at.hpp"
#include "../ops/backend.hpp"
#include "../views/config.hpp"
#include "../views/factors.hpp"
#include "../views/options.hpp"
#include "../views/scalar.hpp"
#include "../views/slice.hpp"
#include "../views/tenants.hpp"
#include "../views/tokens.hpp"
#include "batch_plan.hpp"

TIEDLORA_BEGIN_NAMESPACE

namespace detail {

/// The tokens of a view at given rows. If the view itself has rows or pointers, it takes a block at a time.
template <class T>
class GatheredTokens {
 public:
  explicit GatheredTokens(const Tokens<T>& all) : all_(all), is_plain_(!all.rows && !all.pointers) {}

  Index most(Index count) const { return is_plain_ ? count : std::min(count, block); }

  /// Valid until the next call.
  Tokens<T> at(const Index* rows, Index count) {
    if (is_plain_)
      return {.data = all_.data, .width = all_.width, .count = count, .stride = all_.stride, .rows = rows};
    for (Index t = 0; t < count; ++t) pointers_[t] = all_[rows[t]];
    return {.width = all_.width, .count = count, .pointers = pointers_};
  }

 private:
  static constexpr Index block = 128;
  Tokens<T> all_;
  bool is_plain_;
  T* pointers_[block] = {};
};
template <class T>
GatheredTokens(const Tokens<T>&) -> GatheredTokens<T>;

/// The plan's arrays, where this backend's kernels can read them.
template <class B, class P>
PlanArrays<P> arrays_for(const BatchPlan<P>& plan) {
  if constexpr (has_device_memory<B>)
    return plan.device_arrays();
  else
    return {plan.rows(), plan.scales(), plan.trainables(), plan.idle().data()};
}

/// A module with only some of its outputs.
template <class P>
Factors<const P> cut_outputs(Factors<const P> f, const Range& features) {
  f.B += features.begin;
  if (f.v) f.v += features.begin;
  f.out_features = features.end - features.begin;
  return f;
}

inline Range common(const Range& a, Index begin, Index end) {
  return {std::max(a.begin, begin), std::min(a.end, end)};
}

/// The tokens at rows [begin, end) of these, a block at a time: body(begin, count, tokens).
template <class T, class Body>
void for_blocks(const Index* rows, const Range& range, GatheredTokens<T>& tokens, const Body& body) {
  for (Index i = range.begin; i < range.end;) {
    const Index count = tokens.most(range.end - i);
    body(i, count, tokens.at(rows + i, count));
    i += count;
  }
}

/// shrink of at most `most` modules that read the same x.
template <std::size_t most, class B, class P, class X>
void shrink_together(const B& backend, const BatchPlan<P>& plan, std::span<const Index> modules,
                     const Tokens<const X>& x, std::span<const Tokens<accumulator_t<P>>> h,
                     const Slice& slice) {
  using Acc = accumulator_t<P>;
  const Range all = {0, plan.size()}, own = part_of(plan.size(), slice);
  const Index* const rows = arrays_for<B>(plan).rows;
  GatheredTokens gathered(x);
  for (const auto& run : plan.shrink_runs()) {
    Factors<const P> factors[most];
    Tokens<Acc> hidden[most];
    std::size_t n = 0;
    Index rank = 0;
    for (std::size_t i = 0; i < modules.size(); ++i) {
      factors[n] = run.adapter->factors(modules[i]);
      if (factors[n].rank == 0) continue;
      rank = std::max(rank, factors[n].rank);
      hidden[n] = h[i].features(0, factors[n].rank);
      ++n;
    }
    if (n == 0) continue;
    // Few tokens are shared out by ranks, as for a single adapter.
    const bool by_tokens = plan.size() >= rank;
    const Range range = common(by_tokens ? own : all, run.begin, run.end);
    for_blocks(rows, range, gathered, [&](Index begin, Index count, const auto& tokens) {
      Tokens<Acc> hs[most];
      for (std::size_t i = 0; i < n; ++i) hs[i] = hidden[i].tokens(begin, count);
      const std::span<const Factors<const P>> all_factors(factors, n);
      const std::span<const Tokens<Acc>> all_hs(hs, n);
      const Tokens<const X> xs = tokens;
      const CallOptions o = {.slice = by_tokens ? Slice{} : slice};
      if constexpr (requires { backend.shrink(all_factors, xs, all_hs, o); }) {
        backend.shrink(all_factors, xs, all_hs, o);
      } else {
        for (std::size_t i = 0; i < n; ++i) backend.shrink(factors[i], xs, hs[i], o);
      }
    });
  }
}

/// expand for a block of a run of tenants, from place `begin` in the sorted order: one product with the B
/// that they share.
template <class B, class P, class Y>
void expand_tenants(const B& backend, const BatchPlan<P>& plan, const typename BatchPlan<P>::Run& run,
                    Index module, const Range& features, Index begin, const Tokens<const accumulator_t<P>>& h,
                    const Tokens<Y>& y, const CallOptions& o) {
  const Layout& layout = run.adapter->placement->layout;
  const Index own = (*run.adapter->placement)[module];
  const auto offset = [&](FactorId id) {
    const Layout::Group* group = layout.group(id, own);
    return group && layout.is_trained(id) ? group->offset : -1;
  };
  Tenants<P> tenants = {arrays_for<B>(plan).trainables + begin, offset(FactorId::u), offset(FactorId::v)};
  if (tenants.v >= 0) tenants.v += features.begin;
  const Factors<const P> common = cut_outputs(run.adapter->factors(module), features);
  if constexpr (requires { backend.expand(common, tenants, h, y, o); }) {
    backend.expand(common, tenants, h, y, o);
  } else {
    for (Index t = 0; t < y.count; ++t) {
      const Factors<const P> f =
          factors_at<P>(layout, own, plan.trainables()[begin + t], run.adapter->frozen);
      backend.expand(cut_outputs(f, features), h.tokens(t, 1), y.tokens(t, 1), from_token(o, t));
    }
  }
}

/// y = 0, for tokens that no adapter adds to.
template <class B, class P, class Y>
void set_to_zero(const B& backend, Factors<const P> host, const Tokens<Y>& y) {
  host.rank = 0;
  host.out_features = y.width;
  backend.expand(host, Tokens<const accumulator_t<P>>(), y, CallOptions{.overwrite = true});
}

/// expand, with its operands checked.
template <class B, class P, class Y>
void expand_runs(const B& backend, const BatchPlan<P>& plan, const Factors<const P>& host,
                 const Tokens<const accumulator_t<P>>& hs, const Tokens<Y>& ys, const CallOptions& o) {
  // Few tokens are shared out by features, as for a single adapter; and so are tokens that several adapters
  // add to, which all do it in the same thread.
  const bool by_tokens = plan.size() > most_tokens_by_features && !plan.revisits();
  const Range own = by_tokens ? part_of(plan.size(), o.slice) : Range{0, plan.size()};
  const Range features =
      by_tokens ? Range{0, host.out_features} : part_of_features(host.out_features, o.slice);
  const Index width = features.end - features.begin;
  const auto part = ys.features(features.begin, width);
  const PlanArrays<P> arrays = arrays_for<B>(plan);
  if (o.overwrite) {
    GatheredTokens whole(ys);
    for_blocks(arrays.idle, part_of(static_cast<Index>(plan.idle().size()), o.slice), whole,
               [&](Index, Index, const auto& out) { set_to_zero(backend, host, out); });
  }
  GatheredTokens gathered(part);
  if (width == 0) return;
  for (const auto& run : plan.expand_runs()) {
    const bool overwrite = o.overwrite && run.is_first;
    const Factors<const P> f = run.adapter->factors(host.module);
    const Range range = common(own, run.begin, run.end);
    if (f.rank == 0) {
      if (overwrite)
        for_blocks(arrays.rows, range, gathered,
                   [&](Index, Index, const auto& out) { set_to_zero(backend, host, out); });
      continue;
    }
    for_blocks(arrays.rows, range, gathered, [&](Index begin, Index count, const auto& out) {
      const CallOptions options = {
          .scale = o.scale, .token_scale = arrays.scales + begin, .overwrite = overwrite};
      const auto hidden = hs.tokens(begin, count).features(0, f.rank);
      if (run.has_tenants)
        expand_tenants(backend, plan, run, host.module, features, begin, hidden, out, options);
      else
        backend.expand(cut_outputs(f, features), hidden, out, options);
    });
  }
}

}  // namespace detail

TIEDLORA_END_NAMESPACE
