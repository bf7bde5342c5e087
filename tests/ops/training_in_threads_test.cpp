// For ThreadSanitizer (script/test tsan): adapters in use by many threads while others are added, swapped and
// removed.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <barrier>
#include <memory>
#include <thread>
#include <tiedlora/ops.hpp>
#include <tiedlora/serving.hpp>
#include <vector>

#include "support/bits.hpp"
#include "support/models.hpp"
#include "support/reference.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

constexpr Index width = 40, count = 6, modules = 4;

// Two sorts of adapters: LoRA of rank 3, and tenants over one A and B. Of each sort two that differ in their
// values, and what these make of one x at each module.
class Kinds {
 public:
  static constexpr std::size_t size = 4;

  Kinds() : x_(Dice(1).matrix<float>(width, count)) {
    Dice dice(2);
    const Layout lora(host(), schemes::lora(), 3), tenant(host(), schemes::vera(1), 5);
    Adapter<float> base(tenant);
    base.initialize(1);
    const auto frozen = base.share_frozen();
    for (std::size_t kind = 0; kind < size; ++kind) {
      Adapter<float> adapter = kind % 2 ? Adapter<float>(tenant, frozen) : Adapter<float>(lora);
      dice.fill(adapter.trainable());
      adapters_[kind] = std::make_shared<const Adapter<float>>(std::move(adapter));
      for (Index m = 0; m < modules; ++m) {
        expected_[kind].push_back(Matrix<float>::Zero(width, count));
        forward(adapters_[kind]->factors(m), x_, expected_[kind].back());
      }
    }
  }

  static ModuleList host() { return one_kind(modules, width, width); }
  const Matrix<float>& x() const { return x_; }
  const Adapter<float>& operator[](std::size_t kind) const { return *adapters_[kind]; }

  // Another adapter of that kind: parameters of its own, except those that tenants share.
  Adapter<float> another(std::size_t kind) const { return *adapters_[kind]; }

  bool made(std::size_t kind, Index m, Index t, const Matrix<float>& y) const {
    return same_bits<Matrix<float>>(expected_[kind][static_cast<std::size_t>(m)].col(t), y.col(t));
  }

 private:
  Matrix<float> x_;
  std::array<std::shared_ptr<const Adapter<float>>, size> adapters_;
  std::array<std::vector<Matrix<float>>, size> expected_;
};

// What a host knows of its adapters: by slot, the id and in its lowest bits the kind.
class Slots {
 public:
  static constexpr std::size_t size = 8;
  struct Entry {
    AdapterId id;
    std::size_t kind;
  };
  void set(std::size_t slot, Entry e) { slots_[slot] = e.id * 4 + static_cast<AdapterId>(e.kind); }
  Entry get(std::size_t slot) const {
    const AdapterId value = slots_[slot];
    return {value / 4, static_cast<std::size_t>(value % 4)};
  }

 private:
  std::array<std::atomic<AdapterId>, size> slots_ = {};
};

TEST(Threads, OneAdapterServesManyThreadsAtOnce) {
  const Kinds kinds;
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int n = 0; n < 4; ++n)
    threads.emplace_back([&] {
      for (int again = 0; again < 20; ++again)
        for (Index m = 0; m < modules; ++m) {
          Matrix<float> y = Matrix<float>::Zero(width, count);
          forward(kinds[0].factors(m), kinds.x(), y);
          for (Index t = 0; t < count; ++t) wrong += !kinds.made(0, m, t, y);
        }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

// Requests of random adapters, each batch in two threads with a barrier between the stages.
class Team {
 public:
  Team(const Kinds& kinds, const AdapterSet<float>& set, const Slots& slots, std::uint64_t seed)
      : kinds_(kinds), set_(set), slots_(slots), dice_(seed) {}

  void run(int batches) {
    std::thread other([&] { work(1, batches); });
    work(0, batches);
    other.join();
  }
  int served = 0, wrong = 0;

 private:
  void work(Index ith, int batches) {
    for (int n = 0; n < batches; ++n) {
      if (ith == 0) make_plan();
      barrier_.arrive_and_wait();
      for (Index m = 0; m < modules; ++m) {
        thread_stages(
            Slice{ith, 2}, [&] { barrier_.arrive_and_wait(); },
            [&](Slice slice) { shrink(plan_, m, kinds_.x(), h_, {.slice = slice}); },
            [&](Slice slice) { expand(plan_, m, h_, y_, {.overwrite = true, .slice = slice}); });
        barrier_.arrive_and_wait();
        if (ith == 0) check(m);
        barrier_.arrive_and_wait();
      }
    }
  }

  void make_plan() {
    const AdapterSnapshot<float> snapshot = set_.snapshot();
    for (Index t = 0; t < count; ++t) {
      Slots::Entry& entry = entries_[static_cast<std::size_t>(t)];
      entry = slots_.get(static_cast<std::size_t>(dice_.integer(0, Slots::size - 1)));
      // It may have been removed since.
      tokens_[static_cast<std::size_t>(t)] = {snapshot.contains(entry.id) ? entry.id : no_adapter};
    }
    plan_.assign(snapshot, tokens_);
    h_.resize(plan_.max_rank(), plan_.size());
  }

  void check(Index m) {
    for (Index t = 0; t < count; ++t) {
      const auto at = static_cast<std::size_t>(t);
      const bool has_adapter = tokens_[at].adapter != no_adapter;
      wrong += has_adapter ? !kinds_.made(entries_[at].kind, m, t, y_) : !y_.col(t).isZero(0);
      served += has_adapter;
    }
  }

  const Kinds& kinds_;
  const AdapterSet<float>& set_;
  const Slots& slots_;
  Dice dice_;
  std::barrier<> barrier_{2};
  std::vector<TokenAdapter> tokens_ = std::vector<TokenAdapter>(count);
  std::array<Slots::Entry, count> entries_ = {};
  BatchPlan<float> plan_;
  Matrix<float> h_, y_ = Matrix<float>::Zero(width, count);
};

TEST(Threads, BatchesRunWhileAdaptersAreAddedSwappedAndRemoved) {
  const Kinds kinds;
  AdapterSet<float> set(Kinds::host());
  Slots slots;
  for (std::size_t slot = 0; slot < Slots::size; ++slot)
    slots.set(slot, {set.add(kinds.another(slot % Kinds::size)), slot % Kinds::size});

  Team one(kinds, set, slots, 3), two(kinds, set, slots, 4);
  std::thread serves_one([&] { one.run(60); }), serves_two([&] { two.run(60); });
  Dice dice(5);
  for (int n = 0; n < 300; ++n) {
    const auto slot = static_cast<std::size_t>(dice.integer(0, Slots::size - 1));
    const auto kind = static_cast<std::size_t>(dice.integer(0, Kinds::size - 1));
    const AdapterId old = slots.get(slot).id;
    slots.set(slot, {set.add(kinds.another(kind)), kind});
    EXPECT_TRUE(set.remove(old));
    std::this_thread::yield();
  }
  serves_one.join(), serves_two.join();
  EXPECT_EQ(one.wrong + two.wrong, 0);
  EXPECT_GT(one.served + two.served, 0);
  EXPECT_EQ(set.size(), Index{Slots::size});
}

}  // namespace
}  // namespace tiedlora_test
