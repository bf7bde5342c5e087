// Under the emulation, which has no times: that `gpu_cuda bench` runs, at small sizes, and which rows it
// writes.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include <tiedlora/ops.hpp>

#include "backend.cuh"
#include "bench_csv.hpp"
#include "commands.hpp"

namespace gpu_cuda {
namespace {

TEST(CudaBench, MeasuresForwardAsTheLibraryHasItAndOfFewTokensInOneLaunchToo) {
  const BenchOptions options = {.sizes = {{24, 40}},
                                .ranks = {4},
                                .tokens = {1, 9},
                                .tenants = {2},
                                .width_of_tenants = 16,
                                .cold_bytes = 3 * 2 * 4 * (24 + 40),
                                .calls = 2};
  std::vector<std::string> rows;
  bench(options, [&](const BenchRow& row) { rows.push_back(csv_line(row)); });
  std::vector<std::string> expected;
  for (const std::string type : {"bfloat16", "float"})
    for (const std::string tokens : {"1", "9"})
      for (const std::string factors : {"hot", "cold"})
        for (const std::string what : {"forward", "forward, one launch", "forward+backward"})
          if (tokens == "1" || what != "forward, one launch")
            expected.push_back("tiedlora,\"" + what + "\"," + type + ",24,40,4," + tokens + ",1," + factors);
  for (const std::string what : {"tenants over one A, B", "LoRAs of their own", "LoRAs of their own, a loop"})
    expected.push_back("tiedlora,\"" + what + "\",bfloat16,16,16,16,64,2,hot");
  ASSERT_EQ(rows.size(), expected.size());
  for (std::size_t i = 0; i < rows.size(); ++i) EXPECT_EQ(rows[i].substr(0, expected[i].size()), expected[i]);
}

// What the rows are called by.
TEST(CudaBench, CallsOneLaunchWhatIsOne) {
  constexpr Index width = 20, rank = 4;
  const CudaBackend backend;
  const Array<float> factors(2 * rank * width), x(9 * width), y(9 * width), h(9 * rank);
  const Factors<const float> f = {.A = factors.data(),
                                  .a_stride = width,
                                  .B = factors.data() + rank * width,
                                  .b_stride = width,
                                  .rank = rank,
                                  .in_features = width,
                                  .out_features = width};
  for (const Index count : {8, 9}) {
    const Tokens<const float> xs = {x.data(), width, count, width};
    const Tokens<float> ys = {y.data(), width, count, width}, hs = {h.data(), rank, count, rank};
    const auto launches_of = [](const auto& call) {
      call();  // sizes the workspace
      Recording launches;
      recording = &launches;
      call();
      recording = nullptr;
      return launches.commands.size();
    };
    EXPECT_EQ(launches_of([&] { tiedlora::forward(backend, f, xs, ys, hs); }), 2u);
    EXPECT_EQ(launches_of([&] { backend.forward(f, xs, ys, hs, {}); }), count == 8 ? 1u : 2u);
  }
}

}  // namespace
}  // namespace gpu_cuda
