// Adapters for layers that an engine has fused (q, k, v in one weight; gate and up), and back again.
#pragma once

#include <algorithm>  // copy_n, equal, find_if, max
#include <cstddef>    // size_t
#include <optional>   // optional
#include <string>     // string
#include <utility>    // move, pair
#include <vector>     // vector

#include "../views/config.hpp"
#include "../views/error.hpp"
#include "../views/factors.hpp"
#include "../views/scalar.hpp"
#include "adapter.hpp"
#include "layout.hpp"
#include "modules.hpp"
#include "name_map.hpp"
#include "quote.hpp"
#include "result.hpp"
#include "scheme.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// A fused layer and the layers whose outputs it concatenates, by name; '*' stands for a number, as in
/// NameRule: {.fused = "model.layers.*.self_attn.qkv_proj", .parts = {"model.layers.*.self_attn.q_proj", …}}.
struct Fusion {
  std::string fused = {};                ///< name of the fused layer
  std::vector<std::string> parts = {};   ///< names of the layers in it, in the order of their outputs
  std::vector<Index> out_features = {};  ///< of each part; split needs them, fuse knows them
};

namespace detail {
/// Some rows of a module's ΔW.
struct RowsOf {
  Index module, begin, count;
};

/// Modules whose rows are, one after the other, rows of another adapter's modules.
struct Regrouping {
  ModuleList modules;
  std::vector<std::vector<RowsOf>> rows;
};

/// Whether two modules multiply x by the same A: then they share h.
template <class P>
bool same_A(const Factors<P>& f, const Factors<P>& g) {
  if (f.rank != g.rank || f.in_features != g.in_features) return false;
  for (Index k = 0; k < f.rank && f.A != g.A; ++k)
    if (!std::equal(f.A + k * f.a_stride, f.A + k * f.a_stride + f.in_features, g.A + k * g.a_stride))
      return false;
  return true;
}
template <class P>
bool same_u(const Factors<P>& f, const Factors<P>& g) {
  return f.u == g.u || (f.u && g.u && std::equal(f.u, f.u + f.rank, g.u));
}

/// One module of the result, as matrices of its own: A of r rows, B of r columns.
template <class Acc>
struct Dense {
  Index rank = 0;
  Acc scaling = 1;
  std::vector<Acc> A = {}, B = {}, u = {}, v = {};  // u, v empty: absent
};

/// The factors of a regrouped module under the adapter's own scheme: A and u of its parts, which must share
/// them and the scaling; B and v of the parts concatenated (docs/mathematics.md, E26). Nothing if they do not
/// share them.
template <class Acc, class Source>
std::optional<Dense<Acc>> try_same_form(const Source& adapter, const std::vector<RowsOf>& rows) {
  const auto first = adapter.factors(rows.front().module);
  Dense<Acc> result{.rank = first.rank, .scaling = first.scaling};
  for (const RowsOf& part : rows) {
    const auto f = adapter.factors(part.module);
    if (!same_A(first, f) || !same_u(first, f) || f.scaling != first.scaling) return std::nullopt;
    for (Index i = part.begin; f.v && i < part.begin + part.count; ++i)
      result.v.push_back(static_cast<Acc>(f.v[i]));
  }
  for (Index k = 0; k < first.rank; ++k) {
    for (Index j = 0; j < first.in_features; ++j)
      result.A.push_back(static_cast<Acc>(first.A[k * first.a_stride + j]));
    if (first.u) result.u.push_back(static_cast<Acc>(first.u[k]));
    for (const RowsOf& part : rows) {
      const auto f = adapter.factors(part.module);
      for (Index i = part.begin; i < part.begin + part.count; ++i)
        result.B.push_back(static_cast<Acc>(f.B[k * f.b_stride + i]));
    }
  }
  return result;
}

/// The same as plain LoRA of scaling 1: parts with the same A share their ranks, those of the others are
/// concatenated, B = s · diag(v) B diag(u) of a part in its rows and zero in the others (docs/mathematics.md,
/// E27).
template <class Acc, class Source>
Dense<Acc> as_lora(const Source& adapter, const std::vector<RowsOf>& rows) {
  Dense<Acc> result;
  std::vector<std::pair<Index, Index>>
      places;  // of each part that has an A of its own: its module, its first rank
  std::vector<Index> place_of;
  Index out = 0;
  for (const RowsOf& part : rows) {
    const auto f = adapter.factors(part.module);
    const auto same = std::find_if(places.begin(), places.end(), [&](const auto& place) {
      return same_A(adapter.factors(place.first), f);
    });
    place_of.push_back(same == places.end() ? result.rank : same->second);
    out += part.count;
    if (same != places.end()) continue;
    places.emplace_back(part.module, result.rank);
    for (Index k = 0; k < f.rank; ++k)
      for (Index j = 0; j < f.in_features; ++j) result.A.push_back(static_cast<Acc>(f.A[k * f.a_stride + j]));
    result.rank += f.rank;
  }
  result.B.assign(static_cast<std::size_t>(result.rank * out), Acc(0));
  Index row = 0;
  for (std::size_t p = 0; p < rows.size(); row += rows[p++].count) {
    const auto f = adapter.factors(rows[p].module);
    for (Index k = 0; k < f.rank; ++k) {
      const Acc cu = f.u ? f.scaling * static_cast<Acc>(f.u[k]) : f.scaling;
      for (Index i = 0; i < rows[p].count; ++i) {
        const Index from = rows[p].begin + i;
        const Acc b = cu * static_cast<Acc>(f.B[k * f.b_stride + from]);
        result.B[static_cast<std::size_t>((place_of[p] + k) * out + row + i)] =
            f.v ? b * static_cast<Acc>(f.v[from]) : b;
      }
    }
  }
  return result;
}

/// Writes the factors of every module; false if two modules that share a factor disagree about it.
template <class Acc>
bool fill_adapter(AlignedArray<Acc>& trainable, AlignedArray<Acc>& frozen, const Layout& layout,
                  const std::vector<Dense<Acc>>& modules) {
  const auto each = [&](auto visit) {
    for (Index m = 0; m < layout.size(); ++m) {
      const Dense<Acc>& from = modules[static_cast<std::size_t>(m)];
      const Factors<Acc> to = place_factors<Acc>(layout, m, trainable.data(), frozen.data());
      for (Index k = 0; k < to.rank; ++k) {
        visit(to.A + k * to.a_stride, from.A.data() + k * to.in_features, to.in_features);
        visit(to.B + k * to.b_stride, from.B.data() + k * to.out_features, to.out_features);
      }
      if (to.u) visit(to.u, from.u.data(), to.rank);
      if (to.v) visit(to.v, from.v.data(), to.out_features);
    }
  };
  bool agree = true;
  const auto same = [](Acc a, Acc b) { return a == b || (a != a && b != b); };  // an adapter may hold NaN
  each([](Acc* to, const Acc* from, Index n) { std::copy_n(from, n, to); });
  each([&](const Acc* to, const Acc* from, Index n) {
    agree = agree && std::equal(from, from + n, to, same);
  });
  return agree;
}

template <class Acc>
std::optional<Adapter<Acc>> try_assemble(const ModuleList& modules, const Scheme& scheme,
                                         const std::vector<Dense<Acc>>& factors) {
  LayoutOptions options;
  Index largest = 0;
  for (Index m = 0; m < modules.size(); ++m) {
    const Dense<Acc>& module = factors[static_cast<std::size_t>(m)];
    options.ranks.emplace_back(modules[m].name, module.rank);
    options.scalings.emplace_back(modules[m].name, static_cast<double>(module.scaling));
    largest = std::max(largest, module.rank);
  }
  const Result<Layout> layout = Layout::try_make(modules, scheme, largest, options);
  if (!layout) return std::nullopt;
  AlignedArray<Acc> trainable(layout->trainable_count()), frozen(layout->frozen_count());
  if (!fill_adapter(trainable, frozen, *layout, factors)) return std::nullopt;
  return Adapter<Acc>(*layout, std::move(trainable), std::move(frozen));
}

template <class Source>
auto regroup(const Source& adapter, const Regrouping& regrouping) {
  using Acc = accumulator_t<typename Source::Scalar>;
  std::vector<Dense<Acc>> same, lora;
  for (const std::vector<RowsOf>& rows : regrouping.rows)
    if (auto factors = try_same_form<Acc>(adapter, rows)) same.push_back(*std::move(factors));
  if (same.size() == regrouping.rows.size()) {
    Scheme scheme = adapter.layout().scheme();
    for (Factor* factor :
         {&scheme.A, &scheme.B, scheme.u ? &*scheme.u : nullptr, scheme.v ? &*scheme.v : nullptr})
      if (factor && !factor->trained) factor->init = init::given();
    if (auto result = try_assemble(regrouping.modules, scheme, same)) return *std::move(result);
  }
  for (const std::vector<RowsOf>& rows : regrouping.rows) lora.push_back(as_lora<Acc>(adapter, rows));
  auto result = try_assemble(regrouping.modules, schemes::lora(), lora);
  if (!result) fail("the adapter cannot be regrouped: as plain LoRA of all ranks together it is too large");
  return *std::move(result);
}

/// The label of an input that modules of one fused layer read, in all layers alike.
inline std::string shared_input(const Module& fused) {
  return fused.input.empty() ? fused.kind : fused.input;
}

}  // namespace detail

