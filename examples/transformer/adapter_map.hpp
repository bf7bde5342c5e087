// Which module of an adapter stands at which place of the transformer.
#pragma once

#include <array>     // array
#include <optional>  // optional
#include <string>    // string, to_string
#include <vector>    // vector

#include <tiedlora/layout.hpp>

#include "activations.hpp"
#include "modules.hpp"

namespace transformer {

/// The adapter's modules by layer and Slot, found once by name; -1 where there is none or its rank is 0.
class AdapterMap {
 public:
  /// Without an adapter.
  explicit AdapterMap(const Config& config)
      : index_(static_cast<std::size_t>(config.layers), filled(-1)), ranks_(index_.size(), filled(0)) {}

  /// Throws tiedlora::Error if the layout has a module that the model has not, or one of another shape.
  AdapterMap(const Config& config, const tiedlora::Layout& layout) : AdapterMap(config) {
    layout_ = layout;
    const tiedlora::ModuleList& list = layout.modules();
    std::vector<bool> known(static_cast<std::size_t>(list.size()));
    for (std::size_t l = 0; l < index_.size(); ++l)
      for (const SlotInfo& info : slots) {
        if (!has_slot(config, info.slot)) continue;
        const tiedlora::Module ours = make_module(config, static_cast<Index>(l), info.slot);
        const std::optional<Index> m = list.try_find(ours.name);
        if (!m) continue;
        known[static_cast<std::size_t>(*m)] = true;
        const tiedlora::Module& theirs = list[*m];
        if (theirs.in_features != ours.in_features || theirs.out_features != ours.out_features)
          throw tiedlora::Error("transformer: \"" + ours.name + "\" is " + shape(ours) +
                                " (out x in) in the model and " + shape(theirs) +
                                " in the adapter (wrong base model?)");
        const std::size_t s = static_cast<std::size_t>(info.slot);
        ranks_[l][s] = layout.rank(*m);
        if (layout.rank(*m) > 0) index_[l][s] = *m;
      }
    for (std::size_t m = 0; m < known.size(); ++m)
      if (!known[m])
        throw tiedlora::Error("transformer: the adapter's module \"" + list[static_cast<Index>(m)].name +
                              "\" is not one of the model's " + std::to_string(config.layers) +
                              " layers with fused_qkv " + (config.fused_qkv ? "on" : "off") +
                              " (wrong base model?)");
  }

  bool is_for(const tiedlora::Layout& layout) const { return layout_ && *layout_ == layout; }
  Index operator()(Index layer, Slot slot) const {
    return index_[static_cast<std::size_t>(layer)][static_cast<std::size_t>(slot)];
  }
  const std::vector<SlotRanks>& ranks() const { return ranks_; }
  Index largest_rank() const {
    Index largest = 0;
    for (const SlotRanks& of_layer : ranks_)
      largest = std::max(largest, *std::max_element(of_layer.begin(), of_layer.end()));
    return largest;
  }
  /// The lowest layer with an adapter; the number of layers if there is none.
  Index lowest_layer() const {
    std::size_t l = 0;
    while (l < ranks_.size() && *std::max_element(ranks_[l].begin(), ranks_[l].end()) == 0) ++l;
    return static_cast<Index>(l);
  }

 private:
  static SlotRanks filled(Index value) {
    SlotRanks filled;
    filled.fill(value);
    return filled;
  }
  static std::string shape(const tiedlora::Module& m) {
    return std::to_string(m.out_features) + "x" + std::to_string(m.in_features);
  }

  std::optional<tiedlora::Layout> layout_;
  std::vector<SlotRanks> index_, ranks_;
};

}  // namespace transformer
