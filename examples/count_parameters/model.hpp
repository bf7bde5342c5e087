// The sizes of a host model, and its modules as tiedlora wants them.
#pragma once

#include <algorithm>  // find
#include <stdexcept>  // invalid_argument
#include <string>     // string, to_string
#include <vector>     // vector

#include <fmt/format.h>
#include <fmt/ranges.h>                  // join
#include <tiedlora/adapter/modules.hpp>  // Module, ModuleList

namespace count_parameters {

using tiedlora::Index;

/// The sizes of a transformer from which the shapes of its linear modules follow.
struct Model {
  std::string name = {};
  std::string source = {};  ///< where the sizes come from
  Index layers = 0;
  Index width = 0;         ///< of the residual stream (hidden_size): in_features of q, k, v, gate, up
  Index query_width = 0;   ///< heads × head size: out_features of q, in_features of o
  Index key_width = 0;     ///< out_features of k and of v: narrower than q under grouped-query attention
  Index feed_forward = 0;  ///< out_features of gate and up, in_features of down; 0: not known
  bool gated = true;       ///< whether the feed-forward part has a gate beside up
  bool fused_attention = false, fused_feed_forward = false;  ///< q, k, v, or gate and up, are one module
  std::string why_no_feed_forward = {};                      ///< why feed_forward is not known
};

inline const std::vector<std::string>& all_targets() {
  static const std::vector<std::string> targets = {"qkv",     "q",    "k",  "v",   "o",
                                                   "gate_up", "gate", "up", "down"};
  return targets;
}

namespace detail {

// One target of a layer. q, k and v read the same x, and so do gate and up.
inline tiedlora::Module module_of(const Model& model, const std::string& target) {
  const Index d = model.width, q = model.query_width, k = model.key_width, f = model.feed_forward;
  const auto module = [&](const char* input, Index in, Index out) {
    return tiedlora::Module{.kind = target, .input = input, .in_features = in, .out_features = out};
  };
  if (model.fused_attention && (target == "q" || target == "k" || target == "v"))
    throw std::invalid_argument(fmt::format(
        "--targets: q, k and v of {} are one module; name qkv instead of \"{}\"", model.name, target));
  if (target == "qkv") return module("attention", d, q + 2 * k);
  if (target == "q") return module("attention", d, q);
  if (target == "k" || target == "v") return module("attention", d, k);
  if (target == "o") return module("", q, d);

  if (f == 0)
    throw std::invalid_argument(
        fmt::format("--targets: the feed-forward {} of {} {}, so \"{}\" cannot be counted",
                    model.why_no_feed_forward.empty() ? "size" : "part", model.name,
                    model.why_no_feed_forward.empty() ? "is not known" : model.why_no_feed_forward, target));
  if (model.fused_feed_forward && (target == "gate" || target == "up"))
    throw std::invalid_argument(fmt::format(
        "--targets: gate and up of {} are one module; name gate_up instead of \"{}\"", model.name, target));
  if ((target == "gate" || target == "gate_up") && !model.gated)
    throw std::invalid_argument(
        fmt::format("--targets: {} has no gate: its feed-forward part is up and down", model.name));
  if (target == "gate_up") return module("feed-forward", d, 2 * f);
  return target == "down" ? module("", f, d) : module("feed-forward", d, f);
}

inline void check_targets(const std::vector<std::string>& targets) {
  const auto has = [&](const std::string& target) {
    return std::find(targets.begin(), targets.end(), target) != targets.end();
  };
  for (auto target = targets.begin(); target != targets.end(); ++target) {
    const auto& known = all_targets();
    if (std::find(known.begin(), known.end(), *target) == known.end())
      throw std::invalid_argument(
          fmt::format("--targets: \"{}\" is not one of {}", *target, fmt::join(known, ", ")));
    if (std::find(targets.begin(), target, *target) != target)
      throw std::invalid_argument(fmt::format("--targets: \"{}\" is given twice", *target));
  }
  if (has("qkv") && (has("q") || has("k") || has("v")))
    throw std::invalid_argument("--targets: qkv already holds q, k and v; name it or them");
  if (has("gate_up") && (has("gate") || has("up")))
    throw std::invalid_argument("--targets: gate_up already holds gate and up; name it or them");
}

}  // namespace detail

/// The adapted modules of all layers. Throws invalid_argument for a target that the model does not have.
inline tiedlora::ModuleList modules_of(const Model& model, const std::vector<std::string>& targets) {
  detail::check_targets(targets);
  tiedlora::ModuleList modules;
  for (Index layer = 0; layer < model.layers; ++layer)
    for (const std::string& target : targets) {
      tiedlora::Module module = detail::module_of(model, target);
      module.name = fmt::format("layers.{}.{}", layer, target);
      module.layer = static_cast<int>(layer);
      modules.add(std::move(module));
    }
  return modules;
}

}  // namespace count_parameters
