// A batch in which every token has an adapter of its own: a BatchPlan on the device, uploaded once for all
// modules of all layers.
//
// Tokens that go through one A, or one B, are one dense product, whatever adapters they belong to: of tenants
// over one A, B only u and v are each token's own, and gathered. Adapters with matrices of their own are cut
// into pieces of up to eight tokens, and one launch goes through all of them. A piece says where its
// adapter's arrays are; where a module is in these, all adapters of a layout have in common, and so it goes
// with the launch, for up to four layouts. A captured graph holds the launches of the plan that it was
// captured with.
#pragma once

#include <algorithm>  // find_if, max, min
#include <cstddef>    // size_t
#include <utility>    // move
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
  /// check_finite). If that throws, for want of memory, the batch has no tokens.
  void assign(const tiedlora::BatchPlan<P>& plan) {
    const Stream stream = backend_->stream();
    synchronize(stream);
    tokens_ = size_ = 0, bytes_ = 0;
    shrinks_.clear(), expands_.clear();
    snapshot_ = plan.snapshot();  // whose adapters live as long as kernels may read them
    std::vector<Index> rows(plan.rows(), plan.rows() + plan.size());
    rows.insert(rows.end(), plan.idle().begin(), plan.idle().end());
    std::vector<float> scales(plan.scales(), plan.scales() + plan.size());
    scales.resize(rows.size(), 1);
    const std::vector<const P*> arrays(plan.trainables(), plan.trainables() + plan.size());
    std::vector<Piece<P>> pieces;
    std::vector<Round> shrinks = rounds_of_shrink(plan, pieces), expands = rounds_of_expand(plan, pieces);
    rows_.assign(rows, stream), scales_.assign(scales, stream), arrays_.assign(arrays, stream);
    pieces_.assign(pieces, stream);
    synchronize(stream);
    tokens_ = plan.tokens(), size_ = plan.size();
    bytes_ = rows.size() * (sizeof(Index) + sizeof(float)) + arrays.size() * sizeof(const P*) +
             pieces.size() * sizeof(Piece<P>);
    shrinks_ = std::move(shrinks), expands_ = std::move(expands);
  }

  Index size() const { return size_; }          ///< columns of h
  std::size_t bytes() const { return bytes_; }  ///< that the last plan was, whatever the number of modules

  /// h = A x of the host's module m; x by token, h a column for each use of an adapter.
  template <class X>
  void shrink(Index m, const Tokens<const X>& x, const Tokens<float>& h) const {
    const Tokens<const X> gathered = by_rows("x", x);
    for (const Round& r : shrinks_) {
      for (const Run& run : r.dense) {
        Product<P> p = product_of_A(run.adapter->factors(m), 0);
        p.begin = static_cast<int>(run.begin), p.count = static_cast<int>(run.end - run.begin);
        backend_->launches().shrink_tokens(p, gathered, h, nullptr);
      }
      Products<P> products = {.pieces = pieces_.data() + r.first};
      int rank = 0;
      for (std::size_t n = 0; n < r.layouts.size(); ++n) {
        const Resident& adapter = *r.layouts[n];
        const Factors<const P> f = adapter.factors(m);
        products.some[n] = product_of_A(f, 0);
        products.offsets[n] = offsets_of(adapter, tiedlora::FactorId::A, f.A);
        rank = std::max(rank, products.some[n].rank);
      }
      if (r.count > 0 && rank > 0)
        backend_->launches().shrink_few(products, r.count, rank, static_cast<int>(x.width), gathered,
                                        {.of = {h}}, nullptr);
    }
  }
  /// y += c ∘ v ∘ B (u ∘ h) with each token's adapter. Options: scale, overwrite.
  template <class Y>
  void expand(Index m, const Tokens<const float>& h, const Tokens<Y>& y, const CallOptions& o = {}) const {
    const Tokens<Y> gathered = by_rows("y", y);
    const int features = static_cast<int>(y.width);
    for (const Round& r : expands_) {
      for (const Run& run : r.dense) {
        Product<P> p = product_of_expand(*run.adapter, m, features, o, run.has_tenants);
        p.begin = static_cast<int>(run.begin), p.count = static_cast<int>(run.end - run.begin);
        p.overwrite = o.overwrite && run.is_first;
        if (p.rank > 0 || p.overwrite)
          backend_->launches().expand_tokens(p, h, gathered, scales_.data(), arrays_.data());
      }
      Products<P> products = {.pieces = pieces_.data() + r.first};
      bool adds = false;
      for (std::size_t n = 0; n < r.layouts.size(); ++n) {
        const Resident& adapter = *r.layouts[n];
        const Factors<const P> f = adapter.factors(m);
        products.some[n] = product_of_expand(adapter, m, features, o, true);
        products.offsets[n] = offsets_of(adapter, tiedlora::FactorId::B, f.B);
        if (f.u && !is_trained(adapter, tiedlora::FactorId::u))
          products.offsets[n].rank_scale = f.u - adapter.frozen;
        if (f.v && !is_trained(adapter, tiedlora::FactorId::v))
          products.offsets[n].feature_scale = f.v - adapter.frozen;
        adds = adds || f.rank > 0;
      }
      for (std::size_t n = r.layouts.size(); n < most_modules; ++n) products.some[n].features = features;
      const int count = r.count + (o.overwrite ? r.zeros : 0);
      if (count > 0 && (adds || o.overwrite))
        backend_->launches().expand_few(products, count, features, Inputs<float>{.of = {h}},
                                        Outputs<Y>{.of = {gathered}}, scales_.data(),
                                        static_cast<const P* const*>(arrays_.data()), o.overwrite);
    }
  }

 private:
  using Run = typename tiedlora::BatchPlan<P>::Run;
  using Resident = tiedlora::detail::Resident<P>;

  /// What may run at once: no token is in it twice.
  struct Round {
    std::vector<Run> dense;                // of many tokens
    Index first = 0;                       // of its pieces
    int count = 0, zeros = 0;              // pieces, then those that only set y to zero
    std::vector<const Resident*> layouts;  // one adapter of each that the pieces have
  };

  template <class T>
  Tokens<T> by_rows(const char* what, Tokens<T> tokens) const {
    if (tokens.rows || tokens.pointers || tokens.count != tokens_)
      tiedlora::detail::fail(what, " of a batch must be ", tokens_,
                             " tokens at a stride, without rows or pointers");
    tokens.rows = rows_.data();
    return tokens;
  }

  static bool is_trained(const Resident& adapter, tiedlora::FactorId id) {
    return adapter.placement->layout.is_trained(id);
  }
  static Offsets offsets_of(const Resident& adapter, tiedlora::FactorId id, const P* matrix) {
    const bool trained = is_trained(adapter, id);
    return {.matrix = matrix ? matrix - (trained ? adapter.trainable : adapter.frozen) : 0,
            .is_trained = trained};
  }
  /// Of the host's module m, with `features` features. own_scales: trained u and v are each token's.
  static Product<P> product_of_expand(const Resident& adapter, Index m, int features, const CallOptions& o,
                                      bool own_scales) {
    const Factors<const P> f = adapter.factors(m);
    Product<P> p = product_of_B(f, 0, o);
    p.features = features;
    if (!own_scales || f.rank == 0) return p;
    const auto take = [&](tiedlora::FactorId id, const P*& scale, Index& own) {
      if (!scale || !is_trained(adapter, id)) return;
      own = scale - adapter.trainable;
      scale = nullptr;
    };
    take(tiedlora::FactorId::u, p.rank_scale, p.own_rank_scale);
    take(tiedlora::FactorId::v, p.feature_scale, p.own_feature_scale);
    return p;
  }

  /// Which of the round's layouts the run's is, there or new; most_modules: there is no room for it.
  static int layout_of(Round& round, const Run& run) {
    const auto found = std::find_if(round.layouts.begin(), round.layouts.end(), [&](const Resident* adapter) {
      return adapter->placement == run.adapter->placement;
    });
    const auto n = static_cast<int>(found - round.layouts.begin());
    if (found == round.layouts.end() && n < most_modules) round.layouts.push_back(run.adapter);
    return n;
  }
  static bool is_dense(const Run& run, std::size_t runs) {
    constexpr Index many = 32;
    return run.end - run.begin > many || runs == 1;
  }
  static void begin(std::vector<Round>& rounds, const std::vector<Piece<P>>& pieces) {
    rounds.emplace_back();
    rounds.back().first = static_cast<Index>(pieces.size());
  }
  /// Appends [begin, end) in parts of eight; returns how many.
  static int cut(Piece<P> piece, Index begin, Index end, std::vector<Piece<P>>& pieces) {
    int count = 0;
    for (Index i = begin; i < end; i += few_tokens, ++count) {
      piece.begin = static_cast<int>(i), piece.count = static_cast<int>(std::min<Index>(few_tokens, end - i));
      pieces.push_back(piece);
    }
    return count;
  }
  /// Into the last round, or where there is no room for another layout into one more.
  static void add(const Run& run, std::size_t runs, std::vector<Round>& rounds,
                  std::vector<Piece<P>>& pieces) {
    if (is_dense(run, runs)) return rounds.back().dense.push_back(run);
    int layout = layout_of(rounds.back(), run);
    if (layout == most_modules) {
      begin(rounds, pieces);
      layout = layout_of(rounds.back(), run);
    }
    rounds.back().count += cut({.trained = run.adapter->trainable,
                                .frozen = run.adapter->frozen,
                                .layout = layout,
                                .overwrite = run.is_first},
                               run.begin, run.end, pieces);
  }

  static std::vector<Round> rounds_of_shrink(const tiedlora::BatchPlan<P>& plan,
                                             std::vector<Piece<P>>& pieces) {
    std::vector<Round> rounds;
    begin(rounds, pieces);
    for (const Run& run : plan.shrink_runs()) add(run, plan.shrink_runs().size(), rounds, pieces);
    return rounds;
  }
  static std::vector<Round> rounds_of_expand(const tiedlora::BatchPlan<P>& plan,
                                             std::vector<Piece<P>>& pieces) {
    std::vector<Round> rounds;
    begin(rounds, pieces);
    std::vector<bool> seen(static_cast<std::size_t>(plan.tokens()));
    for (const Run& run : plan.expand_runs()) {
      bool again = false;
      for (Index i = run.begin; i < run.end; ++i) again |= seen[static_cast<std::size_t>(plan.rows()[i])];
      if (again) {
        begin(rounds, pieces);
        seen.assign(seen.size(), false);
      }
      for (Index i = run.begin; i < run.end; ++i) seen[static_cast<std::size_t>(plan.rows()[i])] = true;
      add(run, plan.expand_runs().size(), rounds, pieces);
    }
    if (rounds.back().layouts.size() == most_modules) begin(rounds, pieces);
    const Piece<P> zero = {.layout = static_cast<int>(rounds.back().layouts.size()), .overwrite = true};
    rounds.back().zeros =
        cut(zero, plan.size(), plan.size() + static_cast<Index>(plan.idle().size()), pieces);
    return rounds;
  }

  const CudaBackend* backend_;
  tiedlora::AdapterSnapshot<P> snapshot_;
  Index tokens_ = 0, size_ = 0;
  std::size_t bytes_ = 0;
  Array<Index> rows_;
  Array<float> scales_;
  Array<const P*> arrays_;
  Array<Piece<P>> pieces_;
  std::vector<Round> shrinks_, expands_;
};

}  // namespace gpu_cuda
