// Under the emulation, where memory can run out at will: a batch whose upload fails is empty, not half
// another.
#include <gtest/gtest.h>

#include <span>
#include <stdexcept>
#include <vector>

#include <tiedlora/tiedlora.hpp>

#include "checks/support.hpp"
#include "grouped.cuh"

namespace gpu_cuda {
namespace {

TEST(CudaBatch, HasNoTokensAfterAnUploadWithoutMemory) {
  constexpr Index width = 20, rank = 2, few = 2, many = 50;
  tiedlora::ModuleList modules;
  modules.add({.name = "linear", .in_features = width, .out_features = width});
  const tiedlora::Layout layout(modules, tiedlora::schemes::lora(), rank);
  checks::Dice dice(1);
  const std::vector<float> parameters = checks::draw(dice, layout.trainable_count());
  const Array<float> there(parameters);
  // Two adapters with the same numbers, whose tokens take turns: they are cut into pieces.
  tiedlora::AdapterSet<float> set(modules);
  const tiedlora::AdapterView<const float> view(layout, std::span<const float>(there.data(), there.size()),
                                                {});
  const tiedlora::AdapterId ids[] = {set.add(view, nullptr, {.check_finite = false}),
                                     set.add(view, nullptr, {.check_finite = false})};
  const auto plan = [&](Index tokens) {
    std::vector<tiedlora::TokenAdapter> uses;
    for (Index t = 0; t < tokens; ++t) uses.push_back({ids[t % 2]});
    return tiedlora::BatchPlan<float>(set.snapshot(), uses);
  };
  const CudaBackend backend;
  checks::OnBoth x(dice, width, many), h(dice, rank, many);
  const auto forward = [&](const DeviceBatch<float>& batch, const Tokens<float>& y) {
    batch.shrink(0, Tokens<const float>(x.there()), h.there());
    batch.expand(0, Tokens<const float>(h.there()), y);
  };

  // Tokens, scales, addresses and pieces are an allocation each, and all of them must grow.
  for (const int succeed : {0, 1, 2, 3}) {
    SCOPED_TRACE(succeed);
    DeviceBatch<float> batch(backend);
    batch.assign(plan(few));
    allocations_left = succeed;
    EXPECT_THROW(batch.assign(plan(many)), std::runtime_error);
    EXPECT_EQ(batch.size(), 0);
    EXPECT_EQ(batch.bytes(), 0u);
    checks::OnBoth y(dice, width, many);
    EXPECT_THROW(forward(batch, y.there()), tiedlora::Error);
    y.require_equal("y, which nothing may write", 0, {});

    batch.assign(plan(many));
    forward(batch, y.there());
    tiedlora::forward(tiedlora::factors_at<float>(layout, 0, parameters.data(), nullptr), x.here(), y.here(),
                      h.here());
    y.require_equal("y of the next plan", checks::bound(rank, width), {});
  }
}

}  // namespace
}  // namespace gpu_cuda
