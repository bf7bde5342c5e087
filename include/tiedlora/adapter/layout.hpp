// Where every parameter of an adapter lies, and so how many there are.
#pragma once

#include <algorithm>      // max, sort, unique, lower_bound
#include <array>          // array
#include <cmath>          // abs
#include <cstdint>        // uint64_t
#include <limits>         // numeric_limits
#include <memory>         // shared_ptr
#include <span>           // span
#include <string>         // string
#include <unordered_map>  // unordered_map
#include <utility>        // pair
#include <vector>         // vector

#include "../views/config.hpp"
#include "../views/error.hpp"
#include "modules.hpp"
#include "quote.hpp"
#include "result.hpp"
#include "scheme.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// The scaling, and exceptions to the one rank and scaling by module name (PEFT's rank_pattern and
/// alpha_pattern).
struct LayoutOptions {
  double scaling = 1;  ///< s. LoRA's is alpha / rank; the Tied-LoRA paper's is 1.
  std::vector<std::pair<std::string, Index>> ranks = {};      ///< rank 0: the module is not adapted
  std::vector<std::pair<std::string, double>> scalings = {};  ///< s of some modules
};

namespace detail {
/// Equal for the modules that share one copy of a factor: layer group, sharing label.
using SharingKey = std::pair<Index, std::pair<int, int>>;
struct SharingKeyHash {
  std::size_t operator()(const SharingKey& key) const {
    std::uint64_t hash = static_cast<std::uint64_t>(key.first);
    for (const int part : {key.second.first, key.second.second})
      hash = (hash ^ static_cast<std::uint64_t>(part)) * 0x9e3779b97f4a7c15u;
    return static_cast<std::size_t>(hash ^ hash >> 32);
  }
};

}  // namespace detail

/// From modules, a scheme and ranks: the place of each factor of each module in two flat arrays, one of
/// trainable and one of frozen parameters. Neither has gaps. Factors come in the order A, B, v, u, and the
/// groups of a factor by the index of their first module. So the length of the trainable array is the
/// parameter count that papers print.
///
/// A Layout is immutable. It is a handle: a copy costs a reference count and equals the original. Making one
/// allocates no parameters, so counting those of a 70B model takes microseconds. Functions of a module m
/// throw Error unless 0 <= m < size().
class Layout {
 public:
  // A move is a copy, so that what was moved from is still a layout.
  Layout(Layout&& other) noexcept : state_(other.state_) {}
  Layout& operator=(Layout&& other) noexcept {
    state_ = other.state_;
    return *this;
  }
  Layout(const Layout&) = default;
  Layout& operator=(const Layout&) = default;
  ~Layout() = default;

  /// One copy of a factor, in a shape that fits all its modules.
  struct Group {
    Index offset = 0;    ///< of its first parameter in the trainable or the frozen array
    Index rank = 0;      ///< r of all its modules
    Index features = 0;  ///< A: the largest in_features; B and v: the largest out_features; u: 1
    Index first = 0;     ///< its first module
    Index count = 0;     ///< how many parameters: A, B: rank × features; u: rank; v: features
  };

  /// A contiguous part of a flat array.
  struct Segment {
    Index offset = 0, count = 0;  ///< in elements, not bytes
  };

  /// Throws Error, naming the module, for a negative rank, a scaling that is not finite, an override of an
  /// unknown module, unequal ranks on a shared factor and sizes that overflow.
  Layout(const ModuleList& modules, const Scheme& scheme, Index rank, const LayoutOptions& options = {})
      : Layout(detail::value_or_fail(try_make(modules, scheme, rank, options))) {}

  /// The same for what a file claims: the Result says what the constructor would throw.
  static Result<Layout> try_make(const ModuleList& modules, const Scheme& scheme, Index rank,
                                 const LayoutOptions& options = {}) {
    auto state = std::make_shared<State>();
    state->modules = modules;
    state->scheme = scheme;
    state->rank = rank;
    state->options = options;
    if (Status done = set_ranks_and_scalings(*state); !done) return done.failure();
    for (const FactorId id : all_factors) {
      if (Status done = assign_groups(*state, id); !done) return done.failure();
      if (Status done = place_groups(*state, id); !done) return done.failure();
    }
    return Layout(std::move(state));
  }

  /// The same modules, ranks and scalings under another scheme.
  Layout with_scheme(const Scheme& scheme) const { return Layout(modules(), scheme, rank(), options()); }

  /// What it was made from.
  const ModuleList& modules() const { return state_->modules; }
  const Scheme& scheme() const { return state_->scheme; }
  Index size() const { return state_->modules.size(); }       ///< number of modules
  Index rank() const { return state_->rank; }                 ///< of modules without an override
  double scaling() const { return state_->options.scaling; }  ///< of modules without an override
  const LayoutOptions& options() const { return state_->options; }
  Index rank(Index m) const { return state_->ranks[checked(m)]; }
  double scaling(Index m) const { return state_->scalings[checked(m)]; }

