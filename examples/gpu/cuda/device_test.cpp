// What is beside the four functions, under the emulation: forward in one launch, batches with an adapter for
// each token, the optimiser, and the README's program.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include <tiedlora/tiedlora.hpp>
#include <tiedlora/verify/tolerance.hpp>

#include "../four_layers.hpp"
#include "backend.cuh"
#include "commands.hpp"
#include "grouped.cuh"
#include "optimizer.cuh"
#include "support/adapter_pool.hpp"
#include "support/dice.hpp"

namespace gpu_cuda {
namespace {

using tiedlora_test::Dice, tiedlora_test::Matrix;

std::vector<float> numbers_of(const Matrix<float>& m) { return {m.data(), m.data() + m.size()}; }
template <class T>
Tokens<T> tokens(const Array<T>& array, Index width, Index count) {
  return {.data = array.data(), .width = width, .count = count, .stride = width};
}
/// Of sums of `length` products of numbers below 1, where the terms themselves are such sums of `inner`.
double bound(Index length, Index inner) {
  return 2 * tiedlora::verify::random_rounding_bound<float>(length + inner + 8,
                                                            static_cast<double>(length * inner));
}

TEST(CudaForward, OfModulesWithOneAIsOneLaunchAndHasTheCpusResult) {
  constexpr Index in = 1100, rank = 13, widths[] = {300, 520, 64};
  Dice dice(3);
  const CudaBackend backend;
  const Array<float> a(numbers_of(dice.matrix<float>(in, rank)));
  std::vector<Array<float>> bs, us, ys;
  std::vector<Factors<const float>> modules;
  for (const Index out : widths) {
    bs.emplace_back(numbers_of(dice.matrix<float>(out, rank)));
    us.emplace_back(numbers_of(dice.matrix<float>(rank, 1)));
    modules.push_back({.A = a.data(),
                       .a_stride = in,
                       .B = bs.back().data(),
                       .b_stride = out,
                       .u = us.back().data(),
                       .rank = rank,
                       .in_features = in,
                       .out_features = out});
  }
  for (const Index count : {1, 3, 8, 9}) {
    SCOPED_TRACE(count);
    const Array<float> x(numbers_of(dice.matrix<float>(in, count)));
    const Array<float> h(static_cast<std::size_t>(rank * count));
    std::vector<Matrix<float>> expected;
    std::vector<Tokens<float>> y;
    ys.clear();
    for (const Index out : widths) {
      expected.push_back(dice.matrix<float>(out, count));
      ys.emplace_back(numbers_of(expected.back()));
      y.push_back(tokens(ys.back(), out, count));
    }
    const CallOptions o = {.scale = 0.75};
    backend.forward(std::span<const Factors<const float>>(modules), Tokens<const float>(tokens(x, in, count)),
                    std::span<const Tokens<float>>(y), tokens(h, rank, count), o);
    // The emulation's memory is the host's.
    for (std::size_t m = 0; m < modules.size(); ++m) {
      Matrix<float> hidden(rank, count);
      tiedlora::forward(modules[m], tokens(x, in, count), expected[m], hidden, o);
      const std::vector<float> actual = ys[m].download(), actual_h = h.download();
      for (Index i = 0; i < expected[m].size(); ++i)
        ASSERT_NEAR(actual[static_cast<std::size_t>(i)], expected[m].data()[i], bound(rank, in))
            << m << " " << i;
      for (Index i = 0; i < hidden.size(); ++i)
        ASSERT_NEAR(actual_h[static_cast<std::size_t>(i)], hidden.data()[i], bound(1, in));
    }
  }
}

class CudaBatch : public testing::Test {
 protected:
  static constexpr Index in = 67, out = 45, rank = 5, count = 90;

  void add_family(const tiedlora::Scheme& scheme, int size) {
    const tiedlora::Layout layout(set.modules(), scheme, rank);
    tiedlora::Adapter<float> base(layout);
    tiedlora_test::fill_factors(base, dice);
    const auto shared = base.share_frozen();
    for (int n = 0; n < size; ++n) {
      tiedlora::Adapter<float> adapter(layout, shared);
      dice.fill(adapter.trainable());
      ids.push_back(set.add(std::move(adapter)));
    }
  }

