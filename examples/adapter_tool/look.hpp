// What is in an adapter, and how two of them differ.
#pragma once

#include <cmath>        // hypot, isfinite
#include <exception>    // exception
#include <filesystem>   // path
#include <map>          // map
#include <optional>     // optional
#include <ostream>      // ostream
#include <span>         // span
#include <string>       // string
#include <string_view>  // string_view

#include <fmt/format.h>

#include "adapters.hpp"
#include "norms.hpp"

namespace adapter_tool {

/// One line on how a factor is tied and trained: "A: all layers x input, trained".
inline std::string describe(const tiedlora::Scheme& scheme) {
  constexpr const char* across[] = {"module", "kind", "input", "model"};
  std::string text;
  for (const tiedlora::FactorId id : tiedlora::all_factors) {
    const tiedlora::Factor* factor = scheme.find(id);
    if (!factor) continue;
    const Index layers = factor->tying.layers;
    text +=
        fmt::format("{}{}: {} x {}, {}", text.empty() ? "" : "; ", to_string(id),
                    layers == tiedlora::all_layers   ? "all layers"
                    : layers == tiedlora::each_layer ? "each layer"
                                                     : fmt::format("groups of {} layers", layers),
                    across[static_cast<int>(factor->tying.modules)], factor->trained ? "trained" : "frozen");
  }
  return text;
}

inline Index not_finite(std::span<const float> numbers) {
  Index count = 0;
  for (const float number : numbers) count += !std::isfinite(number);
  return count;
}

/// Names for a terminal: they come out of files.
using tiedlora::detail::escaped;

/// A line for each statement of the file on what the adapter belongs to.
inline void tell_source(const tiedlora::Provenance& source, std::ostream& out) {
  out << fmt::format("base model  {}\n", source.base_model.empty() ? "not said" : escaped(source.base_model));
  for (const auto& [label, text] : {std::pair("revision", source.revision),
                                    {"task type", source.task_type},
                                    {"base class", source.base_model_class},
                                    {"architecture", source.architecture}})
    if (!text.empty()) out << fmt::format("{:<11} {}\n", label, escaped(text));
  if (source.fan_in_fan_out) out << "weights     in x out (fan_in_fan_out), as GPT-2's Conv1D\n";
}

inline void info(const std::filesystem::path& path, ModelOptions options, std::ostream& out,
                 std::ostream& err) {
  options.check_finite = false;  // what is broken can be looked at
  const OpenAdapter opened = open(path, options, true);
  const Adapter<float>& adapter = opened.adapter;
  const tiedlora::Layout& layout = adapter.layout();
  out << fmt::format("format      {}\n", opened.format);
  tell_source(opened.source, out);
  out << fmt::format("scheme      {}\n", describe(layout.scheme()));
  out << fmt::format("parameters  {} trainable, {} frozen\n", layout.trainable_count(),
                     layout.frozen_count());
  out << fmt::format("fingerprint {:016x} (of its parameters as float)\n", tiedlora::fingerprint(adapter));
  double total = 0;
  Index adapted = 0, zero = 0;
  out << fmt::format("\n{:<44} {:>13} {:>5} {:>8} {:>11}\n", "module", "out x in", "rank", "scaling",
                     "norm of ΔW");
  for (Index m = 0; m < layout.size(); ++m) {
    if (layout.rank(m) == 0) continue;
    const tiedlora::Module& module = layout.modules()[m];
    const double size = norm(product(adapter, m));
    ++adapted;
    zero += size == 0;
    total = std::hypot(total, size);
    out << fmt::format("{:<44} {:>13} {:>5} {:>8.4g} {:>11.5g}\n", escaped(module.name),
                       fmt::format("{} x {}", module.out_features, module.in_features), layout.rank(m),
                       layout.scaling(m), size);
  }
  out << fmt::format("{} of {} modules adapted; norm of all {:.5g}\n", adapted, layout.size(), total);
  const Index wrong = not_finite(adapter.trainable()) + not_finite(adapter.frozen());
  if (wrong > 0) {
    err << fmt::format("warning: {} parameters are NaN or infinite; the adapter is unusable\n", wrong);
    options.check_finite = true;
    try {
      (void)open(path, options, true);
    } catch (const std::exception& error) {  // where the first of them is
      err << "warning: " << escaped(error.what()) << '\n';
    }
  }
  if (zero == adapted)
    err << "warning: the adapter is zero everywhere; it changes nothing (was it trained?)\n";
  else if (zero > 0)
    err << fmt::format("warning: the adapter is zero in {} of {} modules\n", zero, adapted);
  for (const std::string& note : opened.notes) err << "note: " << escaped(note) << '\n';
}

/// Two adapters as functions: ‖ΔW₁ − ΔW₂‖ / ‖ΔW₁‖ by module; a module that one does not adapt is zero there.
inline void diff(const std::filesystem::path& first, const std::filesystem::path& second,
                 const ModelOptions& options, std::ostream& out, std::ostream& err) {
  const OpenAdapter a = open(first, options), b = open(second, options);
  for (const OpenAdapter* opened : {&a, &b})
    for (const std::string& note : opened->notes) err << "note: " << escaped(note) << '\n';
  struct Pair {
    std::optional<Index> a, b;
  };
  std::map<std::string, Pair> pairs;
  const auto collect = [&pairs](const Adapter<float>& adapter, std::optional<Index> Pair::* side) {
    for (Index m = 0; m < adapter.layout().size(); ++m)
      if (adapter.layout().rank(m) > 0) pairs[adapter.layout().modules()[m].name].*side = m;
  };
  collect(a.adapter, &Pair::a), collect(b.adapter, &Pair::b);
  double all = 0, size = 0;
  out << fmt::format("{:<44} {:>12} {:>12}\n", "module", "relative", "norm of ΔW");
  for (const auto& [name, pair] : pairs) {
    if (pair.a && pair.b) {
      const auto &m = a.adapter.layout().modules()[*pair.a], &n = b.adapter.layout().modules()[*pair.b];
      if (m.in_features != n.in_features || m.out_features != n.out_features)
        throw std::runtime_error(fmt::format("{} is {} x {} in {} and {} x {} in {}",
                                             tiedlora::detail::in_quotes(name), m.out_features, m.in_features,
                                             first.string(), n.out_features, n.in_features, second.string()));
    }
    const Product one = pair.a ? product(a.adapter, *pair.a) : Product();
    const Product other = pair.b ? product(b.adapter, *pair.b) : Product();
    const double norm_a = norm(one);
    const double apart = !pair.b ? norm_a : !pair.a ? norm(other) : norm(difference(one, other));
    all = std::hypot(all, apart), size = std::hypot(size, norm_a);
    out << fmt::format("{:<44} {:>12.3g} {:>12.5g}{}\n", escaped(name), apart == 0 ? 0 : apart / norm_a,
                       norm_a,
                       !pair.a   ? "  only in the second"
                       : !pair.b ? "  only in the first"
                                 : "");
  }
  out << fmt::format("{:<44} {:>12.3g} {:>12.5g}\n", "all", all == 0 ? 0 : all / size, size);
}

}  // namespace adapter_tool
