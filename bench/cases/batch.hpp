// A batch of tokens that go through several adapters, by one plan: against calls for one adapter after the
// other, and against one adapter for all tokens.
#pragma once

#include <algorithm>  // max
#include <memory>     // unique_ptr
#include <string>     // string, to_string
#include <utility>    // move
#include <vector>     // vector

#include "harness/plan.hpp"
#include "harness/problem.hpp"
#include "harness/race.hpp"
#include "harness/two_threads.hpp"

namespace bench {

/// One module and the batch's adapters for it, as they may be in a server: each with all its own factors, or
/// tenants that have A and B in common.
class MixedBatch {
 public:
  MixedBatch(const Shape& shape, Index adapters, bool tenants)
      : a_(shape), set_(make_layout(tl6.make(), 1, shape).modules()) {
    const tiedlora::Adapter<float> first = make_adapter(make_layout(tl6.make(), 1, shape));
    tiedlora::Adapter<float> base =
        tenants ? tiedlora::freeze(first, {tiedlora::FactorId::A, tiedlora::FactorId::B}) : first;
    std::vector<tiedlora::AdapterId> ids;
    for (Index n = 0; n < adapters; ++n) {
      tiedlora::Adapter<float> adapter = tenants
                                             ? tiedlora::Adapter<float>(base.layout(), base.share_frozen())
                                             : tiedlora::Adapter<float>(base.layout());
      fill(adapter.trainable(), static_cast<std::uint32_t>(10 + n));
      ids.push_back(set_.add(std::move(adapter)));
    }
    // Dealt out in turn, so that no adapter's tokens are side by side.
    tokens_.resize(static_cast<std::size_t>(shape.tokens));
    rows_.resize(ids.size());
    for (Index t = 0; t < shape.tokens; ++t) {
      tokens_[static_cast<std::size_t>(t)] = {ids[static_cast<std::size_t>(t % adapters)]};
      rows_[static_cast<std::size_t>(t % adapters)].push_back(t);
    }
    for (const tiedlora::AdapterId id : ids) factors_.push_back(set_.snapshot().factors(id, 0));
    make_plan();
  }

  /// What a host does once per batch.
  void make_plan() { plan_.assign(set_.snapshot(), tokens_); }

  void shrink_batch(tiedlora::Slice slice) { tiedlora::shrink(plan_, 0, a_.x, a_.h, {.slice = slice}); }
  void expand_batch(tiedlora::Slice slice) { tiedlora::expand(plan_, 0, a_.h, a_.y, {.slice = slice}); }

  void shrink_loop(tiedlora::Slice slice) {
    for (std::size_t n = 0; n < factors_.size(); ++n)
      tiedlora::shrink(factors_[n], gathered<const float>(a_.x, n), gathered<float>(a_.h, n),
                       {.slice = slice});
  }
  void expand_loop(tiedlora::Slice slice) {
    for (std::size_t n = 0; n < factors_.size(); ++n)
      tiedlora::expand(factors_[n], gathered<const float>(a_.h, n), gathered<float>(a_.y, n),
                       {.slice = slice});
  }

  void shrink_one(tiedlora::Slice slice) { tiedlora::shrink(factors_[0], a_.x, a_.h, {.slice = slice}); }
  void expand_one(tiedlora::Slice slice) { tiedlora::expand(factors_[0], a_.h, a_.y, {.slice = slice}); }

  Matrix<float>& y() { return a_.y; }

 private:
  template <class T, class M>
  tiedlora::Tokens<T> gathered(M& tokens, std::size_t n) {
    return {.data = tokens.data(),
            .width = tokens.rows(),
            .count = static_cast<Index>(rows_[n].size()),
            .stride = tokens.rows(),
            .rows = rows_[n].data()};
  }

  Activations<float> a_;
  tiedlora::AdapterSet<float> set_;
  std::vector<tiedlora::TokenAdapter> tokens_;
  std::vector<std::vector<Index>> rows_;  // by adapter
  std::vector<tiedlora::Factors<const float>> factors_;
  tiedlora::BatchPlan<float> plan_;
};

inline void measure_batch(Report& report, const Shape& shape, Index adapters, bool tenants, int threads,
                          const Pace& pace) {
  MixedBatch batch(shape, adapters, tenants);
  // Both stages, in one thread or in two.
  const auto run = [&](TwoThreads* two, auto first, auto second) {
    if (!two) return (batch.*first)({0, 1}), (batch.*second)({0, 1});
    two->set_task([=, &batch](int ith) {
      (batch.*first)({ith, 2});
      two->barrier();
      (batch.*second)({ith, 2});
    });
    two->run();
  };
  std::unique_ptr<TwoThreads> two = threads == 2 ? std::make_unique<TwoThreads>() : nullptr;
  const auto by_plan = [&] { run(two.get(), &MixedBatch::shrink_batch, &MixedBatch::expand_batch); };
  const auto by_loop = [&] { run(two.get(), &MixedBatch::shrink_loop, &MixedBatch::expand_loop); };
  const auto with_one = [&] { run(two.get(), &MixedBatch::shrink_one, &MixedBatch::expand_one); };

  // The library promises each token the bits that it has alone.
  const auto outcome = [&](const auto& call) {
    batch.y().setZero();
    call();
    return batch.y();
  };
  const Matrix<float> expected = outcome(by_loop);
  if (outcome(by_plan) != expected) Report::refuse("the plan and the loop over adapters give different bits");

  // The plan and the loop each after one that touches little of their memory.
  const std::vector<Times> times =
      race({waiting_runner("batch", by_plan), waiting_runner("one", with_one),
            waiting_runner("loop", by_loop), waiting_runner("plan", [&] { batch.make_plan(); })},
           pace);
  report.time("batch", times[0]);
  report.time("one", times[1]);
  report.time("loop", times[2]);
  report.time("plan", times[3]);
  report.ratio("vs_loop", times[2] / times[0]);
  report.ratio("vs_one", times[0] / times[1]);
}

inline void add_batches(Plan& plan) {
  for (const bool tenants : {false, true})
    for (const Index d : {576, 4096})
      for (const Index r : {8, 16, 32})
        for (const Index adapters : {1, 4, 16, 64, 1000})
          for (const int threads : {1, 2}) {
            if (plan.extent != Extent::full && r != 16) continue;
            if (plan.extent == Extent::quick && (d != 4096 || adapters == 1)) continue;
            if (adapters == 1000 && !tenants) continue;  // at 4096 they would be half a gigabyte
            const Shape shape = {d, d, r, std::max<Index>(adapters, 64)};
            plan.add("batch/" + std::string(tenants ? "tenants/" : "own/") + to_string(shape) +
                         "/adapters:" + std::to_string(adapters) + "/threads:" + std::to_string(threads),
                     [=](Report& report, const Pace& pace) {
                       measure_batch(report, shape, adapters, tenants, threads, pace);
                     });
          }
}

}  // namespace bench