/// The adapter for an engine in which these layers are fused; the same function. Where the parts of every
/// fused layer share A and u (Tied-LoRA with one input label, lora_fused) and the scheme can express it, the
/// scheme and the rank stay and every value is copied. Otherwise the result is plain LoRA that concatenates
/// the ranks of parts with different A, exact except for rounding s · v · B · u. In the accumulator type.
/// Throws Error, naming the module, if a part is missing, if parts differ in layer or in_features, or if the
/// fusion matches no module.
template <class Source>
auto fuse(const Source& adapter, const Fusion& fusion) {
  using namespace detail;
  const ModuleList& modules = adapter.layout().modules();
  if (fusion.parts.empty()) fail("fuse was given no parts: fusion.parts names the modules to fuse");
  Regrouping result;
  std::vector<bool> is_part(static_cast<std::size_t>(modules.size()), false);
  bool fits = false;
  // First the parts, to leave them out where they stand.
  std::vector<std::vector<RowsOf>> fused(static_cast<std::size_t>(modules.size()));
  for (Index m = 0; m < modules.size(); ++m) {
    const auto numbers = NameMap::match(fusion.parts.front(), modules[m].name);
    if (!numbers) {  // a further part has a first one
      for (const std::string& pattern : fusion.parts)
        if (const auto of_part = NameMap::match(pattern, modules[m].name))
          modules.find(NameMap::fill(fusion.parts.front(), *of_part));
      continue;
    }
    fits = true;
    for (const std::string& pattern : fusion.parts) {
      const Index part = modules.find(NameMap::fill(pattern, *numbers));
      if (modules[part].in_features != modules[m].in_features || modules[part].layer != modules[m].layer)
        fail(message("modules ", detail::in_quotes(modules[m].name), " and ",
                     detail::in_quotes(modules[part].name),
                     " cannot be fused: they differ in layer or in_features"));
      is_part[static_cast<std::size_t>(part)] = true;
      fused[static_cast<std::size_t>(m)].push_back({part, 0, modules[part].out_features});
    }
  }
  if (!fits) fail(message("fuse: ", modules.not_found(fusion.parts.front()).message));
  for (Index m = 0; m < modules.size(); ++m) {
    auto& rows = fused[static_cast<std::size_t>(m)];
    Module module = modules[m];
    if (!rows.empty()) {
      const auto numbers = NameMap::match(fusion.parts.front(), module.name);
      module.name = NameMap::fill(fusion.fused, *numbers);
      module.kind.clear();
      module.out_features = 0;
      for (const RowsOf& part : rows) module.out_features += part.count;
    } else if (is_part[static_cast<std::size_t>(m)]) {
      continue;
    } else {
      rows = {{m, 0, module.out_features}};
    }
    result.modules.add(std::move(module));
    result.rows.push_back(std::move(rows));
  }
  return regroup(adapter, result);
}

