// A batch of tenants and of other adapters on the device, against the CPU's batch.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <tiedlora/eigen.hpp>
#include <tiedlora/serving.hpp>
#include <tiedlora/verify/tolerance.hpp>
#include <utility>
#include <vector>

#include "array.hpp"
#include "backend.hpp"
#include "support/adapter_pool.hpp"
#include "test_device.hpp"

namespace gpu_opencl {
namespace {

using namespace tiedlora;
using tiedlora_test::Dice, tiedlora_test::Matrix;

class OpenClBatch : public OpenCl {
 protected:
  static constexpr Index in = 67, out = 45, rank = 5, tokens = 40;

  OpenClBatch() : on_cpu(tiedlora_test::host_modules(in, out)), on_device(on_cpu.modules()) {}

  /// `count` adapters with one frozen array, in both sets.
  void add_family(const Scheme& scheme, int count) {
    const Layout layout(on_cpu.modules(), scheme, rank);
    Adapter<float> base(layout);
    tiedlora_test::fill_factors(base, dice);
    const auto shared = base.share_frozen();
    const auto frozen = std::make_shared<Array<float>>(device(), base.frozen());
    for (int n = 0; n < count; ++n) {
      Adapter<float> adapter(layout, shared);
      dice.fill(adapter.trainable());
      // Whoever owns both arrays lives as long as the adapter is used.
      struct Owner {
        std::shared_ptr<Array<float>> frozen;
        Array<float> trainable;
      };
      const auto owner =
          std::shared_ptr<Owner>(new Owner{frozen, {device(), std::as_const(adapter).trainable()}});
      const AdapterView<const float> view(layout, owner->trainable.span(),
                                          frozen->span().first(base.frozen().size()));
      device_ids.push_back(on_device.add(view, owner, {.check_finite = false}));
      cpu_ids.push_back(on_cpu.add(std::move(adapter)));
    }
  }

  Dice dice{1};
  AdapterSet<float> on_cpu, on_device;
  std::vector<AdapterId> cpu_ids, device_ids;
};

TEST_F(OpenClBatch, IsTheCpusBatch) {
  add_family(tiedlora_test::scheme_of("ABuv", "AB"), 12);  // tenants over one A and B
  add_family(schemes::tied_lora(), 2);
  add_family(schemes::lora(), 2);
  const Backend backend(device());
  PlanOnDevice uploaded(backend);
  BatchPlan<float> cpu_plan, device_plan;
  for (int batch = 0; batch < 3; ++batch) {
    SCOPED_TRACE(batch);
    std::vector<TokenAdapter> cpu_tokens, device_tokens;
    for (Index t = 0; t < tokens; ++t) {
      const auto which = static_cast<std::size_t>(dice.integer(0, static_cast<Index>(cpu_ids.size())));
      const auto scale = static_cast<float>(dice.uniform());
      const bool idle = which == cpu_ids.size();
      cpu_tokens.push_back({idle ? no_adapter : cpu_ids[which], scale});
      device_tokens.push_back({idle ? no_adapter : device_ids[which], scale});
    }
    cpu_plan.assign(on_cpu.snapshot(), cpu_tokens);
    device_plan.assign(on_device.snapshot(), device_tokens);
    uploaded.upload(device_plan);
    const Matrix<float> x = dice.matrix<float>(in, tokens);
    Matrix<float> h(rank, cpu_plan.size());
    const auto flat = [](const Matrix<float>& m) {
      return std::span(m.data(), static_cast<std::size_t>(m.size()));
    };
    const Array<float> device_x(device(), flat(x)), device_h(device(), flat(h));
    for (const Index m : {0, 1, 5})
      for (const bool overwrite : {false, true}) {
        const Index width = on_cpu.modules()[m].out_features;
        Matrix<float> y = dice.matrix<float>(width, tokens);
        const Array<float> device_y(device(), flat(y));
        const CallOptions o = {.scale = 0.7, .overwrite = overwrite};
        forward(cpu_plan, m, x, y, h, o);
        forward(backend, device_plan, m, Tokens<const float>{device_x.data(), in, tokens, in},
                Tokens<float>{device_y.data(), width, tokens, width},
                Tokens<float>{device_h.data(), rank, device_plan.size(), rank}, o);
        // A sum of in · rank products of values below 1, each of two sums rounded as verify's bound says.
        const double bound =
            2 * verify::random_rounding_bound<float>(in + rank + 4, static_cast<double>(in * rank));
        const std::vector<float> values = device_y.download();
        for (Index i = 0; i < y.size(); ++i)
          ASSERT_NEAR(values[static_cast<std::size_t>(i)], y.data()[i], bound)
              << "module " << m << ", number " << i;
      }
  }
}

}  // namespace
}  // namespace gpu_opencl
