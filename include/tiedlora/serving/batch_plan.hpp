// Which token of a batch goes through which adapters, sorted once for all modules of all layers.
#pragma once

#include <algorithm>  // max, sort
#include <cmath>      // isfinite
#include <cstddef>    // size_t
#include <span>       // span
#include <tuple>      // tuple
#include <utility>    // move
#include <vector>     // vector

#include "../views/config.hpp"
#include "../views/error.hpp"
#include "adapter_set.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// What a token goes through: an adapter with a scale of its own, or none.
struct TokenAdapter {
  AdapterId adapter = no_adapter;  ///< no_adapter: the token passes through the base model alone
  float scale = 1;                 ///< times the adapter's scaling and the call's scale
};

/// One of several adapters that a token goes through.
struct AdapterUse {
  Index token = 0;                 ///< its place in the batch
  AdapterId adapter = no_adapter;  ///< no_adapter: no use
  float scale = 1;                 ///< times the adapter's scaling and the call's scale
};

/// What kernels read of a plan. In the sorted order of uses: their tokens, their scales and their adapters'
/// trainable arrays; then the tokens without an adapter.
template <class P>
struct PlanArrays {
  const Index* rows = nullptr;           ///< token of each use
  const float* scales = nullptr;         ///< scale of each use
  const P* const* trainables = nullptr;  ///< trainable array of each use's adapter
  const Index* idle = nullptr;           ///< tokens without an adapter
};

/// The plan of one batch: its tokens sorted by adapter, and their places. It is made once per batch from a
/// snapshot of the adapters, read by the calls of batch.hpp for every module of every layer, by any number of
/// threads. It holds the snapshot, and so the adapters, until it is rebuilt or dies.
template <class P>
class BatchPlan {
 public:
  using Scalar = P;

  /// Uses [begin, end) of the sorted order that go through the product of one factor A, or of one B,
  /// together.
  struct Run {
    Index begin = 0, end = 0;                      ///< in the sorted order
    const detail::Resident<P>* adapter = nullptr;  ///< of the first of them
    bool is_first = true;      ///< none of its tokens has been through another adapter before
    bool has_tenants = false;  ///< of several adapters that share the factor
  };

  /// Without tokens.
  BatchPlan() = default;
  /// tokens[t] says what token t goes through. Throws Error, naming token and id, for an id that the snapshot
  /// does not hold.
  BatchPlan(AdapterSnapshot<P> snapshot, std::span<const TokenAdapter> tokens) {
    assign(std::move(snapshot), tokens);
  }
  /// Any number of adapters for each of `tokens` tokens, in any order; those of one token are added to y in
  /// the order given.
  BatchPlan(AdapterSnapshot<P> snapshot, Index tokens, std::span<const AdapterUse> uses) {
    assign(std::move(snapshot), tokens, uses);
  }

  /// Rebuilds the plan in the memory that it has. After an Error it has no tokens.
  void assign(AdapterSnapshot<P> snapshot, std::span<const TokenAdapter> tokens) {
    Unfinished unfinished = {this};
    begin(std::move(snapshot), static_cast<Index>(tokens.size()));
    for (std::size_t t = 0; t < tokens.size(); ++t)
      push({static_cast<Index>(t), tokens[t].adapter, tokens[t].scale});
    finish();
    unfinished.plan = nullptr;
  }
  void assign(AdapterSnapshot<P> snapshot, Index tokens, std::span<const AdapterUse> uses) {
    Unfinished unfinished = {this};
    if (tokens < 0 || static_cast<std::size_t>(tokens) > uses_of_.max_size())
      detail::fail(detail::message("a batch cannot have ", tokens, " tokens"));
    begin(std::move(snapshot), tokens);
    for (const AdapterUse& use : uses) {
      if (use.token < 0 || use.token >= tokens)
        detail::fail(detail::message("adapter ", detail::number_of(use.adapter), " is for token ", use.token,
                                     ", but the batch has ", tokens, " tokens"));
      push(use);
    }
    finish();
    unfinished.plan = nullptr;
  }

  /// What it was made from.
  const AdapterSnapshot<P>& snapshot() const { return snapshot_; }
  Index tokens() const { return tokens_; }  ///< T, of x and y
  /// Uses of an adapter by a token: how many columns h needs. At most T unless tokens have several adapters.
  Index size() const { return static_cast<Index>(rows_.size()); }
  /// The largest rank of the batch's adapters at the host's module m: how many rows h needs. 0: nothing to
  /// do. Throws Error if the host has no module m.
  Index rank(Index m) const {
    if (snapshot_.has_set()) snapshot_.require_module(m);
    Index largest = 0;
    for (const Run& run : expand_runs_) largest = std::max(largest, run.adapter->placement->rank(m));
    return largest;
  }
  /// At any module.
  Index max_rank() const { return max_rank_; }

