// Which linear modules of the transformer an adapter can sit on.
#pragma once

#include <algorithm>    // find
#include <array>        // array
#include <span>         // span
#include <string>       // string
#include <string_view>  // string_view
#include <vector>       // vector

#include <tiedlora/adapter/modules.hpp>

#include "config.hpp"

namespace llama {

/// The linear modules of a layer, in the order in which modules() lists them.
enum class Slot { q, k, v, qkv, o, gate, up, down };
inline constexpr int slot_count = 8;

struct SlotInfo {
  Slot slot;
  std::string_view kind;   ///< last component of the Hugging Face name
  std::string_view block;  ///< the component before it
  std::string_view input;  ///< what it reads: modules of a layer with equal labels read the same x
};
inline constexpr std::array<SlotInfo, slot_count> slots = {
    {{Slot::q, "q_proj", "self_attn", "attn_input"},
     {Slot::k, "k_proj", "self_attn", "attn_input"},
     {Slot::v, "v_proj", "self_attn", "attn_input"},
     {Slot::qkv, "qkv_proj", "self_attn", "attn_input"},
     {Slot::o, "o_proj", "self_attn", "attn_output"},
     {Slot::gate, "gate_proj", "mlp", "mlp_input"},
     {Slot::up, "up_proj", "mlp", "mlp_input"},
     {Slot::down, "down_proj", "mlp", "mlp_output"}}};

inline bool is_attention_input(Slot slot) { return slot <= Slot::qkv; }

/// Whether the config has that module: q, k and v apart, or fused.
inline bool has_slot(const Config& config, Slot slot) {
  return !is_attention_input(slot) || (slot == Slot::qkv) == config.fused_qkv;
}

/// "model.layers.3.self_attn.q_proj": what PEFT calls it, too.
inline std::string module_name(Index layer, Slot slot) {
  const SlotInfo& info = slots[static_cast<std::size_t>(slot)];
  return "model.layers." + std::to_string(layer) + "." + std::string(info.block) + "." +
         std::string(info.kind);
}

inline tiedlora::Module make_module(const Config& c, Index layer, Slot slot) {
  const SlotInfo& info = slots[static_cast<std::size_t>(slot)];
  const std::array<Index, slot_count> out = {c.q_width(), c.kv_width(),   c.kv_width(),   c.qkv_width(),
                                             c.width,     c.feed_forward, c.feed_forward, c.width};
  return {.name = module_name(layer, slot),
          .layer = static_cast<int>(layer),
          .kind = std::string(info.kind),
          .input = std::string(info.input),
          .in_features = slot == Slot::down ? c.feed_forward
                         : slot == Slot::o  ? c.q_width()
                                            : c.width,
          .out_features = out[static_cast<std::size_t>(slot)]};
}

/// The modules of the given kinds ("q_proj", "down_proj", …) in the given layers (empty: in all), in the
/// model's order whatever that of `kinds` and `layers`. Throws tiedlora::Error for a kind or a layer that the
/// config does not have.
inline tiedlora::ModuleList modules(const Config& config, std::span<const std::string> kinds,
                                    std::span<const Index> layers = {}) {
  validate(config);
  for (const Index layer : layers)
    if (layer < 0 || layer >= config.layers)
      throw tiedlora::Error("llama: there is no layer " + std::to_string(layer) + "; the model's are 0 to " +
                            std::to_string(config.layers - 1));
  std::array<bool, slot_count> wanted = {};
  for (const std::string& kind : kinds) {
    const auto info =
        std::find_if(slots.begin(), slots.end(), [&](const SlotInfo& s) { return s.kind == kind; });
    if (info == slots.end() || !has_slot(config, info->slot)) {
      std::string known;
      for (const SlotInfo& s : slots)
        if (has_slot(config, s.slot)) known += (known.empty() ? "" : ", ") + std::string(s.kind);
      throw tiedlora::Error("llama: no module is of kind \"" + kind + "\"; with fused_qkv " +
                            (config.fused_qkv ? "on" : "off") + " there are " + known);
    }
    wanted[static_cast<std::size_t>(info->slot)] = true;
  }
  tiedlora::ModuleList list;
  for (Index layer = 0; layer < config.layers; ++layer) {
    if (!layers.empty() && std::find(layers.begin(), layers.end(), layer) == layers.end()) continue;
    for (const SlotInfo& info : slots)
      if (wanted[static_cast<std::size_t>(info.slot)]) list.add(make_module(config, layer, info.slot));
  }
  return list;
}

/// Those of every kind.
inline tiedlora::ModuleList all_modules(const Config& config) {
  std::vector<std::string> kinds;
  for (const SlotInfo& info : slots)
    if (has_slot(config, info.slot)) kinds.emplace_back(info.kind);
  return modules(config, kinds);
}

}  // namespace llama
