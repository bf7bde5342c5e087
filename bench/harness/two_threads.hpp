// The calling thread and a second one on its own core, as an engine runs a layer.
#pragma once

#include <atomic>      // atomic
#include <functional>  // function
#include <stdexcept>   // runtime_error
#include <thread>      // thread
#include <utility>     // move

#include "harness/cores.hpp"

namespace bench {

/// Waiting spins: an engine's threads wait about a microsecond for each other many times per layer.
class TwoThreads {
 public:
  /// The calling thread is pinned to the first core that this program may use, see run_program; the other
  /// gets the second. Throws if there is only one.
  TwoThreads() {
    if (allowed_cores().size() < 2) throw std::runtime_error("not measured: needs two cores");
    worker_ = std::thread([this] {
      pin_this_thread(allowed_cores()[1]);
      for (unsigned done = 0;; ++done) {
        wait_until([&] { return tasks_.load(std::memory_order_acquire) != done; });
        if (!task_) return;
        task_(1);
        barrier();
      }
    });
  }
  TwoThreads(const TwoThreads&) = delete;
  TwoThreads& operator=(const TwoThreads&) = delete;
  ~TwoThreads() {
    task_ = nullptr;
    start();
    worker_.join();
  }

  /// What run() runs: task(ith) with ith 0 or 1.
  void set_task(std::function<void(int)> task) { task_ = std::move(task); }
  void run() {
    start();
    task_(0);
    barrier();
  }

  /// Waits for the other thread; to be called by both.
  void barrier() {
    const unsigned before = generation_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == 1) {
      arrived_.store(0, std::memory_order_relaxed);
      generation_.store(before + 1, std::memory_order_release);
    } else {
      wait_until([&] { return generation_.load(std::memory_order_acquire) != before; });
    }
  }

 private:
  void start() { tasks_.fetch_add(1, std::memory_order_release); }

  template <class Condition>
  static void wait_until(Condition condition) {
    while (!condition()) {
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
  }

  std::function<void(int)> task_;
  // Each in its own cache line, against false sharing.
  alignas(64) std::atomic<unsigned> tasks_ = 0;
  alignas(64) std::atomic<unsigned> arrived_ = 0;
  alignas(64) std::atomic<unsigned> generation_ = 0;
  std::thread worker_;
};

}  // namespace bench
