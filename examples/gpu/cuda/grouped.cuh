// A batch in which every token has an adapter of its own: a BatchPlan on the device, uploaded once for all
// modules of all layers.
//
// Tokens that go through one A, or one B, are one dense product, whosever they are: of tenants over one A, B
// only u and v are each token's own, and gathered. Adapters with matrices of their own are a table of
// products of up to eight tokens each, and one launch goes through all of it. A captured graph holds the
// launches of the plan that it was captured with.
#pragma once

#include <algorithm>  // max, min
#include <cstddef>    // size_t
#include <vector>     // vector

#include <tiedlora/serving.hpp>

#include "backend.cuh"

namespace gpu_cuda {

template <class P>
class DeviceBatch {
 public:
  /// The backend must outlive it.
  explicit DeviceBatch(const CudaBackend& backend) : backend_(&backend) {}

  /// Uploads the plan of adapters whose arrays lie on the device (AdapterSet::add of an AdapterView, without
  /// check_finite).
  void assign(const tiedlora::BatchPlan<P>& plan) {
    const Stream stream = backend_->stream();
    synchronize(stream);
    snapshot_ = plan.snapshot();  // whose adapters live as long as kernels may read them
    tokens_ = plan.tokens(), size_ = plan.size();
    std::vector<Index> rows(plan.rows(), plan.rows() + size_);
    rows.insert(rows.end(), plan.idle().begin(), plan.idle().end());
    std::vector<float> scales(plan.scales(), plan.scales() + size_);
    scales.resize(rows.size(), 1);
    const std::vector<const P*> arrays(plan.trainables(), plan.trainables() + size_);
    modules_.clear();
    std::vector<Product<P>> table;
    for (Index m = 0; m < plan.snapshot().modules().size(); ++m) add_module(plan, m, table);
    rows_.assign(rows, stream), scales_.assign(scales, stream), arrays_.assign(arrays, stream);
    table_.assign(table, stream);
    synchronize(stream);
  }

  Index size() const { return size_; }  ///< columns of h

  /// h = A x of the host's module m; x by token, h a column for each use of an adapter.
  template <class X>
  void shrink(Index m, const Tokens<const X>& x, const Tokens<float>& h) const {
    const Tokens<const X> gathered = by_rows("x", x);
    for (const Round& r : modules_[static_cast<std::size_t>(m)].shrinks) {
      for (const Product<P>& p : r.dense) backend_->launches().shrink_tokens(p, gathered, h, nullptr);
      if (r.count > 0)
        backend_->launches().shrink_few(Products<P>{.table = table_.data() + r.first}, r.count,
                                        r.largest_rank, r.features, gathered, {.of = {h}}, nullptr);
    }
  }
  /// y += c ∘ v ∘ B (u ∘ h) with each token's adapter. Options: scale, overwrite.
  template <class Y>
  void expand(Index m, const Tokens<const float>& h, const Tokens<Y>& y, const CallOptions& o = {}) const {
    const Tokens<Y> gathered = by_rows("y", y);
    const auto scale = static_cast<float>(o.scale);
    for (const Round& r : modules_[static_cast<std::size_t>(m)].expands) {
      for (Product<P> p : r.dense) {
        p.scale *= scale, p.overwrite = p.overwrite && o.overwrite;
        backend_->launches().expand_tokens(p, h, gathered, scales_.data(), arrays_.data());
      }
      const int count = r.count + (o.overwrite ? r.zeros : 0);
      if (count > 0)
        backend_->launches().expand_few(
            Products<P>{.table = table_.data() + r.first}, count, r.features, Inputs<float>{.of = {h}},
            Outputs<Y>{.of = {gathered}, .wide = {is_wide(gathered)}}, scales_.data(),
            static_cast<const P* const*>(arrays_.data()), scale, o.overwrite);
    }
  }

 private:
  /// What may run at once: no token is in it twice.
  struct Round {
    std::vector<Product<P>> dense;  // runs of many tokens
    Index first = 0;                // in the table
    int count = 0, zeros = 0;       // products, then those that only set y to zero
    int largest_rank = 0, features = 0;
  };
  struct Module {
    std::vector<Round> shrinks, expands;
  };
  using Run = typename tiedlora::BatchPlan<P>::Run;

