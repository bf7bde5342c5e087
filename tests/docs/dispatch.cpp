// builds.md's backend that picks an instruction set at run time: the same numbers as without it.
#include "kernels.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <tiedlora/tiedlora.hpp>

#include "support/models.hpp"

namespace {

#include "dispatch.inc"

static_assert(tiedlora::Backend<Kernels, float>);

TEST(Dispatch, ComputesWhatTheBaselineComputes) {
  tiedlora::Adapter<float> adapter(
      tiedlora::Layout(tiedlora_test::one_kind(1, 70, 50), tiedlora::schemes::lora(), 4));
  for (float& number : adapter.trainable()) number = 0.125f;
  tiedlora::Gradients<float> expected(adapter.layout()), gradients(adapter.layout());
  const Eigen::MatrixXf x = Eigen::MatrixXf::Random(70, 9), dy = Eigen::MatrixXf::Random(50, 9);
  Eigen::MatrixXf y0 = dy, y = dy, dx0 = x, dx = x, h0(4, 9), h(4, 9);

  tiedlora::forward(adapter.factors(0), x, y0, h0);
  tiedlora::backward(adapter.factors(0), x, h0, dy, expected.factors(0), dx0);
  tiedlora::forward(best, adapter.factors(0), x, y, h);
  tiedlora::backward(best, adapter.factors(0), x, h, dy, gradients.factors(0), dx);

  // Sums of at most 70 products, in another order: each rounds by less than 70 ε of its norm.
  const auto near = [](const auto& a, const auto& b) { return (a - b).norm() <= 70 * 0x1p-23f * a.norm(); };
  EXPECT_TRUE(near(y0, y));
  EXPECT_TRUE(near(h0, h));
  EXPECT_TRUE(near(dx0, dx));
  using Numbers = Eigen::Map<const Eigen::VectorXf>;
  const auto numbers = [](const tiedlora::Gradients<float>& g) {
    return Numbers(g.values().data(), static_cast<Eigen::Index>(g.values().size()));
  };
  EXPECT_GT(numbers(expected).norm(), 0);
  EXPECT_TRUE(near(numbers(expected), numbers(gradients)));
}

}  // namespace
