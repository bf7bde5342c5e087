// Many adapters in one batch of tokens: the stages of forward by a plan.
//
//   AdapterSet ── snapshot ──▶ BatchPlan, once per batch ──▶ shrink, expand for every module of every layer
//
// Every token gets the bits of a call for it alone with its adapter alone, however the batch is mixed and
// sliced. Calls allocate nothing, take no locks, start no threads and keep no state. A backend with its own
// memory reads the plan's arrays there: PlanOnDevice uploads them once per batch.
#pragma once

#include <algorithm>    // min
#include <cstddef>      // size_t
#include <cstdint>      // int32_t
#include <span>         // span
#include <type_traits>  // type_identity
#include <utility>      // forward

#include "../backends/cpu.hpp"
#include "../ops/backend.hpp"
#include "../ops/checks.hpp"
#include "../views/config.hpp"
#include "../views/error.hpp"
#include "../views/factors.hpp"
#include "../views/options.hpp"
#include "../views/scalar.hpp"
#include "../views/tokens.hpp"
#include "adapter_set.hpp"
#include "batch_plan.hpp"
#include "batch_runs.hpp"

TIEDLORA_BEGIN_NAMESPACE

namespace detail {

/// Whether there are no tokens, and so nothing to do.
template <class P, class T>
bool has_no_tokens(const BatchPlan<P>& plan, const char* what, const Tokens<T>& tokens) {
  if (plan.tokens() == 0 && tokens.count > 0)
    fail(message("the plan has no tokens, but ", what, " has ", tokens.count));
  return plan.tokens() == 0;
}

/// The host's module m, for checks and their messages. A snapshot that no set made knows no host: then no
/// token has an adapter, and y is assumed to have the right width.
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
    fail_at(module, "h is ", h.width, "x", h.count, ", but this batch needs ", module.rank, "x", plan.size(),
            " (make it plan.max_rank() x plan.size())");
  check_tokens(module, "h", h, "its own width", h.width, "h", h.count);
}

/// Throws Error where x or y has rows or pointers in a device's memory: looking up the plan's tokens in them
/// would read the device's memory.
template <class B, class P, class T>
void check_batch_view(const Factors<const P>& module, const char* what, const Tokens<T>& tokens) {
  if (has_device_memory<B> && (tokens.rows || tokens.pointers))
    fail_at(module, "this backend needs ", what,
            " of a batch at a constant stride; rows and pointers are not supported");
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
  if (o.token_scale) fail_at(module, "a batch has its scales in its plan; leave options.token_scale null");
  if (o.dropout.probability != 0)
    fail_at(module, "a batch of adapters has no dropout; leave options.dropout off");
}

/// Throws Error if an operand of shrink is wrong. False if there is nothing to do.
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

}  // namespace detail

/// h = A·x for all tokens of the batch, at several of the host's modules that read the same x; those that
/// share A go through it once. x in×T; h[i], for modules[i], at least plan.rank(modules[i]) × plan.size() in
/// accumulator_t<P>: scratch between the stages, one column per use of an adapter in the plan's order.
/// Modules may share h if every adapter of the batch has one A for them. Options: slice. Throws Error if the
/// shapes disagree. `backend` as in ops/; the CPU's if left out.
template <class B, class P, class X>
void shrink(const B& backend, const BatchPlan<P>& plan, std::span<const Index> modules, const X& x,
            std::type_identity_t<std::span<const Tokens<accumulator_t<P>>>> h, const CallOptions& o = {}) {
  using namespace detail;
  const auto xs = input_tokens(x);
  if (h.size() != modules.size())
    fail("h must have one element for each of the ", modules.size(), " modules, but has ", h.size());
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
/// overwrite y = …, and zero for tokens without an adapter, which are otherwise left alone. h as shrink left
/// it, y out×T. Options: scale, overwrite, slice.
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

/// Both stages; takes no slice. Nothing is written if an operand is wrong.
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
