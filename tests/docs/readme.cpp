// What the README shows beside its program, docs/adapters.md, and a backend as docs/gpu.md begins it, called.
// The blocks of the pages are included where they would stand.
#include <gtest/gtest.h>

#include <cstdio>
#include <limits>
#include <tiedlora/tiedlora.hpp>
#include <tiedlora/verify.hpp>

#include "support/bits.hpp"
#include "support/dice.hpp"
#include "support/models.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

#include "gpu_backend.inc"

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
    x = dice.matrix<float>(width, tokens), y = dice.matrix<float>(width, tokens);
  }
  Layout layout{one_kind(1, width, width), schemes::tied_lora(), rank};
  Adapter<float> adapter{layout};
  Matrix<float> x, y, h{rank, tokens};
};

TEST(Readme, AnEngineRunsTheStages) {
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

TEST(Readme, KernelsOfOnesOwn) {
  Problem p, expected;
  forward(ReferenceBackend(), expected.adapter.factors(m), expected.x, expected.y, expected.h);

  const MyBackend my_backend;
  const Layout& layout = p.layout;
  const float* const device_trainable = p.adapter.trainable().data();
  const float* const device_frozen = p.adapter.frozen().data();
  const Matrix<float>& x = p.x;
  Matrix<float>&y = p.y, &h = p.h;
#include "readme_device.inc"
  EXPECT_TRUE(report.passed());
  EXPECT_TRUE(same_bits(expected.y, p.y));
}

TEST(Gpu, ABackendOnTheHostIsCheckedToo) {
#include "gpu_parity.inc"
  EXPECT_TRUE(report.passed());
}

TEST(Adapters, ASchemeIsAValue) {
  const ModuleList modules = one_kind(9, 40, 24);
#include "adapters_scheme.inc"
  // Of modules 1 to 8: one A; B of layers 0 to 3, 4 to 7 and 8; eight u.
  EXPECT_EQ(trainable, 8 * 40 + 3 * 8 * 24 + 8 * 8);
  EXPECT_EQ(in_lora, 8 * 8 * (40 + 24));
}

TEST(Adapters, TurnedIntoOthers) {
  Problem p, q;
  Dice(2).fill(q.adapter.trainable());
  const Adapter<float>&adapter = p.adapter, &other = q.adapter;
  const auto delta = [](const auto& a) {
    Matrix<float> w = Matrix<float>::Zero(width, width);
    merge(a.factors(m), w);
    return w;
  };
  Matrix<float> W = Matrix<float>::Zero(width, width);
#include "adapters_turned.inc"
  EXPECT_TRUE(same_bits(delta(adapter), W));
  ASSERT_GT(W.norm(), 0);
  // A number of ΔW is the sum of rank products v·b·u·a, each at most 1. With unit roundoff ε/2, at most eight
  // roundings of each lie between the two sides; four factors rounded to bfloat16 (ε = 2⁻⁷) weigh more than
  // all of those.
  constexpr float epsilon = std::numeric_limits<float>::epsilon();
  EXPECT_LE((delta(lora) - W).cwiseAbs().maxCoeff(), 4 * epsilon * rank);
  EXPECT_LE((delta(both) - 0.7f * W - 0.3f * delta(other)).cwiseAbs().maxCoeff(), 8 * epsilon * rank);
  EXPECT_LE((delta(serving) - W).cwiseAbs().maxCoeff(), 3 * 0x1p-7f * rank);
  EXPECT_TRUE(same_bits(W, delta(base)));
  EXPECT_EQ(tenant.layout().trainable_count(), rank + width);
  EXPECT_EQ(tenant.frozen().data(), base.frozen().data());
}

}  // namespace
}  // namespace tiedlora_test
