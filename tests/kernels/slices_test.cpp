// The parts of every slicing of the four halves add up to the whole, bit for bit, in any order and at once.
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
      : h(garbage<Acc>(run.factors().rank, run.count)),
        dh(h),
        y(run.y),
        dx(run.dx),
        gradients(run.adapter.layout()) {
    Dice(1).fill(gradients.values());
  }
  void expect_equal(const Results& whole) const {
    EXPECT_TRUE(same_bits(h, whole.h)) << "h";
    EXPECT_TRUE(same_bits(y, whole.y)) << "y";
    EXPECT_TRUE(same_bits(dh, whole.dh)) << "dh";
    EXPECT_TRUE(same_bits(dx, whole.dx)) << "dx";
    EXPECT_TRUE(same_bits<Acc>(gradients.values(), whole.gradients.values())) << "gradients";
  }

  Matrix<Acc> h, dh;
  Matrix<Y> y;
  Matrix<X> dx;
  Gradients<Acc> gradients;
};

// All four halves. run_all(half) calls half(ith) for every part. The slices of expand_backward share scratch,
// in which du waits for finish_expand_backward.
template <class P, class X, class Y, class RunAll>
Results<P, X, Y> by_halves(const ModuleRun<P, X, Y>& run, Index nth, std::span<std::byte> scratch,
                           const RunAll& run_all) {
  Results<P, X, Y> r(run);
  const auto f = run.factors();
  const auto gradients = r.gradients.factors(0);
  const auto backward_part = [&](Index ith) {
    CallOptions options = run.part(ith, nth);
    options.scratch = scratch;
    return options;
  };
  run_all([&](Index ith) { shrink(f, run.x, r.h, run.part(ith, nth)); });
  run_all([&](Index ith) { expand(f, r.h, r.y, run.part(ith, nth)); });
  run_all([&](Index ith) { expand_backward(f, r.h, run.dy, gradients, r.dh, backward_part(ith)); });
  run_all([&](Index ith) { finish_expand_backward(f, run.dy, gradients, backward_part(ith)); });
  if (gradients.A)
    run_all([&](Index ith) { shrink_backward(f, run.x, r.dh, gradients, r.dx, backward_part(ith)); });
  else
    run_all([&](Index ith) { shrink_backward(f, none, r.dh, gradients, r.dx, backward_part(ith)); });
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
  const Results<P, X, Y> whole = by_halves(run, 1, {}, in_order(1));
  for (Index nth = 1; nth <= 9 && !testing::Test::HasFailure(); ++nth) {
    SCOPED_TRACE("parts: " + std::to_string(nth));
    Guarded<std::byte> scratch(static_cast<Index>(scratch_bytes(run.factors(), run.count)), nth % 4 != 1);
    const std::span bytes(scratch.data(), static_cast<std::size_t>(scratch.size()));
    const auto results =
        nth % 2 ? by_halves(run, nth, bytes, in_order(nth)) : by_halves(run, nth, bytes, backwards(nth));
    results.expect_equal(whole);
  }
}

const std::vector<std::string> trained_factors = {"ABuv", "AB", "u", "v", "Bu", "Auv", "A", "uv"};

template <class P, class X, class Y>
void sweep(std::uint64_t seed, int cases) {
  std::cout << "seed " << seed << ", for " << kernel_isa() << std::endl;
  Dice dice(seed);
  Deck<Index> in(widths()), out(widths());
  Deck<Index> tokens(numbers(1, 20) + std::vector<Index>{31, 32, 33, 40, 63, 64, 65, 100, 128});
  Deck<Index> ranks(numbers(1, 17) + std::vector<Index>{20, 32, 33});
  Deck<std::string> trained(trained_factors);
  for (int n = 0; n < cases && !testing::Test::HasFailure(); ++n) {
    const std::string factors = trained.draw(dice);
    ModuleRun<P, X, Y> run(
        {.in = in.draw(dice), .out = out.draw(dice), .rank = ranks.draw(dice), .trained = factors},
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

// Slices at once, as a host runs them, with its barrier between the halves: a data race here is one in the
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
  const Results<T, T, T> whole = by_halves(run, 1, {}, [](const auto& half) { half(0); });
  std::vector<std::byte> scratch(scratch_bytes(run.factors(), count));
  by_halves(run, nth, std::span(scratch), at_once).expect_equal(whole);
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
