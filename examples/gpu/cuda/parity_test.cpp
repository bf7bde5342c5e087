// The CUDA backend under the emulation: the parity kit on the kernels' own sources, in mixtures of types in
// which every type of parameters meets every type of x, y and dx.
#include <gtest/gtest.h>

#include <algorithm>
#include <span>
#include <tiedlora/verify/parity.hpp>
#include <vector>

#include "backend.cuh"

namespace gpu_cuda {
namespace {

// Emulated, the cases of 513 and 1025 tokens, and of the widest modules with more than eight tokens, take
// longer than all others together: one mixture has them.
template <class P, class X, class Y, class Dx>
void expect_parity(tiedlora::Index most_numbers = 37'000) {
  const CudaBackend backend;
  std::vector<tiedlora::verify::ParityCase> cases = tiedlora::verify::usual_cases(1, 24);
  std::erase_if(cases, [&](const tiedlora::verify::ParityCase& c) {
    return c.tokens * std::max(c.in, c.out) > most_numbers;
  });
  const auto report = tiedlora::verify::parity<P, X, Y, Dx>(
      backend, std::span<const tiedlora::verify::ParityCase>(cases), {.require_determinism = true});
  EXPECT_TRUE(report.passed()) << report.table();
}
using half = __half;
using bfloat16 = __nv_bfloat16;

TEST(CudaParity, FloatFloat) { expect_parity<float, float, float, float>(1 << 20); }
TEST(CudaParity, FloatHalf) { expect_parity<float, half, bfloat16, half>(); }
TEST(CudaParity, FloatBfloat16) { expect_parity<float, bfloat16, half, bfloat16>(); }
TEST(CudaParity, HalfFloat) { expect_parity<half, float, bfloat16, float>(); }
TEST(CudaParity, HalfHalf) { expect_parity<half, half, half, half>(); }
TEST(CudaParity, HalfBfloat16) { expect_parity<half, bfloat16, float, bfloat16>(); }
TEST(CudaParity, Bfloat16Float) { expect_parity<bfloat16, float, half, float>(); }
TEST(CudaParity, Bfloat16Half) { expect_parity<bfloat16, half, float, half>(); }
TEST(CudaParity, Bfloat16Bfloat16) { expect_parity<bfloat16, bfloat16, bfloat16, bfloat16>(); }

}  // namespace
}  // namespace gpu_cuda
