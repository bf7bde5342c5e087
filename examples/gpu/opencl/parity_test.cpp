// The OpenCL kernels against the library's loops.
#include <gtest/gtest.h>

#include <tiedlora/eigen.hpp>
#include <tiedlora/verify.hpp>

#include "backend.hpp"

namespace gpu_opencl {
namespace {

TEST(OpenClParity, InFloat) {
  Device device;
  const auto report = tiedlora::verify::parity(Backend(device), {.cases = 60, .require_determinism = true});
  EXPECT_TRUE(report.passed()) << report.table();
}

}  // namespace
}  // namespace gpu_opencl