  /// Trainable parameters of the whole adapter: the count that papers print.
  Index trainable_count() const { return state_->trainable; }
  Index frozen_count() const { return state_->frozen; }
  Index trainable_count(FactorId id) const { return is_trained(id) ? segment(id).count : 0; }
  Index frozen_count(FactorId id) const { return is_trained(id) ? 0 : segment(id).count; }
  /// Parameters that module m uses. One shared by several modules counts for each of them.
  Index trainable_count(Index m) const { return used_count(m, true); }
  Index frozen_count(Index m) const { return used_count(m, false); }

  /// Whether the scheme has that factor and trains it.
  bool is_trained(FactorId id) const {
    const Factor* factor = scheme().find(id);
    return factor && factor->trained;
  }
  /// A factor's part of its flat array, the trainable or the frozen one.
  Segment segment(FactorId id) const { return state_->segments[at(id)]; }
  std::span<const Group> groups(FactorId id) const { return state_->groups[at(id)]; }
  /// The index of module m's group of that factor; -1 if the factor is absent or m is not adapted.
  Index group_index(FactorId id, Index m) const { return state_->group_of[at(id)][checked(m)]; }
  const Group* group(FactorId id, Index m) const {
    const Index g = group_index(id, m);
    return g < 0 ? nullptr : &groups(id)[at(g)];
  }

  /// Whether backward of module m reads x: only the gradient of A needs it.
  bool backward_needs_x(Index m) const { return rank(m) > 0 && is_trained(FactorId::A); }

  /// Whether backward of the two modules adds to a common gradient: then they must not run at the same time
  /// into one Gradients.
  bool share_trained(Index m1, Index m2) const {
    for (const FactorId id : all_factors)
      if (is_trained(id) && group_index(id, m1) >= 0 && group_index(id, m1) == group_index(id, m2))
        return true;
    return false;
  }

  /// The same number for modules that read the same x, another for all others: Dropout::input.
  std::uint64_t input_id(Index m) const {
    return static_cast<std::uint64_t>(modules().labels(m).first_reader);
  }

  /// Whether adapters of the two are interchangeable parameter by parameter.
  friend bool operator==(const Layout& a, const Layout& b) {
    return a.state_ == b.state_ ||
           (a.scheme() == b.scheme() && a.state_->ranks == b.state_->ranks &&
            a.state_->scalings == b.state_->scalings &&
            std::equal(a.modules().begin(), a.modules().end(), b.modules().begin(), b.modules().end()));
  }

 private:
  struct State {
    ModuleList modules;
    Scheme scheme;
    Index rank = 0;
    LayoutOptions options;
    std::vector<Index> ranks;      // by module
    std::vector<double> scalings;  // by module
    std::array<std::vector<Group>, 4> groups;
    std::array<std::vector<Index>, 4> group_of;  // by module
    std::array<Segment, 4> segments;
    Index trainable = 0, frozen = 0;
  };

  std::size_t checked(Index m) const {
    if (m < 0 || m >= size())
      detail::fail("module ", m, " does not exist: the layout has ", size(), " modules");
    return at(m);
  }
  static std::size_t at(Index i) { return static_cast<std::size_t>(i); }
  static std::size_t at(FactorId id) { return static_cast<std::size_t>(id); }

  explicit Layout(std::shared_ptr<const State> state) : state_(std::move(state)) {}

  static Status set_ranks_and_scalings(State& state) {
    const LayoutOptions& options = state.options;
    using detail::message;
    state.ranks.assign(at(state.modules.size()), state.rank);
    state.scalings.assign(at(state.modules.size()), options.scaling);
    for (const auto& [name, rank] : options.ranks) {
      const auto m = state.modules.try_find(name);
      if (!m) return state.modules.not_found(name);
      state.ranks[at(*m)] = rank;
    }
    for (const auto& [name, scaling] : options.scalings) {
      const auto m = state.modules.try_find(name);
      if (!m) return state.modules.not_found(name);
      state.scalings[at(*m)] = scaling;
    }
    for (Index m = 0; m < state.modules.size(); ++m) {
      if (state.ranks[at(m)] < 0)
        return Failure{message("module ", detail::in_quotes(state.modules[m].name), " has rank ",
                               state.ranks[at(m)], "; use 0 for a module that is not adapted")};
      if (!(std::abs(state.scalings[at(m)]) <= static_cast<double>(std::numeric_limits<float>::max())))
        return Failure{message("module ", detail::in_quotes(state.modules[m].name), " has the scaling ",
                               state.scalings[at(m)],
                               ", which is not finite as a float (alpha / rank with rank 0?)")};
    }
    return success();
  }

