// Under the emulation: what `gpu_cuda check` runs on a device, and the four-layer program.
#include <gtest/gtest.h>

#include <ostream>
#include <string>
#include <vector>

#include "../four_layers.hpp"
#include "commands.hpp"
#include "device.cuh"

namespace gpu_cuda {

void PrintTo(const Check& check, std::ostream* out) { *out << check.name; }

namespace {

class CudaCheck : public testing::TestWithParam<Check> {};
TEST_P(CudaCheck, Passes) { EXPECT_EQ(fault_of(GetParam()), ""); }
INSTANTIATE_TEST_SUITE_P(All, CudaCheck, testing::ValuesIn(all_checks()),
                         [](const auto& check) { return check.param.name; });

// A grid has 65535 blocks in its second and third dimension: here four, of a device of one multiprocessor.
// What grows with the batch is in the first.
TEST(CudaGrids, OfBatchesGrowInTheirFirstDimension) {
  auto& grid = cuda_emulation::Grid::get();
  const auto largest = grid.largest_grid;
  const int multiprocessors = grid.multiprocessors;
  grid.largest_grid.y = grid.largest_grid.z = 4, grid.multiprocessors = 1;
  for (const Check& check : all_checks()) {
    if (!check.name.starts_with("batch_of_tenants")) continue;
    EXPECT_EQ(fault_of(check), "") << check.name;
  }
  grid.largest_grid = largest, grid.multiprocessors = multiprocessors;
}

TEST(CudaTraining, HasTheLossCurveOfTheCpu) {
  const gpu::FourLayers problem;
  constexpr int last_step = 3;  // an emulation takes its time
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
