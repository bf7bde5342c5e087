// The emulation refuses what CUDA refuses.
#include <gtest/gtest.h>

#include <array>
#include <stdexcept>
#include <utility>
#include <vector>

#include "device.cuh"
#include "memory.hpp"

namespace gpu_cuda {
namespace {

void write_kernel(int* to, int value) {
  if (threadIdx.x == 0 && blockIdx.x == 0) *to = value;
}
void copy_kernel(const char* from, char* to) {
  if (threadIdx.x == 0) store_16(to, load_16(from));
}
void wait_kernel() { grid_barrier(); }

int to = 0;
void start(const Launch& how) { launch(how, write_kernel, &to, 1); }

TEST(CudaEmulation, RefusesGridsAndBlocksThatCudaRefuses) {
  constexpr unsigned threads = 32, most = 65535;
  EXPECT_NO_THROW(start({{most + 1, 1, 1}, threads}));
  EXPECT_THROW(start({{1, most + 1, 1}, threads}), std::runtime_error);
  EXPECT_THROW(start({{1, 1, most + 1}, threads}), std::runtime_error);
  EXPECT_THROW(start({{1u << 31, 1, 1}, threads}), std::runtime_error);
  EXPECT_THROW(start({{0, 1, 1}, threads}), std::runtime_error);
  EXPECT_NO_THROW(start({{1, 1, 1}, 1024}));
  EXPECT_THROW(start({{1, 1, 1}, 1024 + threads}), std::runtime_error);
  EXPECT_THROW(start({{1, 1, 1}, 0}), std::runtime_error);
  EXPECT_NO_THROW(start({{1, 1, 1}, threads, 227 * 1024}));
  EXPECT_THROW(start({{1, 1, 1}, threads, 227 * 1024 + 1}), std::runtime_error);
}

TEST(CudaEmulation, RefusesBlocksThatWaitForOthersWhichDoNotRun) {
  const unsigned fit = static_cast<unsigned>(blocks_at_once(wait_kernel, 32, 0));
  EXPECT_NO_THROW(launch({{fit, 1, 1}, 32, 0, 0, true}, wait_kernel));
  EXPECT_THROW(launch({{fit + 1, 1, 1}, 32, 0, 0, true}, wait_kernel), std::runtime_error);
}

TEST(CudaEmulation, ReportsSixteenBytesThatAreNotAligned) {
  alignas(16) std::array<char, 48> numbers = {};
  const auto copy = [&](int from, int where) {
    launch({{1, 1, 1}, 32}, copy_kernel, numbers.data() + from, numbers.data() + where);
  };
  EXPECT_NO_THROW(copy(0, 16));
  EXPECT_THROW(copy(8, 16), std::runtime_error);
  EXPECT_THROW(copy(0, 20), std::runtime_error);
  EXPECT_NO_THROW(copy(0, 16));
}

TEST(CudaEmulation, RefusesToWaitAndToAllocateWhileAGraphIsCaptured) {
  Array<float> array(4);
  const std::vector<float> numbers(4);
  EXPECT_THROW(Graph(0, [] { synchronize(0); }), std::runtime_error);
  EXPECT_THROW(Graph(0, [] { Array<float>(8); }), std::runtime_error);
  EXPECT_THROW(Graph(0, [&] { array.upload(numbers.data()); }), std::runtime_error);
  EXPECT_THROW(Graph(0, [&] { const Array<float> freed(std::move(array)); }), std::runtime_error);
  EXPECT_NO_THROW(synchronize(0));
}

TEST(CudaEmulation, AGraphRunsWhatWasCapturedWithTheArgumentsOfThen) {
  int value = 3;
  to = 0;
  const Graph graph(0, [&] { launch({{1, 1, 1}, 32}, write_kernel, &to, value); });
  EXPECT_EQ(to, 0);  // nothing has run yet
  value = 4;
  graph.launch();
  EXPECT_EQ(to, 3);
}

}  // namespace
}  // namespace gpu_cuda
