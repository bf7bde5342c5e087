// Batches in which every token has adapters of its own, on the device and on the CPU.
#pragma once

#include <span>     // span
#include <string>   // string, to_string
#include <utility>  // move
#include <vector>   // vector

#include "../grouped.cuh"
#include "support.hpp"

namespace gpu_cuda::checks {

/// A, B, u and v, tied over layers; all of them random, so that a scale too many or too few shows.
inline tiedlora::Scheme tenants_over_one_ab() {
  using namespace tiedlora;
  const auto factor = [](bool is_trained, Tying tying) { return Factor{tying, is_trained, init::normal(1)}; };
  return {.A = factor(false, {all_layers, Across::input}),
          .B = factor(false, {all_layers, Across::kind}),
          .u = factor(true, {each_layer, Across::input}),
          .v = factor(true, {each_layer, Across::module})};
}

class BatchCheck {
 public:
  static constexpr Index out = 45, rank = 5;

  explicit BatchCheck(Index tokens, int layers = 2, Index in = 67)
      : tokens_(tokens), in_(in), here_(host_modules(layers, in)), there_(here_.modules()) {}

  /// `size` adapters of one layout and one frozen array.
  void add_family(const tiedlora::Scheme& scheme, int size, Index rank_of_all = rank) {
    const tiedlora::Layout layout(here_.modules(), scheme, rank_of_all, {.scaling = 1.25});
    tiedlora::Adapter<float> base(layout);
    for (Index m = 0; m < layout.size(); ++m)
      fill(base.A(m)), fill(base.B(m)), fill(base.u(m)), fill(base.v(m));
    const auto shared = base.share_frozen();
    arrays_.emplace_back(std::vector<float>(base.frozen().begin(), base.frozen().end()));
    const std::span<const float> frozen(arrays_.back().data(), arrays_.back().size());
    for (int n = 0; n < size; ++n) {
      tiedlora::Adapter<float> adapter(layout, shared);
      const std::vector<float> trained = draw(dice_, layout.trainable_count());
      std::copy(trained.begin(), trained.end(), adapter.trainable().begin());
      arrays_.emplace_back(trained);
      const std::span<const float> trainable(arrays_.back().data(), arrays_.back().size());
      ids_.push_back({here_.add(std::move(adapter)),
                      there_.add(tiedlora::AdapterView<const float>(layout, trainable, frozen), nullptr,
                                 {.check_finite = false})});
    }
  }

  /// What the plan of a token for each adapter sends to the device.
  std::size_t bytes_sent() const {
    std::vector<tiedlora::TokenAdapter> uses;
    for (const Ids& id : ids_) uses.push_back({id.there, 1});
    const CudaBackend backend;
    DeviceBatch<float> batch(backend);
    batch.assign(tiedlora::BatchPlan<float>(there_.snapshot(), uses));
    return batch.bytes();
  }

  /// uses.adapter is the number of an adapter in the order of add_family.
  void check(const std::vector<tiedlora::AdapterUse>& uses) {
    std::vector<tiedlora::AdapterUse> here = uses, there = uses;
    for (std::size_t i = 0; i < uses.size(); ++i) {
      const auto& id = ids_[static_cast<std::size_t>(uses[i].adapter)];
      here[i].adapter = id.here, there[i].adapter = id.there;
    }
    const OwnStream stream;
    const CudaBackend backend(stream);
    DeviceBatch<float> batch(backend);
    const tiedlora::BatchPlan<float> plan(here_.snapshot(), tokens_, here);
    batch.assign(tiedlora::BatchPlan<float>(there_.snapshot(), tokens_, there));
    OnBoth x(dice_, in_, tokens_), h(dice_, rank, std::max<Index>(1, plan.size()));
    for (const Index m : {Index{0}, Index{1}, here_.modules().size() - 1})
      for (const bool overwrite : {false, true}) {
        OnBoth y(dice_, here_.modules()[m].out_features, tokens_);
        const CallOptions o = {.scale = 0.7, .overwrite = overwrite};
        tiedlora::forward(plan, m, x.here(), y.here(), h.here().tokens(0, plan.size()), o);
        batch.shrink(m, Tokens<const float>(x.there()), h.there().tokens(0, plan.size()));
        batch.expand(m, Tokens<const float>(h.there().tokens(0, plan.size())), y.there(), o);
        y.require_equal("module " + std::to_string(m) + (overwrite ? ", overwritten" : ""),
                        3 * bound(rank, in_), stream);
      }
  }
  /// Each token has an adapter or, seldom, none.
  void check_with_random_adapters() {
    std::vector<tiedlora::AdapterUse> uses;
    const auto count = static_cast<Index>(ids_.size());
    for (Index t = 0; t < tokens_; ++t) {
      const Index which = dice_.integer(0, count);
      if (which < count)
        uses.push_back({t, static_cast<tiedlora::AdapterId>(which), static_cast<float>(dice_.uniform())});
    }
    check(uses);
  }
  void check_with_several_adapters_for_a_token() {
    std::vector<tiedlora::AdapterUse> uses;
    const auto last = static_cast<Index>(ids_.size()) - 1;
    for (Index t = 0; t < tokens_; ++t)
      for (Index n = dice_.integer(0, 3); n > 0; --n)
        uses.push_back({t, static_cast<tiedlora::AdapterId>(dice_.integer(0, last)),
                        static_cast<float>(dice_.uniform())});
    check(uses);
  }