  template <class T>
  Tokens<T> by_rows(const char* what, Tokens<T> tokens) const {
    if (tokens.rows || tokens.pointers || tokens.count != tokens_)
      tiedlora::detail::fail(what, " of a batch must be ", tokens_,
                             " tokens at a stride, without rows or pointers");
    tokens.rows = rows_.data();
    return tokens;
  }

  /// Into the round, a run of many tokens by itself, one of few in parts of eight.
  static void add(Round& round, Product<P> p, const Run& run, bool is_alone, std::vector<Product<P>>& few) {
    round.largest_rank = std::max(round.largest_rank, p.rank);
    round.features = std::max(round.features, p.features);
    p.begin = static_cast<int>(run.begin), p.count = static_cast<int>(run.end - run.begin);
    constexpr int many = 32;
    if (p.rank > 0 && (p.count > many || is_alone)) return round.dense.push_back(p);
    for (const int end = p.begin + p.count; p.begin < end; p.begin += few_tokens) {
      p.count = std::min(few_tokens, end - p.begin);
      few.push_back(p);
    }
  }
  static void close(Round& round, std::vector<Product<P>>& few, std::vector<Product<P>>& zeros,
                    std::vector<Round>& rounds, std::vector<Product<P>>& table) {
    round.first = static_cast<Index>(table.size());
    round.count = static_cast<int>(few.size()), round.zeros = static_cast<int>(zeros.size());
    table.insert(table.end(), few.begin(), few.end());
    table.insert(table.end(), zeros.begin(), zeros.end());
    few.clear(), zeros.clear();
    rounds.push_back(std::move(round));
    round = Round();
  }

  void add_module(const tiedlora::BatchPlan<P>& plan, Index m, std::vector<Product<P>>& table) {
    Module module;
    const tiedlora::Module& host = plan.snapshot().modules()[m];
    Round round;
    std::vector<Product<P>> few, zeros;
    for (const Run& run : plan.shrink_runs()) {
      const Factors<const P> f = run.adapter->factors(m);
      if (f.rank > 0) add(round, product_of_A(f, 0), run, plan.shrink_runs().size() == 1, few);
    }
    close(round, few, zeros, module.shrinks, table);

    std::vector<bool> seen(static_cast<std::size_t>(tokens_));
    for (const Run& run : plan.expand_runs()) {
      bool again = false;
      for (Index i = run.begin; i < run.end; ++i) again |= seen[static_cast<std::size_t>(plan.rows()[i])];
      if (again) {
        close(round, few, zeros, module.expands, table);
        seen.assign(seen.size(), false);
      }
      for (Index i = run.begin; i < run.end; ++i) seen[static_cast<std::size_t>(plan.rows()[i])] = true;
      const Factors<const P> f = run.adapter->factors(m);
      Product<P> p = product_of_B(f, 0, {.overwrite = run.is_first});
      p.features = static_cast<int>(host.out_features);
      if (f.rank == 0) {
        if (run.is_first) add(round, p, run, false, zeros);
        continue;
      }
      if (run.has_tenants) {
        const auto& placement = *run.adapter->placement;
        const auto offset = [&](tiedlora::FactorId id) {
          const auto* group = placement.layout.group(id, placement[m]);
          return group && placement.layout.is_trained(id) ? group->offset : -1;
        };
        p.own_rank_scale = offset(tiedlora::FactorId::u), p.own_feature_scale = offset(tiedlora::FactorId::v);
      }
      add(round, p, run, plan.expand_runs().size() == 1, few);
    }
    const Product<P> zero = {.features = static_cast<int>(host.out_features), .overwrite = true};
    add(round, zero, {.begin = size_, .end = size_ + static_cast<Index>(plan.idle().size())}, false, zeros);
    close(round, few, zeros, module.expands, table);
    modules_.push_back(std::move(module));
  }

  const CudaBackend* backend_;
  tiedlora::AdapterSnapshot<P> snapshot_;
  Index tokens_ = 0, size_ = 0;
  Array<Index> rows_;
  Array<float> scales_;
  Array<const P*> arrays_;
  Array<Product<P>> table_;
  std::vector<Module> modules_;
};

}  // namespace gpu_cuda
