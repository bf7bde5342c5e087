// The threads of trainer and engine alike: they run one piece of work at a time, split by (ith, nth), and may
// meet at barriers within it.
#pragma once

#include <algorithm>    // max, min
#include <atomic>       // atomic
#include <cstdint>      // uint32_t
#include <exception>    // exception_ptr
#include <memory>       // addressof
#include <thread>       // thread
#include <type_traits>  // remove_reference
#include <vector>       // vector

#include "config.hpp"
#include "profile.hpp"
#include "range.hpp"

namespace llama {

/// Where threads wait for each other within a piece of work. They look for a while before they yield, and
/// never sleep: between two layers the others are microseconds away.
class Barrier {
 public:
  explicit Barrier(int threads) : threads_(threads) {}

  void wait() {
    const std::uint32_t round = round_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == threads_ - 1) {
      arrived_.store(0, std::memory_order_relaxed);
      round_.store(round + 1, std::memory_order_release);
      return;
    }
    for (int look = 0; round_.load(std::memory_order_acquire) == round; ++look)
      if (look >= 2000) std::this_thread::yield();
  }

 private:
  const int threads_;
  std::atomic<int> arrived_ = 0;
  std::atomic<std::uint32_t> round_ = 0;
};

/// What a thread knows of itself in a piece of work with barriers.
struct Member {
  Index ith, nth;
  Barrier* all;

  void barrier() const { all->wait(); }
  /// This thread's part of n things.
  Range part(Index n) const { return {n * ith / nth, n * (ith + 1) / nth}; }
  /// The same in whole units, except the last.
  Range part(Index n, Index unit) const {
    const Range units = part((n + unit - 1) / unit);
    return {std::min(n, units.begin * unit), std::min(n, units.end * unit)};
  }
};

/// The caller is thread 0; `threads` - 1 others sleep between calls. Calls must not be nested or made from
/// several threads at once.
class ThreadPool {
 public:
  explicit ThreadPool(int threads)
      : barrier_(threads), errors_(static_cast<std::size_t>(std::max(threads, 1))) {
    if (threads < 1)
      throw tiedlora::Error("thread pool: " + std::to_string(threads) + " threads asked for; use at least 1");
    try {
      for (int ith = 1; ith < threads; ++ith) workers_.emplace_back([this, ith] { serve(ith); });
    } catch (...) {
      stop();
      throw;
    }
  }
  ~ThreadPool() { stop(); }
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(errors_.size()); }

  /// Runs work(ith, nth) for ith = 0 … nth-1 = size()-1 at once and returns when all are done: a barrier. If
  /// any throws, the exception of the lowest ith is thrown here, after the barrier.
  template <class Work>
  void parallel(Work&& work) {
    call_ = [](void* state, int ith, int nth) {
      (*static_cast<std::remove_reference_t<Work>*>(state))(ith, nth);
    };
    state_ = const_cast<void*>(static_cast<const void*>(std::addressof(work)));
    running_.store(size() - 1, std::memory_order_relaxed);
    round_.fetch_add(1, std::memory_order_release);
    round_.notify_all();
    run(0);
    wait_while(running_, [](int n) { return n > 0; });
    for (std::exception_ptr& error : errors_)
      if (error) {
        const std::exception_ptr first = error;
        for (std::exception_ptr& e : errors_) e = nullptr;
        std::rethrow_exception(first);
      }
  }

  /// Runs work(Member) likewise; the threads may meet at the member's barriers, as often as they like, if all
  /// do. An exception ends the program: the others would wait for ever at their next barrier.
  template <class Work>
  void with_barriers(const Work& work) {
    parallel([&](int ith, int nth) noexcept { work(Member{ith, nth, &barrier_}); });
  }

 private:
  void run(int ith) {
    try {
      call_(state_, ith, size());
    } catch (...) {
      errors_[static_cast<std::size_t>(ith)] = std::current_exception();
    }
  }

  void serve(int ith) {
    for (std::uint32_t seen = 0;;) {
      seen = wait_while(round_, [seen](std::uint32_t round) { return round == seen; });
      if (stopping_.load(std::memory_order_relaxed)) return;
      run(ith);
      if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) running_.notify_one();
    }
  }

  void stop() {
    stopping_.store(true, std::memory_order_relaxed);
    round_.fetch_add(1, std::memory_order_release);
    round_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }

  // Looks a little while before it sleeps: most pauses between two pieces of work are shorter than a wake-up.
  // It yields meanwhile, so that on a busy machine the thread that everyone waits for can run.
  template <class Value, class Condition>
  static Value wait_while(const std::atomic<Value>& value, Condition waiting) {
    const Timed timed(Part::waiting);
    Value now = value.load(std::memory_order_acquire);
    for (int look = 0; waiting(now) && look < 300; ++look) {
      if (look >= 100) std::this_thread::yield();
      now = value.load(std::memory_order_acquire);
    }
    while (waiting(now)) {
      value.wait(now, std::memory_order_acquire);
      now = value.load(std::memory_order_acquire);
    }
    return now;
  }

  Barrier barrier_;
  void (*call_)(void*, int, int) = nullptr;
  void* state_ = nullptr;
  std::atomic<std::uint32_t> round_ = 0;  // which piece of work; its change wakes the workers
  std::atomic<int> running_ = 0;
  std::atomic<bool> stopping_ = false;
  std::vector<std::exception_ptr> errors_;  // by ith
  std::vector<std::thread> workers_;
};

/// Runs work(ith, task) for all tasks below `count` on the whole pool. Whoever is free takes the next one, so
/// that a thread that another program holds up delays the others by one task at most.
template <class Work>
void for_tasks(ThreadPool& pool, Index count, const Work& work) {
  std::atomic<Index> next = 0;
  pool.parallel([&](int ith, int /*nth*/) {
    for (Index task = next.fetch_add(1); task < count; task = next.fetch_add(1)) work(ith, task);
  });
}

/// Runs work(Block) over `count` tokens on the whole pool, block by block. Which blocks there are does not
/// depend on the threads.
template <class Work>
void for_tokens(ThreadPool& pool, Index count, const Work& work) {
  const Index blocks = token_blocks(count);
  for_tasks(pool, blocks, [&](int, Index block) { work(token_block(count, block)); });
}

}  // namespace llama