  /// For every module, overwriting and not, against the CPU's.
  void check(const tiedlora::BatchPlan<float>& plan) {
    const CudaBackend backend;
    DeviceBatch<float> batch(backend);
    batch.assign(plan);
    const Matrix<float> x = dice.matrix<float>(in, count);
    const Array<float> device_x(numbers_of(x));
    Matrix<float> h(rank, plan.size());
    const Array<float> device_h(static_cast<std::size_t>(h.size()));
    for (const Index m : {0, 1, 5})
      for (const bool overwrite : {false, true}) {
        SCOPED_TRACE(testing::Message() << "module " << m << (overwrite ? ", overwrite" : ""));
        const Index width = set.modules()[m].out_features;
        Matrix<float> y = dice.matrix<float>(width, count);
        const Array<float> device_y(numbers_of(y));
        const CallOptions o = {.scale = 0.7, .overwrite = overwrite};
        tiedlora::forward(plan, m, x, y, h, o);
        batch.shrink(m, Tokens<const float>(tokens(device_x, in, count)),
                     tokens(device_h, rank, plan.size()));
        batch.expand(m, Tokens<const float>(tokens(device_h, rank, plan.size())),
                     tokens(device_y, width, count), o);
        const std::vector<float> values = device_y.download();
        for (Index i = 0; i < y.size(); ++i)
          ASSERT_NEAR(values[static_cast<std::size_t>(i)], y.data()[i], 3 * bound(rank, in))
              << "number " << i;
      }
  }
  std::vector<tiedlora::TokenAdapter> random_tokens() {
    std::vector<tiedlora::TokenAdapter> uses;
    for (Index t = 0; t < count; ++t) {
      const auto which = static_cast<std::size_t>(dice.integer(0, static_cast<Index>(ids.size())));
      uses.push_back(
          {which == ids.size() ? tiedlora::no_adapter : ids[which], static_cast<float>(dice.uniform())});
    }
    return uses;
  }

  Dice dice{1};
  tiedlora::AdapterSet<float> set{tiedlora_test::host_modules(in, out)};
  std::vector<tiedlora::AdapterId> ids;
};

TEST_F(CudaBatch, OfTenantsAndOthersIsTheCpus) {
  add_family(tiedlora_test::scheme_of("ABuv", "AB"), 12);  // tenants over one A and B
  add_family(tiedlora::schemes::tied_lora(), 2);
  add_family(tiedlora::schemes::lora(), 5);
  for (int n = 0; n < 2; ++n) check(tiedlora::BatchPlan<float>(set.snapshot(), random_tokens()));
}

TEST_F(CudaBatch, OfTenantsAloneIsTheCpus) {
  add_family(tiedlora_test::scheme_of("ABuv", "AB"), 64);
  check(tiedlora::BatchPlan<float>(set.snapshot(), random_tokens()));
}

TEST_F(CudaBatch, WithSeveralAdaptersForATokenIsTheCpus) {
  add_family(tiedlora_test::scheme_of("ABuv", "AB"), 3);
  add_family(tiedlora::schemes::lora(), 3);
  std::vector<tiedlora::AdapterUse> uses;
  for (Index t = 0; t < count; ++t)
    for (Index n = dice.integer(0, 3); n > 0; --n)
      uses.push_back({t, dice.pick(ids), static_cast<float>(dice.uniform())});
  check(tiedlora::BatchPlan<float>(set.snapshot(), count, uses));
}

TEST_F(CudaBatch, WithoutAnyAdapterSetsZeros) {
  check(tiedlora::BatchPlan<float>(set.snapshot(), std::vector<tiedlora::TokenAdapter>(count)));
}

class CudaOptimizer : public testing::Test {
 protected:
  static tiedlora::Layout layout() {
    tiedlora::ModuleList modules;
    for (int l = 0; l < 3; ++l)
      modules.add({.name = "layers." + std::to_string(l), .layer = l, .in_features = 33, .out_features = 50});
    return {modules, tiedlora::schemes::tied_lora(), 4};
  }
  static constexpr double decay = 0.1;

