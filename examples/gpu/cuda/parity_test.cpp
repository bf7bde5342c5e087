// The CUDA backend under the emulation: the parity kit on the kernels' own sources, in all mixtures of types.
#include <gtest/gtest.h>

#include <tiedlora/verify.hpp>

#include "backend.cuh"

namespace gpu_cuda {
namespace {

template <class P, class X = P, class Y = X, class Dx = X>
void expect_parity() {
  const CudaBackend backend;
  const auto report =
      tiedlora::verify::parity<P, X, Y, Dx>(backend, {.cases = 48, .require_determinism = true});
  EXPECT_TRUE(report.passed()) << report.table();
}

TEST(CudaParity, Float) { expect_parity<float>(); }

}  // namespace
}  // namespace gpu_cuda
