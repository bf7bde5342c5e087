// What the README shows beside its program, called. The blocks of the page are included where they would
// stand.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdio>
#include <span>
#include <thread>
#include <tiedlora/tiedlora.hpp>
#include <tiedlora/verify.hpp>
#include <vector>

#include "support/bits.hpp"
#include "support/dice.hpp"
#include "support/models.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

#include "readme_backend.inc"

// Somebody's kernels: here the reference loops.
void MyBackend::shrink(Module f, In x, Out h, Options o) const { ReferenceBackend().shrink(f, x, h, o); }
void MyBackend::expand(Module f, In h, Out y, Options o) const { ReferenceBackend().expand(f, h, y, o); }
void MyBackend::expand_backward(Module f, In h, In dy, Gradient g, Out dh, Options o) const {
  ReferenceBackend().expand_backward(f, h, dy, g, dh, o);
}
void MyBackend::shrink_backward(Module f, In x, In dh, Gradient g, Out dx, Options o) const {
  ReferenceBackend().shrink_backward(f, x, dh, g, dx, o);
}

constexpr Index width = 40, rank = 3, tokens = 70, m = 0;

struct Problem {
  Problem() {
    Dice dice(1);
    dice.fill(adapter.trainable());
    x = dice.matrix<float>(width, tokens), dy = dice.matrix<float>(width, tokens);
    y = dy, dx = x;
  }
  Layout layout{one_kind(1, width, width), schemes::tied_lora(), rank};
  Adapter<float> adapter{layout};
  Gradients<float> gradients{layout};
  Matrix<float> x, dy, y, dx, h{rank, tokens};
};

TEST(Readme, AnEngineRunsTheHalves) {
  Problem p, expected;
  forward(expected.adapter.factors(m), expected.x, expected.y, {.scale = 0.7});
  const Adapter<float>& adapter = p.adapter;
  const float* const activations = p.x.data();
  float *const outputs = p.y.data(), *const scratch = p.h.data();
  const Index out_width = width, n_q = width, stride = width, out_stride = width, ith = 0, nth = 1;
  const auto barrier = [] {};
#include "readme_engine.inc"
  EXPECT_TRUE(same_bits(expected.y, p.y));
}

TEST(Readme, TrainingRunsInThreads) {
  Problem p, expected;
  const auto parallel_for = [](Index n, const auto& body) {
    std::vector<std::thread> threads;
    for (Index i = 0; i < n; ++i) threads.emplace_back([&body, i] { body(i); });
    for (std::thread& thread : threads) thread.join();
  };
  forward(p.adapter.factors(m), p.x, p.y, p.h);
  backward(p.adapter.factors(m), p.x, p.h, p.dy, expected.gradients.factors(m), expected.dx);
  Adapter<float>& adapter = p.adapter;
  Gradients<float>& gradients = p.gradients;
  const Matrix<float>&x = p.x, &h = p.h, &dy = p.dy;
  Matrix<float>& dx = p.dx;
#include "readme_training.inc"
  EXPECT_TRUE(same_bits(expected.dx, p.dx));
}

TEST(Readme, KernelsOfOnesOwn) {
  Problem p, expected;
  AdamW<float> optimizer(p.layout, {.learning_rate = 0.1}),
      expected_optimizer(p.layout, {.learning_rate = 0.1});
  const ReferenceBackend loops;
  const auto f0 = expected.adapter.factors(m);
  forward(loops, f0, expected.x, expected.y, expected.h);
  backward(loops, f0, expected.x, expected.h, expected.dy, expected.gradients.factors(m), expected.dx);
  expected_optimizer.step(expected.adapter.trainable(), expected.gradients.values());

  const MyBackend my_backend;
  const Layout& layout = p.layout;
  float* const device_trainable = p.adapter.trainable().data();
  const float* const device_frozen = p.adapter.frozen().data();
  float* const device_gradients = p.gradients.values().data();
  std::vector<std::byte> memory(scratch_bytes(p.adapter.factors(m), tokens));
  const std::span<std::byte> device_scratch(memory);
  const Matrix<float>&x = p.x, &dy = p.dy;
  Matrix<float>&y = p.y, &h = p.h, &dx = p.dx;
  const auto my_adamw = [&](const AdamWConstants<float>& constants, Index offset, Index count) {
    const auto at = static_cast<std::size_t>(offset), n = static_cast<std::size_t>(count);
    adamw_update(constants, p.adapter.trainable().subspan(at, n), p.gradients.values().subspan(at, n),
                 optimizer.first_moment().subspan(at, n), optimizer.second_moment().subspan(at, n));
  };
#include "readme_device.inc"
  EXPECT_TRUE(report.passed());
  EXPECT_TRUE(same_bits(expected.y, p.y));
  EXPECT_TRUE(same_bits(expected.dx, p.dx));
  for (std::size_t i = 0; i < p.adapter.trainable().size(); ++i)
    EXPECT_EQ(expected.adapter.trainable()[i], p.adapter.trainable()[i]) << i;
  EXPECT_EQ(expected_optimizer.step_count(), optimizer.step_count());
}

}  // namespace
}  // namespace tiedlora_test