  void upload(const std::vector<float>& values) const {
    copy_to_device(values.data(), training.gradient_array().data(), values.size() * sizeof(float), Stream());
  }
  std::vector<float> draw() {
    std::vector<float> values(static_cast<std::size_t>(layout().trainable_count()));
    dice.fill(values);
    return values;
  }

  Dice dice{5};
  tiedlora::AdamWOptions options = {.learning_rate = 1e-2, .weight_decay = decay};
  tiedlora::Adapter<float> adapter = [] {
    tiedlora::Adapter<float> a(layout());
    a.initialize(1);
    return a;
  }();
  tiedlora::AdamW<float> on_cpu{layout(), options};
  DeviceTraining training{adapter, options};
};

TEST_F(CudaOptimizer, StepsAndClipsAsTheCpu) {
  constexpr double max_norm = 2;
  for (int step = 0; step < 4; ++step) {
    const std::vector<float> gradients = draw();
    // Gradients of a loss that was scaled: the norm that counts is that of the unscaled ones.
    const double loss_scale = step % 2 == 0 ? 1 : 1024;
    std::vector<float> scaled = gradients;
    for (float& g : scaled) g *= static_cast<float>(loss_scale);
    upload(scaled);
    training.begin_step({.rate_factor = 0.5, .gradient_scale = 1 / loss_scale});
    training.update(max_norm);
    const auto statistics = tiedlora::gradient_statistics(std::span<const float>(gradients));
    EXPECT_NEAR(training.statistics().norm, loss_scale * statistics.norm,
                1e-12 * loss_scale * statistics.norm);
    EXPECT_TRUE(training.statistics().finite);
    EXPECT_GT(statistics.norm, max_norm);
    on_cpu.step(adapter.trainable(), gradients,
                {.rate_factor = 0.5, .gradient_scale = tiedlora::clip_factor(statistics.norm, max_norm)});
    const std::vector<float> parameters = training.trainable().download();
    for (std::size_t i = 0; i < parameters.size(); ++i)
      // A step is below 1, of numbers below 2: some ten roundings each.
      ASSERT_NEAR(parameters[i], adapter.trainable()[i], (step + 1) * 10 * 2 * 0x1p-24) << i;
    for (const float g : training.gradient_array().download()) ASSERT_EQ(g, 0);
  }
}

TEST_F(CudaOptimizer, LeavesOutAStepWhoseGradientsAreNotFinite) {
  for (const float wrong :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    std::vector<float> gradients = draw();
    gradients[77] = wrong;
    upload(gradients);
    const std::vector<float> before = training.trainable().download();
    training.begin_step();
    training.update(1);
    EXPECT_FALSE(training.statistics().finite);
    EXPECT_EQ(training.trainable().download(), before);
    for (const float g : training.gradient_array().download()) ASSERT_EQ(g, 0);
  }
}

TEST(CudaTraining, HasTheLossCurveOfTheCpu) {
  const gpu::FourLayers problem;
  constexpr int last_step = 4;  // an emulation takes its time
  gpu::LossCurves curves = {train_on_device(problem, last_step), gpu::train_on_cpu<float>(problem),
                            gpu::train_on_cpu<double>(problem)};
  curves.exact.resize(last_step + 1), curves.cpu.resize(last_step + 1);
  ASSERT_EQ(curves.device.size(), curves.exact.size());
  EXPECT_LE(curves.worst(), 1);
  EXPECT_NEAR(curves.device.front(), 0.02825, 1e-5);  // as the README prints it
  EXPECT_LT(curves.device.back(), curves.device.front());
}

TEST(CudaDevice, SaysItsName) {
  std::string why;
  EXPECT_EQ(find_device(why), "emulation on the host");
}

}  // namespace
}  // namespace gpu_cuda
