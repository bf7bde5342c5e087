// The four-layer program on the device: its loss curve is the CPU's within rounding.
#include <gtest/gtest.h>

#include <string>

#include "test_device.hpp"
#include "train.hpp"

namespace gpu_opencl {
namespace {

class OpenClTraining : public OpenCl {};

TEST_F(OpenClTraining, HasTheLossCurveOfTheCpu) {
  const gpu::FourLayers problem;
  gpu::LossCurves curves = train_side_by_side(Backend(device()), problem);
  ASSERT_EQ(curves.device.size(), curves.exact.size());
  EXPECT_LE(curves.worst(), 1);
  EXPECT_NEAR(curves.device.front(), 0.02825, 1e-5);  // as the README prints it
  EXPECT_NEAR(curves.device.back(), 0.00002, 1e-5);

  // It is no bound that anything meets: an output that is off by a thousandth trains, too, but along another
  // curve.
  std::string source = kernel_source();
  const std::string right = "sum *= token_scaling(o, t)", wrong = "sum *= 0.999f * token_scaling(o, t)";
  ASSERT_NE(source.find(right), std::string::npos);
  source.replace(source.find(right), right.size(), wrong);
  curves.device = train(Backend(device(), source), problem);
  EXPECT_LT(curves.device.back(), 1e-4);
  EXPECT_GT(curves.worst(), 1);
}

}  // namespace
}  // namespace gpu_opencl