 private:
  struct Ids {
    tiedlora::AdapterId here, there;
  };

  /// q and k, which read one x, and down, which reads another.
  static tiedlora::ModuleList host_modules(int layers, Index in) {
    tiedlora::ModuleList modules;
    for (int layer = 0; layer < layers; ++layer)
      for (const char* kind : {"q", "k", "down"})
        modules.add({.name = "layers." + std::to_string(layer) + "." + kind,
                     .layer = layer,
                     .input = kind == std::string("down") ? "" : "x",
                     .in_features = in,
                     .out_features = kind == std::string("k") ? out + 3 : out});
    return modules;
  }
  template <class Map>
  void fill(Map map) {
    for (Index j = 0; j < map.cols(); ++j)
      for (Index i = 0; i < map.rows(); ++i) map(i, j) = static_cast<float>(dice_.uniform());
  }

  Index tokens_, in_;
  Dice dice_{1};
  std::vector<Array<float>> arrays_;  // on the device; they outlive the set
  tiedlora::AdapterSet<float> here_, there_;
  std::vector<Ids> ids_;
};

inline void batch_of_tenants_and_others() {
  BatchCheck batch(90);
  batch.add_family(tenants_over_one_ab(), 12);
  batch.add_family(tiedlora::schemes::tied_lora(), 2);
  for (const Index rank : {5, 1, 4, 2, 3}) batch.add_family(tiedlora::schemes::lora(), 2, rank);
  for (int n = 0; n < 2; ++n) batch.check_with_random_adapters();
}
inline void batch_of_tenants() {
  BatchCheck batch(200);
  batch.add_family(tenants_over_one_ab(), 64);
  batch.check_with_random_adapters();
}
inline void batch_with_several_adapters_for_a_token() {
  BatchCheck batch(90);
  batch.add_family(tenants_over_one_ab(), 3);
  batch.add_family(tiedlora::schemes::lora(), 3);
  batch.check_with_several_adapters_for_a_token();
}
inline void batch_without_adapters() { BatchCheck(90).check({}); }

/// Blocks share the sums of each adapter.
inline void batch_of_more_features_than_a_block() {
  BatchCheck batch(12, 1, shrink_few_shape::features + 76);
  batch.add_family(tiedlora::schemes::lora(), 4);
  batch.check_with_random_adapters();
}

/// 64 LoRAs: what goes to the device does not grow with the model.
inline void batch_is_sent_once_for_all_modules() {
  std::size_t bytes[2] = {};
  for (const int layers : {1, 20}) {
    BatchCheck batch(64, layers);
    batch.add_family(tiedlora::schemes::lora(), 64);
    bytes[layers == 1 ? 0 : 1] = batch.bytes_sent();
  }
  require(
      bytes[0] == bytes[1] && bytes[0] < 8000,
      "of one layer " + std::to_string(bytes[0]) + " bytes are sent, of twenty " + std::to_string(bytes[1]));
}

/// 65535 blocks are what a grid has in its second and third dimension. Of eight idle tokens each.
inline void batch_of_more_pieces_than_65535() {
  constexpr Index tokens = 65600 * 8, width = 1;
  tiedlora::ModuleList modules;
  modules.add({.name = "linear", .in_features = width, .out_features = width});
  const tiedlora::AdapterSet<float> set(modules);
  const OwnStream stream;
  const CudaBackend backend(stream);
  DeviceBatch<float> batch(backend);
  batch.assign(tiedlora::BatchPlan<float>(set.snapshot(), tokens, {}));
  Dice dice(1);
  OnBoth y(dice, width, tokens);
  batch.expand(0, Tokens<const float>{.width = 0, .count = 0}, y.there(), {.overwrite = true});
  y.host.assign(y.host.size(), 0);
  y.require_equal("y of tokens without adapters", 0, stream);
}

}  // namespace gpu_cuda::checks