  /// For the calls, and for a host's own kernels; see PlanArrays.
  const Index* rows() const { return rows_.data(); }
  const float* scales() const { return scales_.data(); }
  const P* const* trainables() const { return trainables_.data(); }
  std::span<const Index> idle() const { return idle_; }
  std::span<const Run> shrink_runs() const { return shrink_runs_; }
  std::span<const Run> expand_runs() const { return expand_runs_; }
  /// The same in a device's memory, where PlanOnDevice has put them; null before, and after the plan is
  /// rebuilt.
  const PlanArrays<P>& device_arrays() const { return device_arrays_; }
  bool is_on_device() const { return is_on_device_; }
  void set_device_arrays(const PlanArrays<P>& arrays) { device_arrays_ = arrays, is_on_device_ = true; }
  /// Whether a token has several adapters: expand then updates its y more than once.
  bool revisits() const { return revisits_; }

 private:
  struct Use {
    Index pass;  // how many adapters its token has before this one
    const detail::Resident<P>* adapter;
    AdapterId id;
    Index token;
    float scale;
  };

  // Empties a plan that an Error, or a lack of memory, left unfinished.
  struct Unfinished {
    BatchPlan* plan;
    ~Unfinished() {
      if (plan) plan->begin({}, 0);
    }
  };

  void begin(AdapterSnapshot<P> snapshot, Index tokens) {
    snapshot_ = std::move(snapshot);
    tokens_ = tokens;
    uses_.clear(), rows_.clear(), scales_.clear(), trainables_.clear(), idle_.clear();
    shrink_runs_.clear(), expand_runs_.clear();
    uses_of_.assign(static_cast<std::size_t>(tokens), 0);
    max_rank_ = 0;
    revisits_ = is_on_device_ = false;
    device_arrays_ = {};
  }

  void push(const AdapterUse& use) {
    if (use.adapter == no_adapter) return;
    if (!std::isfinite(use.scale))
      detail::fail(detail::message("token ", use.token, " has the scale ", use.scale, "; it must be finite"));
    const detail::Resident<P>* adapter = snapshot_.find(use.adapter);
    if (!adapter)
      detail::fail(detail::message("token ", use.token, ": there is no ", snapshot_.describe(use.adapter)));
    const Index pass = uses_of_[static_cast<std::size_t>(use.token)]++;
    uses_.push_back({pass, adapter, use.adapter, use.token, use.scale});
    max_rank_ = std::max(max_rank_, adapter->placement->largest_rank);
    revisits_ |= pass > 0;
  }

  void finish() {
    // Adapters that share frozen parameters are neighbours, then the tokens of each.
    std::sort(uses_.begin(), uses_.end(), [](const Use& a, const Use& b) {
      const auto key = [](const Use& use) {
        return std::tuple(use.pass, use.adapter->placement.get(), use.adapter->frozen, use.id, use.token);
      };
      return key(a) < key(b);
    });
    for (const Use& use : uses_) {
      extend(shrink_runs_, use, FactorId::A);
      extend(expand_runs_, use, FactorId::B);
      rows_.push_back(use.token);
      scales_.push_back(use.scale);
      trainables_.push_back(use.adapter->trainable);
    }
    for (Index t = 0; t < tokens_; ++t)
      if (uses_of_[static_cast<std::size_t>(t)] == 0) idle_.push_back(t);
  }

  // Adds the next use in order to the last run if they share that factor, else begins a run.
  void extend(std::vector<Run>& runs, const Use& use, FactorId factor) {
    const Index place = size();
    if (!runs.empty()) {
      Run& run = runs.back();
      const detail::Resident<P>& other = *run.adapter;
      const bool is_frozen = !use.adapter->placement->layout.is_trained(factor);
      const bool shares =
          is_frozen && use.adapter->placement == other.placement && use.adapter->frozen == other.frozen;
      const bool is_same_pass = uses_[static_cast<std::size_t>(run.begin)].pass == use.pass;
      if (is_same_pass && (shares || use.adapter == run.adapter)) {
        run.end = place + 1;
        run.has_tenants |= use.adapter != run.adapter;
        return;
      }
    }
    runs.push_back({place, place + 1, use.adapter, use.pass == 0, false});
  }

  AdapterSnapshot<P> snapshot_;
  Index tokens_ = 0, max_rank_ = 0;
  bool revisits_ = false, is_on_device_ = false;
  PlanArrays<P> device_arrays_;
  std::vector<Use> uses_;
  std::vector<Index> uses_of_;  // by token
  std::vector<Index> rows_, idle_;
  std::vector<float> scales_;
  std::vector<const P*> trainables_;
  std::vector<Run> shrink_runs_, expand_runs_;
};

TIEDLORA_END_NAMESPACE
