// The parity kit: right backends pass.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <tiedlora/eigen.hpp>
#include <tiedlora/ops.hpp>
#include <tiedlora/verify.hpp>
#include <vector>

#include "support/fake_device.hpp"
#include "support/kernel_instances.hpp"
#include "support/plain_backend.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using Eigen::bfloat16;
using Eigen::half;

verify::ParityOptions quick() { return {.cases = 64}; }

template <class P = float, class X = P, class Y = X, class Dx = X, class B>
void expect_passes(const B& backend) {
  const verify::Parity report = verify::parity<P, X, Y, Dx>(backend, quick());
  EXPECT_TRUE(report.passed()) << report.table();
  EXPECT_TRUE(report.deterministic);
}

TEST(Parity, TheReferencePasses) {
  expect_passes(ReferenceBackend{});
  expect_passes<double>(ReferenceBackend{});
  expect_passes<half, bfloat16, float, half>(ReferenceBackend{});
}

TEST(Parity, TheCpuBackendPasses) {
  expect_passes(CpuBackend{});
  expect_passes<half>(CpuBackend{});
  expect_passes<bfloat16>(CpuBackend{});
  expect_passes<float, bfloat16>(CpuBackend{});
  expect_passes<half, float, bfloat16, half>(CpuBackend{});
}

TEST(Parity, ABackendOfTheUsersOwnPasses) {
  expect_passes(Plain{});
  expect_passes(PlainModules{});
}

TEST(Parity, AllOperandsLieInTheBackendsMemory) {
  expect_passes(FakeDevice{});
  EXPECT_EQ(FakeDevice::live, 0);
}

TEST(Parity, TheTableSaysWhatWasCheckedAndHowNear) {
  const verify::Parity report = verify::parity(PlainModules{}, quick());
  for (const char* check : {"shrink: h", "expand: y", "expand_backward: dh", "expand_backward: dB",
                            "expand_backward: du", "expand_backward: dv", "shrink_backward: dA",
                            "shrink_backward: dx", "shrink of modules: h", "shrink_backward of modules: dx",
                            "finite differences: dA", "beside NaN or infinity: y", "no tokens", "rank 0"}) {
    const auto row = std::find_if(report.rows.begin(), report.rows.end(),
                                  [&](const verify::ParityRow& r) { return r.check == check; });
    ASSERT_NE(row, report.rows.end()) << check << "\n" << report.table();
    EXPECT_GT(row->checked, 0) << check;
    EXPECT_LT(row->worst, 1) << check;
    EXPECT_NE(report.table().find(check), std::string::npos);
  }
  EXPECT_EQ(report.first_failure(), nullptr);
}

}  // namespace
}  // namespace tiedlora_test
