// A backend of a user's own: what it is asked for, what it is spared, and what it refuses.
#include <gtest/gtest.h>

#include <string>
#include <tiedlora/adapter.hpp>
#include <tiedlora/ops.hpp>
#include <vector>

#include "support/bits.hpp"
#include "support/errors.hpp"
#include "support/module_run.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

// The loops, which write down what was called; without slices, without dropout, for one module at a time.
struct Recorder {
  std::vector<std::string>& calls;
  ReferenceBackend loops = {};

  void shrink(const Factors<const float>& f, Tokens<const float> x, Tokens<float> h,
              const CallOptions& o) const {
    calls.push_back("shrink");
    loops.shrink(f, x, h, o);
  }
  void expand(const Factors<const float>& f, Tokens<const float> h, Tokens<float> y,
              const CallOptions& o) const {
    calls.push_back("expand");
    loops.expand(f, h, y, o);
  }
  void expand_backward(const Factors<const float>& f, Tokens<const float> h, Tokens<const float> dy,
                       const Factors<float>& gradient, Tokens<float> dh, const CallOptions& o) const {
    calls.push_back(dh.is_none() ? "expand_backward without dh" : "expand_backward");
    loops.expand_backward(f, h, dy, gradient, dh, o);
  }
  void shrink_backward(const Factors<const float>& f, Tokens<const float> x, Tokens<const float> dh,
                       const Factors<float>& gradient, Tokens<float> dx, const CallOptions& o) const {
    calls.push_back(o.overwrite ? "shrink_backward, overwrite" : "shrink_backward");
    loops.shrink_backward(f, x, dh, gradient, dx, o);
  }
};
static_assert(Backend<Recorder, float>);
static_assert(!Backend<Recorder, double>);
static_assert(Backend<CpuBackend, float> && Backend<CpuBackend, double> && Backend<ReferenceBackend, double>);
static_assert(!Backend<int, float>);

using Calls = std::vector<std::string>;

TEST(Backend, ForwardAndBackwardAreItsFourFunctions) {
  ModuleRun<float, float, float> run({}, 5, 1);
  Matrix<float> h(3, 5), expected_h(3, 5), expected_y = run.y;
  Calls calls;
  const Recorder recorder{calls};
  forward(recorder, run.factors(), run.x, run.y, h, run.options);
  EXPECT_EQ(calls, (Calls{"shrink", "expand"}));
  forward(ReferenceBackend(), run.factors(), run.x, expected_y, expected_h, run.options);
  EXPECT_TRUE(same_bits(h, expected_h));
  EXPECT_TRUE(same_bits(run.y, expected_y));

  calls.clear();
  Gradients<float> gradients(run.adapter.layout());
  backward(recorder, run.factors(), run.x, h, run.dy, gradients.factors(0), run.dx);
  EXPECT_EQ(calls, (Calls{"expand_backward", "shrink_backward"}));
}

TEST(Backend, IsNotAskedForWhatNobodyWants) {
  ModuleRun<float, float, float> run({.trained = "Bv"}, 5, 2);
  Calls calls;
  const Recorder recorder{calls};
  const Matrix<float> h = Matrix<float>::Ones(3, 5);
  Gradients<float> gradients(run.adapter.layout());
  backward(recorder, run.factors(), none, h, run.dy, gradients.factors(0));
  EXPECT_EQ(calls, (Calls{"expand_backward without dh"}));
}

TEST(Backend, RankZeroComesWithOverwriteOnly) {
  ModuleRun<float, float, float> run({.rank = 0}, 5, 3);
  Calls calls;
  const Recorder recorder{calls};
  Matrix<float> h(0, 5);
  forward(recorder, run.factors(), run.x, run.y, h);
  EXPECT_EQ(calls, Calls{});
  forward(recorder, run.factors(), run.x, run.y, h, {.overwrite = true});
  EXPECT_EQ(calls, (Calls{"expand"}));
  EXPECT_TRUE(run.y.isZero(0));
}

TEST(Backend, ModulesWithOneInputAreCallsOneByOne) {
  ModuleRun<float, float, float> run({}, 5, 4);
  Calls calls;
  const Recorder recorder{calls};
  const Factors<const float> modules[] = {run.factors(), run.factors()};
  Matrix<float> first(3, 5), second(3, 5);
  const auto view = [](Matrix<float>& m) { return Tokens<float>{m.data(), m.rows(), m.cols(), m.rows()}; };
  const Tokens<float> h[] = {view(first), view(second)};
  shrink(recorder, std::span<const Factors<const float>>(modules), run.x, h);
  EXPECT_EQ(calls, (Calls{"shrink", "shrink"}));
  EXPECT_TRUE(same_bits(first, second));

  calls.clear();
  Gradients<float> gradients(run.adapter.layout());
  const Tokens<const float> dh[] = {view(first), view(second)};
  const Factors<float> gs[] = {gradients.factors(0), gradients.factors(0)};
  shrink_backward(recorder, std::span<const Factors<const float>>(modules), run.x, dh, gs, run.dx,
                  {.overwrite = true});
  EXPECT_EQ(calls, (Calls{"shrink_backward, overwrite", "shrink_backward"}));
}

TEST(Backend, OptionsBeyondItAreRefused) {
  ModuleRun<float, float, float> run({}, 5, 5);
  Calls calls;
  Matrix<float> h(3, 5);
  expect_error([&] { shrink(Recorder{calls}, run.factors(), run.x, h, {.slice = {0, 2}}); },
               {"\"layers.0.proj\"", "takes no slices"});
  expect_error([&] { shrink(Recorder{calls}, run.factors(), run.x, h, {.dropout = {.probability = 0.5}}); },
               {"\"layers.0.proj\"", "no dropout"});
  EXPECT_EQ(calls, Calls{});
}

// The host may not use a device's memory for h.
struct OnADevice : Recorder {
  int memory() const { return 0; }
};

TEST(Backend, WithMemoryOfItsOwnNeedsHOrScratch) {
  ModuleRun<float, float, float> run({}, 5, 6);
  Calls calls;
  const OnADevice device{{calls}};
  expect_error([&] { forward(device, run.factors(), run.x, run.y); },
               {"options.scratch for h", "scratch_bytes"});
  std::vector<std::byte> scratch(scratch_bytes(run.factors(), 5));
  forward(device, run.factors(), run.x, run.y, {.scratch = scratch});
  EXPECT_EQ(calls, (Calls{"shrink", "expand"}));
}

TEST(Backend, ScratchSaysHowManyTokensGoAtOnce) {
  ModuleRun<float, float, float> run({}, 10, 7);
  Calls calls;
  std::vector<std::byte> scratch(scratch_bytes(run.factors(), 4));
  forward(Recorder{calls}, run.factors(), run.x, run.y, {.scratch = scratch});
  EXPECT_EQ(calls.size(), 6u);  // 4, 4 and 2 tokens
}

}  // namespace
}  // namespace tiedlora_test
