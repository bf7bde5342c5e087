// The parts of every slicing of the four stages add up to the whole, bit for bit, in any order and at once.
#include <gtest/gtest.h>

#include <iostream>
#include <limits>
#include <thread>

#include "support/bits.hpp"
#include "support/deck.hpp"
#include "support/guarded.hpp"
#include "support/module_run.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using Eigen::bfloat16;
using Eigen::half;

template <class T>
Matrix<T> garbage(Index rows, Index columns) {
  return Matrix<T>::Constant(rows, columns, static_cast<T>(std::numeric_limits<float>::quiet_NaN()));
}

template <class P, class X, class Y>
struct Results {
  using Acc = accumulator_t<P>;
  explicit Results(const ModuleRun<P, X, Y>& run)
      : h(garbage<Acc>(run.factors().rank, run.count)), y(run.y) {}
  void expect_equal(const Results& whole) const {
    EXPECT_TRUE(same_bits(h, whole.h)) << "h";
    EXPECT_TRUE(same_bits(y, whole.y)) << "y";
  }

  Matrix<Acc> h;
  Matrix<Y> y;
};

// Both stages of forward. run_all(half) calls half(ith) for every part.
template <class P, class X, class Y, class RunAll>
Results<P, X, Y> by_halves(const ModuleRun<P, X, Y>& run, Index nth, const RunAll& run_all) {
  Results<P, X, Y> r(run);
  const auto f = run.factors();
  run_all([&](Index ith) { shrink(f, run.x, r.h, run.part(ith, nth)); });
  run_all([&](Index ith) { expand(f, r.h, r.y, run.part(ith, nth)); });
  return r;
}

template <class P, class X, class Y>
void expect_slices_agree(const ModuleRun<P, X, Y>& run) {
  SCOPED_TRACE(run.text);
  const CrashNote note(run.text);
  const auto in_order = [](Index nth) {
    return [nth](const auto& half) {
      for (Index ith = 0; ith < nth; ++ith) half(ith);
    };
  };
  const auto backwards = [](Index nth) {
    return [nth](const auto& half) {
      for (Index ith = nth; ith-- > 0;) half(ith);
    };
  };
  const Results<P, X, Y> whole = by_halves(run, 1, in_order(1));
  for (Index nth = 1; nth <= 9 && !testing::Test::HasFailure(); ++nth) {
    SCOPED_TRACE("parts: " + std::to_string(nth));
    const auto results = nth % 2 ? by_halves(run, nth, in_order(nth)) : by_halves(run, nth, backwards(nth));
    results.expect_equal(whole);
  }
}

template <class P, class X, class Y>
void sweep(std::uint64_t seed, int cases) {
  std::cout << "seed " << seed << ", for " << kernel_isa() << std::endl;
  Dice dice(seed);
  Deck<Index> in(widths()), out(widths());
  Deck<Index> tokens(numbers(1, 20) + std::vector<Index>{31, 32, 33, 40, 63, 64, 65, 100, 128});
  Deck<Index> ranks(numbers(1, 17) + std::vector<Index>{20, 32, 33});
  Deck<std::string> present(present_factors);
  for (int n = 0; n < cases && !testing::Test::HasFailure(); ++n) {
    const std::string factors = present.draw(dice);
    ModuleRun<P, X, Y> run(
        {.in = in.draw(dice), .out = out.draw(dice), .rank = ranks.draw(dice), .present = factors},
        tokens.draw(dice), ++seed);
    if (dice.integer(0, 9) == 0) run.options.dropout = {.probability = 0.4, .seed = seed, .first_token = 3};
    expect_slices_agree(run);
  }
}

// How the work is shared out does not depend on the types: some suffice.
TEST(Slices, Float) { sweep<float, float, float>(1'000, 120); }
TEST(Slices, Narrow) {
  sweep<half, half, half>(2'000, 40);
  sweep<bfloat16, bfloat16, bfloat16>(3'000, 40);
}
TEST(Slices, Mixed) {
  sweep<float, bfloat16, half>(4'000, 40);
  sweep<bfloat16, float, float>(5'000, 40);
}
TEST(Slices, Double) { sweep<double, double, double>(10'000, 30); }

TEST(Slices, ManyTokens) {
  constexpr std::uint64_t seed = 11'000;
  for (const Index tokens : {127, 128, 129, 255, 256, 257, 300, 384, 511, 512, 513, 600}) {
    expect_slices_agree(ModuleRun<float, float, float>({.in = 33, .out = 50, .rank = 5}, tokens, seed));
    expect_slices_agree(
        ModuleRun<bfloat16, bfloat16, bfloat16>({.in = 18, .out = 17, .rank = 3}, tokens, seed));
  }
}

TEST(Slices, BeyondTheBlocksOfFeaturesRanksAndTokens) {
  std::uint64_t seed = 12'000;
  const auto expect_agreement = [&seed](const OneModule& what, Index tokens) {
    expect_slices_agree(ModuleRun<float, float, float>(what, tokens, ++seed));
  };
  expect_agreement({.in = 1100, .out = 1300, .rank = 64}, 7);
  expect_agreement({.in = 1100, .out = 1300, .rank = 4}, 300);
  expect_agreement({.in = 4100, .out = 9, .rank = 3}, 18);
  expect_agreement({.in = 9, .out = 4100, .rank = 3}, 35);
  for (const Index tokens : {1, 3, 70}) {
    expect_agreement({.in = 40, .out = 30, .rank = 100}, tokens);
    expect_agreement({.in = 11, .out = 13, .rank = 256}, tokens);
    expect_agreement({.in = 11, .out = 13, .rank = 300}, tokens);
    expect_agreement({.in = 11, .out = 13, .rank = 600}, tokens);
  }
}

// Slices at once, as a host runs them, with its barrier between the stages: a data race here is one in the
// library.
template <class T>
void expect_threads_agree(Index count) {
  const ModuleRun<T, T, T> run({.in = 70, .out = 90, .rank = 6}, count, 8000);
  constexpr Index nth = 4;
  const auto at_once = [](const auto& half) {
    std::vector<std::thread> threads;
    for (Index ith = 0; ith < nth; ++ith) threads.emplace_back([&half, ith] { half(ith); });
    for (std::thread& thread : threads) thread.join();
  };
  const Results<T, T, T> whole = by_halves(run, 1, [](const auto& half) { half(0); });
  by_halves(run, nth, at_once).expect_equal(whole);
}

TEST(Slices, InThreads) {
  for (const Index count : {1, 9, 200}) {
    expect_threads_agree<float>(count);
    expect_threads_agree<bfloat16>(count);
    expect_threads_agree<double>(count);
  }
}

}  // namespace
}  // namespace tiedlora_test