  // Which copy each module uses, and the shape of each copy.
  static Status assign_groups(State& state, FactorId id) {
    std::vector<Index>& group_of = state.group_of[at(id)];
    group_of.assign(at(state.modules.size()), -1);
    const Factor* factor = state.scheme.find(id);
    if (!factor) return success();
    if (factor->tying.layers < 1)
      return Failure{detail::message("factor ", to_string(id), " is tied over groups of ",
                                     factor->tying.layers,
                                     " layers; use each_layer, a positive number or all_layers")};
    const std::vector<Index> layer_groups = group_layers(state.modules, factor->tying.layers);
    std::unordered_map<detail::SharingKey, Index, detail::SharingKeyHash> index_of;
    for (Index m = 0; m < state.modules.size(); ++m) {
      if (state.ranks[at(m)] == 0) continue;
      const detail::SharingKey key = {layer_groups[at(m)],
                                      sharing_label(state.modules.labels(m), factor->tying.modules)};
      auto& groups = state.groups[at(id)];
      const auto [found, is_new] = index_of.try_emplace(key, static_cast<Index>(groups.size()));
      if (is_new) groups.push_back({.rank = state.ranks[at(m)], .first = m});
      group_of[at(m)] = found->second;
      if (Status joined = join(state, id, groups[at(found->second)], m); !joined) return joined;
    }
    return success();
  }

  static Status join(const State& state, FactorId id, Group& group, Index m) {
    const Module& module = state.modules[m];
    if (group.rank != state.ranks[at(m)])
      return Failure{detail::message("module ", detail::in_quotes(module.name), " has rank ",
                                     state.ranks[at(m)], " but shares factor ", to_string(id), " with ",
                                     detail::in_quotes(state.modules[group.first].name), " of rank ",
                                     group.rank, "; modules that share a factor must have the same rank")};
    const Index features = id == FactorId::A   ? module.in_features
                           : id == FactorId::u ? 1
                                               : module.out_features;
    group.features = std::max(group.features, features);
    // v has one parameter per feature, the others `rank` of them.
    if (id != FactorId::v && group.features > std::numeric_limits<Index>::max() / group.rank)
      return Failure{detail::message("module ", detail::in_quotes(module.name), ": factor ", to_string(id),
                                     " of ", group.rank, " x ", group.features, " overflows the index type")};
    group.count = id == FactorId::v ? group.features : group.rank * group.features;
    return success();
  }

  // Appends the groups, one after the other, to the trainable or the frozen array.
  static Status place_groups(State& state, FactorId id) {
    const Factor* factor = state.scheme.find(id);
    Index& end = factor && factor->trained ? state.trainable : state.frozen;
    Segment& segment = state.segments[at(id)];
    segment.offset = end;
    for (Group& group : state.groups[at(id)]) {
      if (group.count > std::numeric_limits<Index>::max() - end)
        return Failure{detail::message("module ", detail::in_quotes(state.modules[group.first].name),
                                       ": the adapter's size overflows the index type")};
      group.offset = end;
      end += group.count;
    }
    segment.count = end - segment.offset;
    return success();
  }

  // By module: the number of its group of consecutive layers, -1 without a layer.
  static std::vector<Index> group_layers(const ModuleList& modules, Index layers_per_group) {
    std::vector<int> layers;
    for (const Module& module : modules)
      if (module.layer >= 0 && (layers.empty() || layers.back() != module.layer))
        layers.push_back(module.layer);
    std::sort(layers.begin(), layers.end());
    layers.erase(std::unique(layers.begin(), layers.end()), layers.end());
    std::vector<Index> groups;
    groups.reserve(at(modules.size()));
    for (const Module& module : modules) {
      const Index ordinal = std::lower_bound(layers.begin(), layers.end(), module.layer) - layers.begin();
      groups.push_back(module.layer < 0 ? -1 : ordinal / layers_per_group);
    }
    return groups;
  }

  // Equal for the modules of one layer that share the factor.
  static std::pair<int, int> sharing_label(const ModuleList::Labels& labels, Across across) {
    switch (across) {
      case Across::module:
        return {labels.kind, labels.occurrence};
      case Across::kind:
        return {labels.kind, 0};
      case Across::input:
        return {labels.input, 0};
      case Across::model:
        break;
    }
    return {0, 0};
  }

  Index used_count(Index m, bool trained) const {
    Index count = 0;
    for (const FactorId id : all_factors) {
      if (!group(id, m) || is_trained(id) != trained) continue;
      const Module& module = modules()[m];
      count += id == FactorId::u   ? rank(m)
               : id == FactorId::v ? module.out_features
                                   : rank(m) * (id == FactorId::A ? module.in_features : module.out_features);
    }
    return count;
  }

  std::shared_ptr<const State> state_;
};

TIEDLORA_END_NAMESPACE
