// Many adapters in one batch of tokens: the halves of forward by a plan.
//
//   AdapterSet ── snapshot ──▶ BatchPlan, once per batch ──▶ shrink, expand for every module of every layer
//
// Every token gets the bits of a call for it alone with its adapter alone, however the batch is mixed and
// sliced. Calls allocate nothing, take no locks, start no threads and keep no state. A backend with memory of
// its own reads the plan's arrays there: PlanOnDevice uploads them once per batch.
#pragma once

#include <algorithm>    // max, min
#include <cstddef>      // size_t
#include <span>         // span
#include <type_traits>  // remove_pointer, type_identity
#include <utility>      // forward

#include "../adapter/factors_at.hpp"
#include "../backends/cpu.hpp"
#include "../ops/backend.hpp"
#include "../ops/checks.hpp"
#include "../views/config.hpp"
#include "../views/error.hpp"
#include "../views/factors.hpp"
#include "../views/options.hpp"
#include "../views/slice.hpp"
#include "../views/tenants.hpp"
#include "../views/tokens.hpp"
#include "adapter_set.hpp"
#include "batch_plan.hpp"

TIEDLORA_BEGIN_NAMESPACE

namespace detail {
/// The tokens of a view that stand at some rows of it. With rows or pointers of its own it takes a block at a
/// time.
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

/// Whether there are no tokens, and so nothing to do.
template <class P, class T>
bool has_no_tokens(const BatchPlan<P>& plan, const char* what, const Tokens<T>& tokens) {
  if (plan.tokens() == 0 && tokens.count > 0)
    fail(message("the plan is of no tokens, but ", what, " has ", tokens.count));
  return plan.tokens() == 0;
}

/// The host's module m, for checks and their messages. A snapshot that no set made knows no host: then no
/// token has an adapter, and y is taken to be as wide as it should.
template <class P>
Factors<const P> host_module(const BatchPlan<P>& plan, Index m, Index y_width) {
  if (!plan.snapshot().has_set()) return {.out_features = y_width, .module = static_cast<std::int32_t>(m)};
  plan.snapshot().require_module(m);
  const ModuleList& modules = plan.snapshot().modules();
  return {.rank = plan.rank(m),
          .in_features = modules[m].in_features,
          .out_features = modules[m].out_features,
          .module = static_cast<std::int32_t>(m),
          .name = modules[m].name.c_str()};
}

template <class P, class T>
void check_hidden(const BatchPlan<P>& plan, const Factors<const P>& module, const Tokens<T>& h) {
  if (h.width < module.rank || h.count < plan.size())
    fail_at(module, "h has room for ", h.width, " numbers of ", h.count, " tokens, but this batch needs ",
            module.rank, " of ", plan.size(), " (give it plan.max_rank() x plan.size())");
  check_tokens(module, "h", h, "its own width", h.width, "h", h.count);
}

/// The plan's arrays, there where this backend's kernels read them.
template <class B, class P>
PlanArrays<P> arrays_for(const BatchPlan<P>& plan) {
  if constexpr (has_device_memory<B>)
    return plan.device_arrays();
  else
    return {plan.rows(), plan.scales(), plan.trainables(), plan.idle().data()};
}

/// Throws Error where x or y has rows or pointers in a device's memory: those of the plan's tokens would have
/// to be looked up there.
template <class B, class P, class T>
void check_batch_view(const Factors<const P>& module, const char* what, const Tokens<T>& tokens) {
  if (has_device_memory<B> && (tokens.rows || tokens.pointers))
    fail_at(module, "on this backend ", what, " of a batch cannot be gathered by rows or pointers");
}

template <class B, class P>
void check_batch_options(const BatchPlan<P>& plan, const Factors<const P>& module, const CallOptions& o,
                         bool is_half) {
  if (has_device_memory<B> && !plan.is_on_device())
    fail_at(module,
            "the plan's arrays are in the host's memory, where this backend cannot read them; "
            "PlanOnDevice::upload(plan), once per batch, copies them");
  check_options(module, o, is_half);
  check_backend<B>(module, o);
  if (o.token_scale) fail_at(module, "a batch has its scales in its plan, not in token_scale");
  if (o.dropout.probability != 0) fail_at(module, "a batch of adapters has no dropout");
}

/// Throws Error where an operand of shrink is wrong. False where there is nothing to do.
template <class B, class P, class X>
bool check_shrink(const BatchPlan<P>& plan, Index m, const Tokens<X>& x, const Tokens<accumulator_t<P>>& h,
                  const CallOptions& o, bool is_half = true) {
  if (has_no_tokens(plan, "x", x)) return false;
  const Factors<const P> module = host_module(plan, m, 0);
  check_batch_options<B>(plan, module, o, is_half);
  if (module.rank == 0) return false;
  check_tokens(module, "x", x, "in_features", module.in_features, "the plan", plan.tokens());
  check_batch_view<B>(module, "x", x);
  check_hidden(plan, module, h);
  return true;
}

/// A module with some of its outputs only.
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

/// h = A·x for all tokens of the batch, at several of the host's modules that read the same x; those that
/// share A go through it once. x in×T; h[i], for modules[i], at least plan.rank(modules[i]) × plan.size() in
/// accumulator_t<P>: scratch between the halves, one column per use of an adapter in the plan's order.
/// Modules may share h where every adapter of the batch has one A for them. Options: slice. Throws Error if
/// the shapes disagree. `backend` as in ops/; the CPU's where it is left out.
template <class B, class P, class X>
void shrink(const B& backend, const BatchPlan<P>& plan, std::span<const Index> modules, const X& x,
            std::type_identity_t<std::span<const Tokens<accumulator_t<P>>>> h, const CallOptions& o = {}) {
  using namespace detail;
  const auto xs = input_tokens(x);
  if (h.size() != modules.size())
    fail("modules that read the same x: ", modules.size(), " modules, but ", h.size(), " of h");
  bool is_needed = false;
  for (std::size_t i = 0; i < modules.size(); ++i)
    is_needed |= check_shrink<B>(plan, modules[i], xs, h[i], o);
  if (!is_needed) return;
  constexpr std::size_t most = 4;  // modules that share a pass over x
  for (std::size_t first = 0; first < modules.size(); first += most) {
    const std::size_t n = std::min(most, modules.size() - first);
    shrink_together<most>(backend, plan, modules.subspan(first, n), xs, h.subspan(first, n), o.slice);
  }
}
template <class P, class X>
void shrink(const BatchPlan<P>& plan, std::span<const Index> modules, const X& x,
            std::type_identity_t<std::span<const Tokens<accumulator_t<P>>>> h, const CallOptions& o = {}) {
  shrink(CpuBackend(), plan, modules, x, h, o);
}

/// At one of the host's modules.
template <class B, class P, class X, class H>
void shrink(const B& backend, const BatchPlan<P>& plan, Index module, const X& x, H&& h,
            const CallOptions& o = {}) {
  using namespace detail;
  const auto xs = input_tokens(x);
  const Tokens<accumulator_t<P>> hs = output_tokens(std::forward<H>(h));
  if (check_shrink<B>(plan, module, xs, hs, o))
    shrink_together<1>(backend, plan, std::span(&module, 1), xs, std::span(&hs, 1), o.slice);
}
template <class P, class X, class H>
void shrink(const BatchPlan<P>& plan, Index module, const X& x, H&& h, const CallOptions& o = {}) {
  shrink(CpuBackend(), plan, module, x, std::forward<H>(h), o);
}

/// y += c ∘ v ∘ B·(u ∘ h) with each token's adapter, c = scaling · the token's scale · o.scale; with
/// overwrite y = …, and zero for tokens without adapter, which are left alone otherwise. h as shrink left it,
/// y out×T. Options: scale, overwrite, slice.
template <class B, class P, class H, class Y>
void expand(const B& backend, const BatchPlan<P>& plan, Index module, const H& h, Y&& y,
            const CallOptions& o = {}) {
  using namespace detail;
  const auto ys = output_tokens(std::forward<Y>(y));
  const Tokens<const accumulator_t<P>> hs = input_tokens(h);
  if (has_no_tokens(plan, "y", ys)) return;
  const Factors<const P> host = host_module(plan, module, ys.width);
  check_batch_options<B>(plan, host, o, true);
  if (host.rank == 0 && !o.overwrite) return;
  check_tokens(host, "y", ys, "out_features", host.out_features, "the plan", plan.tokens());
  check_batch_view<B>(host, "y", ys);
  if (host.rank > 0) check_hidden(plan, host, hs);
  expand_runs(backend, plan, host, hs, ys, o);
}
template <class P, class H, class Y>
void expand(const BatchPlan<P>& plan, Index module, const H& h, Y&& y, const CallOptions& o = {}) {
  expand(CpuBackend(), plan, module, h, std::forward<Y>(y), o);
}

/// Both halves, not to be sliced. Nothing is written where an operand is wrong.
template <class B, class P, class X, class Y, class H>
void forward(const B& backend, const BatchPlan<P>& plan, Index module, const X& x, Y&& y, H&& h,
             const CallOptions& o = {}) {
  using namespace detail;
  const auto xs = input_tokens(x);
  const auto ys = output_tokens(std::forward<Y>(y));
  const Tokens<accumulator_t<P>> hs = output_tokens(std::forward<H>(h));
  const bool shrinks = check_shrink<B>(plan, module, xs, hs, o, false);
  if (has_no_tokens(plan, "y", ys) || (!shrinks && !o.overwrite)) return;
  const Factors<const P> host = host_module(plan, module, ys.width);
  check_tokens(host, "y", ys, "out_features", host.out_features, "the plan", plan.tokens());
  check_batch_view<B>(host, "y", ys);
  if (shrinks) shrink_together<1>(backend, plan, std::span(&module, 1), xs, std::span(&hs, 1), o.slice);
  expand_runs<B, P>(backend, plan, host, hs, ys, o);
}
template <class P, class X, class Y, class H>
void forward(const BatchPlan<P>& plan, Index module, const X& x, Y&& y, H&& h, const CallOptions& o = {}) {
  forward(CpuBackend(), plan, module, x, std::forward<Y>(y), std::forward<H>(h), o);
}

TIEDLORA_END_NAMESPACE
