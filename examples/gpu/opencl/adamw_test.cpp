// AdamW in one launch against the CPU's.
#include <gtest/gtest.h>

#include <cmath>
#include <tiedlora/tiedlora.hpp>
#include <tiedlora/verify/tolerance.hpp>
#include <vector>

#include "adamw.hpp"
#include "array.hpp"
#include "support/dice.hpp"
#include "support/models.hpp"
#include "test_device.hpp"

namespace gpu_opencl {
namespace {

class OpenClAdamW : public OpenCl {};

TEST_F(OpenClAdamW, TakesTheStepsOfTheCpus) {
  // Four segments with rates and decays of their own, and a count that is not a multiple of a group.
  const tiedlora::Layout layout(tiedlora_test::one_kind(3, 37, 29), tiedlora::schemes::tied_lora(), 5);
  const tiedlora::AdamWOptions options = {.learning_rate = 1e-2,
                                          .rates = tiedlora::PerFactor{1, 0.5, 8, 4},
                                          .weight_decay = 0.1,
                                          .decays = {.A = 1, .B = 2, .u = 0.5, .v = 0}};
  tiedlora::AdamW<float> on_cpu(layout, options), on_device(layout, options);
  const auto count = static_cast<std::size_t>(layout.trainable_count());
  ASSERT_EQ(on_cpu.step_plan().size, 4);
  ASSERT_NE(count % Kernels::group, 0u);
  tiedlora_test::Dice dice(1);
  std::vector<float> parameters(count), gradients(count);
  dice.fill(std::span<float>(parameters));
  const std::vector<float> zeros(count, 0.0f);
  const Backend backend(device());
  const Array<float> p(device(), parameters), m(device(), zeros), v(device(), zeros);
  Array<float> g(device(), zeros);
  for (int step = 0; step < 5; ++step) {
    dice.fill(std::span<float>(gradients));
    g.upload(gradients);
    const tiedlora::StepOptions now = {.rate_factor = 1.0 / (step + 1), .gradient_scale = 0.5};
    on_cpu.step(parameters, gradients, now);
    adamw_step(backend, on_device, p.data(), g.data(), m.data(), v.data(), now);
  }
  EXPECT_EQ(on_device.step_count(), on_cpu.step_count());
  // A moment goes through two roundings a step, four where it is a sum of squares; the update through another
  // four, its square root and its quotient, which OpenCL lets be 3 and 2.5 units off instead of 0.5, for 6
  // and 5 roundings. The parameter takes the update, of at most 2 rates, and two roundings of its own.
  const auto first = m.download(), second = v.download(), result = p.download();
  constexpr double u = tiedlora::verify::unit_roundoff<float>();
  for (std::size_t i = 0; i < count; ++i) {
    EXPECT_NEAR(first[i], on_cpu.first_moment()[i], 2 * 5 * 3 * u) << i;  // on both sides, of values below 1
    EXPECT_NEAR(second[i], on_cpu.second_moment()[i], 2 * 5 * 4 * u * static_cast<double>(second[i])) << i;
    EXPECT_NEAR(result[i], parameters[i], 2 * 5 * (2 * u + (5 * 5 + 4 + 6 + 5) * u * 2 * 1e-2 * 8)) << i;
  }
}

}  // namespace
}  // namespace gpu_opencl
