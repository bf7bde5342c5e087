// Batches on a backend with memory of its own: the plan's arrays and the adapters lie there.
#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <span>
#include <tiedlora/eigen.hpp>
#include <tiedlora/ops.hpp>
#include <tiedlora/serving.hpp>
#include <vector>

#include "support/adapter_pool.hpp"
#include "support/bits.hpp"
#include "support/errors.hpp"
#include "support/fake_device.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

// Values in the device's memory.
class OnFakeDevice {
 public:
  explicit OnFakeDevice(std::span<const float> values)
      : data_(static_cast<float*>(FakeDevice().memory().allocate(values.size_bytes() + 1))),
        size_(values.size()) {
    FakeDevice().memory().upload(values.data(), data_, values.size_bytes());
  }
  explicit OnFakeDevice(const Matrix<float>& m)
      : OnFakeDevice(std::span(m.data(), static_cast<std::size_t>(m.size()))) {}
  ~OnFakeDevice() { FakeDevice().memory().free(data_); }
  OnFakeDevice(const OnFakeDevice&) = delete;
  OnFakeDevice& operator=(const OnFakeDevice&) = delete;

  std::span<const float> span() const { return {data_, size_}; }
  Tokens<float> tokens(const Matrix<float>& like) const {
    return {data_, like.rows(), like.cols(), like.rows()};
  }
  Matrix<float> fetched(const Matrix<float>& like) const {
    Matrix<float> values(like.rows(), like.cols());
    FakeDevice().memory().download(data_, values.data(), size_ * sizeof(float));
    return values;
  }

 private:
  float* data_;
  std::size_t size_;
};

// A host's set and a device's with the same adapters under the same numbers.
struct TwoSets {
  TwoSets(Index in, Index out, Dice& dice) : host(host_modules(in, out)), device(host_modules(in, out)) {
    for (const Scheme& scheme : {scheme_of("ABuv", "AB"), schemes::tied_lora(), schemes::lora()}) {
      const Layout layout(host.modules(), scheme, 3);
      Adapter<float> base(layout);
      fill_factors(base, dice);
      const auto frozen = base.share_frozen();
      const auto on_device = std::make_shared<OnFakeDevice>(base.frozen());
      for (int n = 0; n < 3; ++n) {
        Adapter<float> adapter(layout, frozen);
        dice.fill(adapter.trainable());
        const auto trainable = std::make_shared<OnFakeDevice>(adapter.trainable());
        device_ids.push_back(device.add(
            AdapterView<const float>(layout, trainable->span(), on_device->span()),
            std::make_shared<std::pair<decltype(on_device), decltype(trainable)>>(on_device, trainable),
            {.check_finite = false}));
        host_ids.push_back(host.add(std::move(adapter)));
      }
    }
  }
  AdapterSet<float> host, device;
  std::vector<AdapterId> host_ids, device_ids;
};

TEST(PlanOnDevice, ABatchHasTheBitsOfTheSameLoopsOnTheHost) {
  {
    Dice dice(1);
    const Index in = 7, out = 5, count = 12;
    TwoSets sets(in, out, dice);
    const FakeDevice backend;
    PlanOnDevice on_device(backend);
    BatchPlan<float> host, device;
    for (int batch = 0; batch < 6; ++batch) {
      SCOPED_TRACE(batch);
      std::vector<AdapterUse> host_uses, device_uses;
      const Index tokens = batch == 0 ? 3 : count;  // the second grows
      for (Index t = 0; t < tokens; ++t)
        for (Index n = dice.integer(0, batch % 2 + 1); n > 0; --n) {
          const auto which = static_cast<std::size_t>(dice.integer(0, 8));
          const auto scale = static_cast<float>(dice.uniform());
          host_uses.push_back({t, sets.host_ids[which], scale});
          device_uses.push_back({t, sets.device_ids[which], scale});
        }
      host.assign(sets.host.snapshot(), tokens, host_uses);
      device.assign(sets.device.snapshot(), tokens, device_uses);
      on_device.upload(device);
      const Matrix<float> x = dice.matrix<float>(in, tokens);
      Matrix<float> h = Matrix<float>::Zero(3, host.size());
      const OnFakeDevice device_x(x), device_h(h);
      for (const Index m : {0, 1, 5})
        for (const bool overwrite : {false, true}) {
          Matrix<float> y = dice.matrix<float>(sets.host.modules()[m].out_features, tokens);
          const OnFakeDevice device_y(y);
          const CallOptions o = {.scale = 0.5, .overwrite = overwrite};
          forward(Plain(), host, m, x, y, h, o);
          forward(backend, device, m, device_x.tokens(x), device_y.tokens(y), device_h.tokens(h), o);
          EXPECT_TRUE(same_bits(y, device_y.fetched(y)));
        }
    }
  }
  EXPECT_EQ(FakeDevice::live, 0);
}

