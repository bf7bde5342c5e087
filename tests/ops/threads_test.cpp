// The stages in threads: of a pool with a parallel_for, of a host that calls back with (ith, nth), and of
// OpenMP.
#include <gtest/gtest.h>

#include <barrier>
#include <string>
#include <thread>
#include <tiedlora/adapter.hpp>
#include <tiedlora/ops.hpp>
#include <vector>

#include "support/bits.hpp"
#include "support/errors.hpp"
#include "support/one_module.hpp"
#include "support/reference.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

/// One module and its two stages.
struct Halves {
  Halves() : adapter(one_module_layout({.in = 50, .out = 70, .rank = 9})) {
    Dice dice(1);
    fill_factors(adapter, dice);
    x = dice.matrix<float>(50, 5);
    y = Matrix<float>::Zero(70, 5), expected = y, h = Matrix<float>(9, 5);
    forward(f(), x, expected, h);
    h.setZero();
  }
  Factors<const float> f() const { return std::as_const(adapter).factors(0); }
  auto first() {
    return [this](Slice slice) { shrink(f(), x, h, {.slice = slice}); };
  }
  auto second() {
    return [this](Slice slice) { expand(f(), h, y, {.slice = slice}); };
  }

  Adapter<float> adapter;
  Matrix<float> x, y, expected, h;
};

// A host's own: threads that are joined are the barrier.
template <class Body>
void threads_for(Index n, const Body& body) {
  std::vector<std::thread> threads;
  for (int i = 0; i < n; ++i) threads.emplace_back([&, i] { body(i); });
  for (std::thread& thread : threads) thread.join();
}

TEST(Parallel, ForAHostsParallelFor) {
  for (const Index nth : {1, 2, 5}) {
    Halves halves;
    parallel_stages([](Index n, const auto& body) { threads_for(n, body); }, nth, halves.first(),
                    halves.second());
    EXPECT_TRUE(same_bits(halves.y, halves.expected)) << nth;
  }
}

TEST(Parallel, ForACallbackInEachThread) {
  for (const Index nth : {1, 2, 5}) {
    Halves halves;
    std::barrier barrier(nth);
    threads_for(nth, [&](Index ith) {
      thread_stages({ith, nth}, [&] { barrier.arrive_and_wait(); }, halves.first(), halves.second());
    });
    EXPECT_TRUE(same_bits(halves.y, halves.expected)) << nth;
  }
}

TEST(Parallel, StagesRunInOrderWithABarrierBetween) {
  std::string log;
  const auto stage = [&log](char name) {
    return [&log, name](Slice slice) {
      log += name;
      log += std::to_string(slice.ith) + "/" + std::to_string(slice.nth) + " ";
    };
  };
  thread_stages({1, 3}, [&] { log += "| "; }, stage('a'), stage('b'), stage('c'));
  EXPECT_EQ(log, "a1/3 | b1/3 | c1/3 ");
  log.clear();
  const auto in_order = [&](Index n, const auto& body) {
    for (Index i = 0; i < n; ++i) body(i);
  };
  parallel_stages(in_order, 2, stage('a'), stage('b'));
  EXPECT_EQ(log, "a0/2 a1/2 b0/2 b1/2 ");
}

TEST(Parallel, WrongOperandsThrowBeforeAnyoneWaits) {
  Halves halves;
  halves.x.resize(49, 5);
  bool waited = false;
  expect_error([&] { thread_stages({0, 2}, [&] { waited = true; }, halves.first(), halves.second()); },
               {"49 features"});
  EXPECT_FALSE(waited);
}

#if defined(_OPENMP)
TEST(Parallel, ForOpenMP) {
  for (const int threads : {1, 2, 5}) {
    omp_set_num_threads(threads);
    Halves halves;
    openmp_stages(halves.first(), halves.second());
    EXPECT_TRUE(same_bits(halves.y, halves.expected)) << threads;

    // In a parallel region of the host's own.
    halves.y.setZero();
#pragma omp parallel
    {
      const auto barrier = [] {
#pragma omp barrier
      };
      thread_stages({omp_get_thread_num(), omp_get_num_threads()}, barrier, halves.first(), halves.second());
    }
    EXPECT_TRUE(same_bits(halves.y, halves.expected)) << threads;
  }
}
#endif

}  // namespace
}  // namespace tiedlora_test
