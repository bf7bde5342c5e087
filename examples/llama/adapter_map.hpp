// Which module of an adapter stands at which place of the transformer.
#pragma once

#include <algorithm>  // max, max_element
#include <optional>   // optional
#include <string>     // string, to_string
#include <vector>     // vector

#include <tiedlora/adapter/layout.hpp>

#include "activations.hpp"
#include "modules.hpp"

namespace llama {

/// The adapter's modules by layer and Slot, found once by name; -1 where there is none or its rank is 0.
class AdapterMap {
 public:
  /// Without an adapter.
  explicit AdapterMap(const Config& config)
      : modules_(static_cast<std::size_t>(config.layers), filled(-1)),
        h_slots_(modules_.size(), filled(-1)),
        h_ranks_(modules_.size(), filled(0)) {}

  /// Throws tiedlora::Error if the layout has a module that the model has not, or one of another shape.
  AdapterMap(const Config& config, const tiedlora::Layout& layout) : AdapterMap(config) {
    layout_ = layout;
    std::vector<bool> known(static_cast<std::size_t>(layout.size()));
    for (std::size_t l = 0; l < modules_.size(); ++l) {
      Index gradient_size = 0;
      for (std::size_t s = 0; s < slots.size(); ++s) {
        if (!has_slot(config, slots[s].slot)) continue;
        const tiedlora::Module ours = make_module(config, static_cast<Index>(l), slots[s].slot);
        const std::optional<Index> m = layout.modules().try_find(ours.name);
        if (!m) continue;
        known[static_cast<std::size_t>(*m)] = true;
        check_shape(ours, layout.modules()[*m]);
        if (layout.rank(*m) == 0) continue;
        modules_[l][s] = *m;
        assign_h(layout, l, s);
        gradient_size += layout.rank(*m) * (ours.in_features + ours.out_features + 1) + ours.out_features;
      }
      gradient_size_ = std::max(gradient_size_, gradient_size);
    }
    for (std::size_t m = 0; m < known.size(); ++m)
      if (!known[m])
        throw tiedlora::Error("llama: the adapter's module \"" +
                              layout.modules()[static_cast<Index>(m)].name + "\" is not one of the model's " +
                              std::to_string(config.layers) + " layers with fused_qkv " +
                              (config.fused_qkv ? "on" : "off") + " (wrong base model?)");
  }

  bool is_for(const tiedlora::Layout& layout) const { return layout_ && *layout_ == layout; }

  Index module(Index layer, Slot slot) const { return modules_[at(layer)][at(slot)]; }
  /// Where the module's h lives: in its own slot, or in that of the first module with the same input and the
  /// same A.
  Slot h_slot(Index layer, Slot slot) const { return static_cast<Slot>(h_slots_[at(layer)][at(slot)]); }
  /// The ranks of the h that live in each slot; 0: none.
  const std::vector<BySlot>& h_ranks() const { return h_ranks_; }

  Index largest_rank() const {
    Index largest = 0;
    for (const BySlot& ranks : h_ranks_)
      largest = std::max(largest, *std::max_element(ranks.begin(), ranks.end()));
    return largest;
  }
  /// What tiedlora::BlockGradients of all adapters of a layer need for one block, at most.
  Index gradient_size() const { return gradient_size_; }
  /// The lowest layer with an adapter; the number of layers if there is none.
  Index lowest_layer() const {
    std::size_t l = 0;
    while (l < h_ranks_.size() && h_ranks_[l] == filled(0)) ++l;
    return static_cast<Index>(l);
  }

 private:
  static std::size_t at(Index layer) { return static_cast<std::size_t>(layer); }
  static std::size_t at(Slot slot) { return static_cast<std::size_t>(slot); }
  static BySlot filled(Index value) {
    BySlot filled;
    filled.fill(value);
    return filled;
  }

  void assign_h(const tiedlora::Layout& layout, std::size_t l, std::size_t s) {
    const auto A = [&](std::size_t slot) {
      return layout.group_index(tiedlora::FactorId::A, modules_[l][slot]);
    };
    for (std::size_t earlier = 0; earlier < s; ++earlier)
      if (modules_[l][earlier] >= 0 && slots[earlier].input == slots[s].input && A(earlier) == A(s)) {
        h_slots_[l][s] = h_slots_[l][earlier];
        return;
      }
    h_slots_[l][s] = static_cast<Index>(s);
    h_ranks_[l][s] = layout.rank(modules_[l][s]);
  }

  static void check_shape(const tiedlora::Module& ours, const tiedlora::Module& theirs) {
    const auto shape = [](const tiedlora::Module& m) {
      return std::to_string(m.out_features) + "x" + std::to_string(m.in_features);
    };
    if (shape(theirs) != shape(ours))
      throw tiedlora::Error("llama: \"" + ours.name + "\" is " + shape(ours) +
                            " (out x in) in the model and " + shape(theirs) +
                            " in the adapter (wrong base model?)");
  }

  std::optional<tiedlora::Layout> layout_;
  std::vector<BySlot> modules_, h_slots_, h_ranks_;  // by layer
  Index gradient_size_ = 0;
};

}  // namespace llama