// free waits for the kernels in flight, and that is enough: nothing else is needed between batches.
TEST(PlanOnDevice, FreesWhatKernelsInFlightReadOnlyAfterThem) {
  Dice dice(3);
  const Index in = 7, out = 5;
  TwoSets sets(in, out, dice);
  const FakeDevice backend;
  PlanOnDevice on_device(backend);
  BatchPlan<float> host, device;
  Matrix<float> h = Matrix<float>::Zero(3, 40);
  const OnFakeDevice device_h(h);
  std::vector<Matrix<float>> x, y;
  std::deque<OnFakeDevice> device_x, device_y;
  for (const Index tokens : {3, 40}) {
    x.push_back(dice.matrix<float>(in, tokens)), y.push_back(dice.matrix<float>(out, tokens));
    device_x.emplace_back(x.back()), device_y.emplace_back(y.back());
  }
  for (std::size_t batch = 0; batch < 2; ++batch) {
    const std::size_t adapter = 8 - batch;  // each of the two is used by one batch
    const auto tokens = static_cast<std::size_t>(x[batch].cols());
    const auto of_all = [&](AdapterId id) { return std::vector<TokenAdapter>(tokens, TokenAdapter{id}); };
    host.assign(sets.host.snapshot(), of_all(sets.host_ids[adapter]));
    const Index live = FakeDevice::live;
    device.assign(sets.device.snapshot(), of_all(sets.device_ids[adapter]));
    EXPECT_EQ(FakeDevice::live, batch == 0 ? live : live - 1);  // the removed adapter's parameters
    on_device.upload(device);                                   // into other memory the second time
    forward(Plain(), host, 0, x[batch], y[batch], h);
    forward(backend, device, 0, device_x[batch].tokens(x[batch]), device_y[batch].tokens(y[batch]),
            device_h.tokens(h));
    EXPECT_EQ(FakeDevice::in_flight.size(), 2u);
    sets.device.remove(sets.device_ids[adapter]);
  }
  for (std::size_t batch = 0; batch < 2; ++batch)
    EXPECT_TRUE(same_bits(y[batch], device_y[batch].fetched(y[batch]))) << batch;
}

TEST(PlanOnDevice, SaysWhatADeviceCannotRead) {
  Dice dice(2);
  TwoSets sets(4, 4, dice);
  const FakeDevice backend;
  const std::vector<TokenAdapter> tokens = {{sets.device_ids[0]}, {}};
  BatchPlan<float> plan(sets.device.snapshot(), tokens);
  const Matrix<float> x = dice.matrix<float>(4, 2), h(3, 1);
  const OnFakeDevice device_x(x), device_h(h);
  const Tokens<float> xs = device_x.tokens(x), hs = device_h.tokens(h);
  const auto call = [&] { shrink(backend, plan, 0, xs, hs); };
  expect_error(call, {"layers.0.q", "plan's arrays are in the host's memory", "PlanOnDevice::upload"});
  PlanOnDevice on_device(backend);
  on_device.upload(plan);
  call();
  Tokens<float> gathered = xs;
  const Index rows[] = {0, 1};
  gathered.rows = rows;
  expect_error([&] { shrink(backend, plan, 0, gathered, hs); },
               {"layers.0.q", "x of a batch", "rows and pointers"});
  expect_error([&] { expand(backend, plan, 0, hs, gathered); },
               {"layers.0.q", "y of a batch", "rows and pointers"});
  plan.assign(sets.device.snapshot(), tokens);
  expect_error(call, {"PlanOnDevice::upload"});
}

}  // namespace
}  // namespace tiedlora_test
