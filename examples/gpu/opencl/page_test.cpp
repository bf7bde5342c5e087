// What docs/gpu.md shows, run. The blocks of the page are included where they would stand.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdio>
#include <fstream>
#include <memory>
#include <regex>
#include <span>
#include <string>
#include <tiedlora/tiedlora.hpp>
#include <tiedlora/verify.hpp>
#include <vector>

#include "array.hpp"
#include "backend.hpp"
#include "support/dice.hpp"
#include "support/models.hpp"
#include "test_device.hpp"

namespace gpu_opencl {
namespace {

#include "gpu_page_first.inc"

class GpuPage : public OpenCl {};

constexpr std::size_t checks_and_failed = 57;  // the columns before what depends on roundings

// What the page shows below its first kernel.
std::vector<std::string> sample_table() {
  std::ifstream page(TIEDLORA_GOLDEN_DIR "/../../docs/gpu.md");
  std::vector<std::string> lines;
  bool is_there = false;
  for (std::string line; std::getline(page, line);) {
    if (line.rfind("    parameters in float", 0) == 0) is_there = true;
    if (is_there && line.rfind("    ", 0) != 0) break;
    if (is_there) lines.push_back(line.substr(4));
  }
  return lines;
}
std::string without_numbers(const std::string& text) {
  return "\n" + std::regex_replace(text, std::regex("-?[0-9]+\\.[0-9]+(e[-+][0-9]+)?"), "#");
}

TEST_F(GpuPage, AFirstKernelIsRightAloneAndTheTableSaysWhatIsNext) {
#include "gpu_page_parity.inc"
  for (const auto& row : report.rows)
    if (row.check == "shrink: h") {
      EXPECT_EQ(row.failed, 0) << report.table();
    }
  ASSERT_NE(report.first_failure(), nullptr);
  EXPECT_EQ(report.first_failure()->call, "expand");

  // The page's table is what is printed, except for the figures that depend on a device's roundings.
  const std::vector<std::string> shown = sample_table();
  ASSERT_GT(shown.size(), 8u);
  const std::string printed = without_numbers(report.table());
  for (const std::string& line : shown) {
    if (line == "…") continue;
    const bool is_row = line.find(", seed ") != std::string::npos && line[0] != ' ';
    const std::string beginning = is_row ? line.substr(0, checks_and_failed) : line;
    EXPECT_NE(printed.find(without_numbers(beginning)), std::string::npos) << beginning << "\n"
                                                                           << report.table();
  }
}

TEST_F(GpuPage, AnAdapterOnTheDeviceTrainsAndServes) {
  const tiedlora::Layout layout(tiedlora_test::one_kind(2, 20, 12), tiedlora::schemes::tied_lora(), 3);
  tiedlora::Adapter<float> adapter(layout);
  tiedlora_test::Dice dice(1);
  dice.fill(adapter.trainable());
  tiedlora::AdamW<float> optimizer(layout, {.learning_rate = 1e-2});
  constexpr Index m = 1, tokens = 3;
  const Backend backend(device());
  const auto random = [&](Index rows) { return dice.matrix<float>(rows, tokens); };
  const auto x_here = random(20), y_here = random(12), dy_here = random(12), h_here = random(3),
             dx_here = random(20);
  std::vector<std::unique_ptr<Array<float>>> arrays;
  const auto put = [&](const tiedlora_test::Matrix<float>& v) {
    arrays.push_back(
        std::make_unique<Array<float>>(device(), std::span(v.data(), static_cast<std::size_t>(v.size()))));
    return Tokens<float>{arrays.back()->data(), v.rows(), tokens, v.rows()};
  };
  const Tokens<float> x = put(x_here), y = put(y_here), dy = put(dy_here), h = put(h_here), dx = put(dx_here);
  const Tokens<float> x_of_batch = put(x_here), y_of_batch = put(y_here), h_of_batch = put(h_here);
  const std::shared_ptr<const void> owner;
#include "gpu_page_memory.inc"

  // Its step.
#include "gpu_page_adamw.inc"

  // A batch with what came out of it.
#include "gpu_page_batch.inc"

  // The same on the CPU.
  const auto fetched = [&](const Tokens<float>& there) {
    tiedlora_test::Matrix<float> v(there.width, tokens);
    memory.download(there.data, v.data(), static_cast<std::size_t>(v.size()) * sizeof(float));
    return v;
  };
  auto y_cpu = y_here, h_cpu = h_here, dx_cpu = dx_here;
  tiedlora::Gradients<float> gradients_cpu(layout);
  tiedlora::AdamW<float> optimizer_cpu(layout, {.learning_rate = 1e-2});
  tiedlora::forward(adapter.factors(m), x_here, y_cpu, h_cpu);
  tiedlora::backward(adapter.factors(m), x_here, h_cpu, dy_here, gradients_cpu.factors(m), dx_cpu);
  EXPECT_TRUE(fetched(y).isApprox(y_cpu, 1e-5f));
  EXPECT_TRUE(fetched(dx).isApprox(dx_cpu, 1e-5f));
  optimizer_cpu.step(adapter.trainable(), gradients_cpu.values());
  std::vector<float> stepped(n);
  memory.download(trainable, stepped.data(), n * sizeof(float));
  for (std::size_t i = 0; i < n; ++i) EXPECT_NEAR(stepped[i], adapter.trainable()[i], 1e-4f) << i;
  EXPECT_EQ(optimizer.step_count(), 1);

  tiedlora::AdapterSet<float> set_cpu(layout.modules());
  const tiedlora::AdapterId id_cpu = set_cpu.add(std::move(adapter));
  const tiedlora::BatchPlan<float> plan_cpu(
      set_cpu.snapshot(), std::vector<tiedlora::TokenAdapter>{{id_cpu}, {id_cpu, 0.5f}, {}});
  auto batch_cpu = y_here;
  tiedlora::forward(plan_cpu, m, x_here, batch_cpu, h_cpu);
  EXPECT_TRUE(fetched(y_of_batch).isApprox(batch_cpu, 1e-3f));
  EXPECT_EQ(fetched(y_of_batch).col(2), y_here.col(2));
}

}  // namespace
}  // namespace gpu_opencl