/// The adapter for an engine in which these layers are separate; the same function: each part takes its rows
/// of B and v, and A and u are shared if the scheme shares them by input. In the accumulator type; otherwise
/// as fuse. Throws Error, naming the module, if the parts' out_features do not add up to the fused layer's.
template <class Source>
auto split(const Source& adapter, const Fusion& fusion) {
  using namespace detail;
  const ModuleList& modules = adapter.layout().modules();
  if (fusion.parts.empty() || fusion.parts.size() != fusion.out_features.size())
    fail(message("split needs the out_features of every part: there are ", fusion.parts.size(), " parts and ",
                 fusion.out_features.size(), " sizes"));
  Regrouping result;
  bool fits = false;
  for (Index m = 0; m < modules.size(); ++m) {
    const auto numbers = NameMap::match(fusion.fused, modules[m].name);
    if (!numbers) {
      result.modules.add(modules[m]);
      result.rows.push_back({{m, 0, modules[m].out_features}});
      continue;
    }
    fits = true;
    Index begin = 0;
    for (std::size_t p = 0; p < fusion.parts.size(); begin += fusion.out_features[p++]) {
      Module part = modules[m];
      part.name = NameMap::fill(fusion.parts[p], *numbers);
      part.kind.clear();
      part.input = shared_input(modules[m]);
      part.out_features = fusion.out_features[p];
      if (part.out_features > modules[m].out_features - begin) begin = modules[m].out_features;
      result.rows.push_back({{m, begin, part.out_features}});
      result.modules.add(std::move(part));
    }
    if (begin != modules[m].out_features)
      fail(message("module ", detail::in_quotes(modules[m].name), " has ", modules[m].out_features,
                   " out_features, but its parts do not add up to that (wrong base model?)"));
  }
  if (!fits) fail(message("split: ", modules.not_found(fusion.fused).message));
  return regroup(adapter, result);
}

TIEDLORA_END_NAMESPACE
