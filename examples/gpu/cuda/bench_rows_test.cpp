// Under the emulation, which counts launches for times: that `gpu_cuda bench` runs, at small sizes, which
// rows it writes, and how many launches each of the calls is that it times.
#include <gtest/gtest.h>

#include <string>
#include <vector>

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
  std::vector<BenchRow> rows;
  bench(options, [&](const BenchRow& row) { rows.push_back(row); });
  struct Expected {
    std::string line;
    double launches;
  };
  std::vector<Expected> expected;
  for (const std::string type : {"bfloat16", "float"})
    for (const std::string tokens : {"1", "9"})
      for (const std::string factors : {"hot", "cold"}) {
        const std::string rest = "," + type + ",24,40,4," + tokens + ",1," + factors + ",";
        expected.push_back({"tiedlora,\"forward\"" + rest, 2});
        if (tokens == "1") expected.push_back({"tiedlora,\"forward, one launch\"" + rest, 1});
        expected.push_back({"tiedlora,\"forward+backward\"" + rest, 5});
      }
  const std::string rest = ",bfloat16,16,16,16,64,2,hot,";
  expected.push_back({"tiedlora,\"tenants over one A, B\"" + rest, 2});
  expected.push_back({"tiedlora,\"LoRAs of their own\"" + rest, 2});
  expected.push_back({"tiedlora,\"LoRAs of their own, a loop\"" + rest, 4});
  ASSERT_EQ(rows.size(), expected.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(csv_line(rows[i]).substr(0, expected[i].line.size()), expected[i].line);
    EXPECT_EQ(rows[i].seconds, expected[i].launches) << expected[i].line;
  }
}

}  // namespace
}  // namespace gpu_cuda
