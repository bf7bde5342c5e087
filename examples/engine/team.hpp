// The threads of the engine: they run one function together and meet at barriers.
#pragma once

#include <algorithm>  // min
#include <atomic>     // atomic
#include <cstdint>    // uint32_t
#include <stdexcept>  // invalid_argument
#include <thread>     // thread
#include <vector>     // vector

#include "quant.hpp"

namespace engine {

struct Range {
  Index begin, end;
};

/// Where threads wait for each other. They look for a while before they yield: between two layers the others
/// are microseconds away.
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

/// What one thread of a team knows of itself.
struct Member {
  Index ith, nth;
  Barrier* all;

  void barrier() const { all->wait(); }
  /// This thread's part of n things.
  Range part(Index n) const { return {n * ith / nth, n * (ith + 1) / nth}; }
  /// The same in whole units but for the last.
  Range part(Index n, Index unit) const {
    const Range units = part((n + unit - 1) / unit);
    return {std::min(n, units.begin * unit), std::min(n, units.end * unit)};
  }
};

/// Threads that sleep until there is work. The caller is one of them.
class Team {
 public:
  explicit Team(int threads) : threads_(threads), barrier_(threads) {
    if (threads < 1 || threads > 1024)
      throw std::invalid_argument("the number of threads must be between 1 and 1024");
    for (int ith = 1; ith < threads; ++ith) workers_.emplace_back([this, ith] { serve(ith); });
  }
  ~Team() {
    work_ = nullptr;
    wake();
    for (std::thread& worker : workers_) worker.join();
  }
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int size() const { return threads_; }

  /// work(Member) on every thread; returns when all are done. An exception there ends the program: the others
  /// would wait for ever at their next barrier.
  template <class Work>
  void run(const Work& work) {
    state_ = &work;
    work_ = [](const void* state, const Member& member) noexcept {
      (*static_cast<const Work*>(state))(member);
    };
    wake();
    work_(state_, member(0));
    barrier_.wait();
  }

 private:
  Member member(int ith) { return {ith, threads_, &barrier_}; }
  void wake() {
    round_.fetch_add(1, std::memory_order_release);
    round_.notify_all();
  }
  void serve(int ith) {
    for (std::uint32_t seen = 0;;) {
      round_.wait(seen, std::memory_order_acquire);
      seen = round_.load(std::memory_order_acquire);
      if (!work_) return;
      work_(state_, member(ith));
      barrier_.wait();
    }
  }

  const int threads_;
  Barrier barrier_;
  void (*work_)(const void*, const Member&) = nullptr;
  const void* state_ = nullptr;
  std::atomic<std::uint32_t> round_ = 0;
  std::vector<std::thread> workers_;
};

}  // namespace engine
