// The OpenCL kernels against the library's loops.
#include <gtest/gtest.h>

#include <tiedlora/eigen.hpp>
#include <tiedlora/verify.hpp>

#include "backend.hpp"
#include "test_device.hpp"

namespace gpu_opencl {
namespace {

class OpenClParity : public OpenCl {};

template <class P, class X, class Y>
void expect_parity(Device& device, std::size_t cases) {
  const auto report =
      tiedlora::verify::parity<P, X, Y>(Backend(device), {.cases = cases, .require_determinism = true});
  EXPECT_TRUE(report.passed()) << report.table();
}

TEST_F(OpenClParity, InFloat) { expect_parity<float, float, float>(device(), 120); }
TEST_F(OpenClParity, InTypesOf16Bits) {
  expect_parity<Eigen::bfloat16, Eigen::half, Eigen::bfloat16>(device(), 24);
  expect_parity<Eigen::half, float, Eigen::half>(device(), 24);
}

}  // namespace
}  // namespace gpu_opencl
