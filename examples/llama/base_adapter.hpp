// Adapters for a base model, from native files, PEFT folders and GGUF files.
#pragma once

#include <filesystem>  // path, exists
#include <stdexcept>   // runtime_error
#include <string>      // string
#include <utility>     // move
#include <vector>      // vector

#include <fmt/format.h>
#include <tiedlora/adapter/adapter.hpp>
#include <tiedlora/adapter/merge.hpp>   // to_lora
#include <tiedlora/io/gguf/load.hpp>    // load_gguf
#include <tiedlora/io/gguf/naming.hpp>  // Naming, Order
#include <tiedlora/io/native.hpp>       // load_adapter
#include <tiedlora/io/peft/load.hpp>    // load_peft

#include "../adapter_format.hpp"
#include "../whole_adapter.hpp"
#include "base_model.hpp"
#include "modules.hpp"

namespace llama {

using tiedlora::gguf::Order;

/// The modules' names in GGUF, and how rows stand there: adapters have transformers' order.
inline tiedlora::gguf::Naming gguf_naming(const BaseModel& base) {
  const Config& c = base.model().config;
  tiedlora::gguf::Naming naming =
      tiedlora::gguf::llama({.heads = c.heads, .kv_heads = c.kv_heads, .weights = Order::hugging_face});
  if (base.architecture() == "llama") return naming;
  // The rows of others' q and k stand as in transformers.
  naming.architecture = base.architecture();
  naming.permuted.clear();
  return naming;
}

namespace detail {

/// By which the rows of a module are permuted in a Llama's GGUF file; 0: they are not.
inline Index permuted_heads(const tiedlora::Module& module, const Config& config) {
  return module.kind == "q_proj" ? config.heads : module.kind == "k_proj" ? config.kv_heads : 0;
}

/// Whether modules that share a B or v have their rows in the same order.
inline bool share_order(const tiedlora::Layout& layout, const Config& config) {
  for (const auto id : {tiedlora::FactorId::B, tiedlora::FactorId::v})
    for (Index m = 0; m < layout.size(); ++m)
      if (const auto* group = layout.group(id, m))
        if (permuted_heads(layout.modules()[m], config) !=
            permuted_heads(layout.modules()[group->first], config))
          return false;
  return true;
}

/// From GGUF's order of rows.
template <class Column>
void to_transformers_order(Column column, Index heads) {
  const std::vector<float> old(column.begin(), column.end());
  const auto rows = static_cast<Index>(old.size());
  for (Index row = 0; row < rows; ++row)
    column[tiedlora::gguf::hugging_face_row(row, rows, heads)] = old[static_cast<std::size_t>(row)];
}

inline tiedlora::Adapter<float> in_transformers_order(tiedlora::Adapter<float> adapter,
                                                      const Config& config) {
  // A B that q shares with v, say, cannot have both orders: then each module gets its own.
  if (!share_order(adapter.layout(), config)) adapter = tiedlora::to_lora(adapter);
  const tiedlora::Layout layout = adapter.layout();
  for (Index m = 0; m < layout.size(); ++m) {
    const Index heads = permuted_heads(layout.modules()[m], config);
    if (heads == 0 || layout.rank(m) == 0) continue;
    if (layout.group(tiedlora::FactorId::B, m)->first == m) {
      auto B = adapter.B(m);
      for (Index k = 0; k < B.cols(); ++k) to_transformers_order(B.col(k), heads);
    }
    const auto* v = layout.group(tiedlora::FactorId::v, m);
    if (v && v->first == m) to_transformers_order(adapter.v(m), heads);
  }
  return adapter;
}

}  // namespace detail

/// Whether a native file or PEFT folder can have the rows of q and k in either order: GGUF files say in which
/// they have them, and only those of Llamas have another than transformers.
inline bool has_two_orders(const std::filesystem::path& adapter, const BaseModel& base) {
  return base.architecture() == "llama" && examples::format_of(adapter) != examples::AdapterFormat::gguf;
}

/// Reads an adapter in any of the three formats, told apart by what it is, into the order of rows in which
/// models are computed here, transformers'. `order` says which a native file or PEFT folder has. Whether its
/// modules are the base's is not looked at. Throws an exception that names the path for what cannot be read,
/// and for values that are not finite unless check_finite is false. `notes` gets what of the file was passed
/// over, in words for a terminal.
inline tiedlora::Adapter<float> load_adapter(const std::filesystem::path& path, const BaseModel& base,
                                             std::vector<std::string>& notes,
                                             Order order = Order::hugging_face, bool check_finite = true) {
  using namespace tiedlora;
  if (!std::filesystem::exists(path))
    throw std::runtime_error(
        fmt::format("there is no {}; give a native file, a PEFT folder or a GGUF adapter",
                    tiedlora::detail::in_quotes(path.string())));
  const auto note = [&](const std::vector<std::string>& texts) {
    for (const std::string& text : texts)
      notes.push_back(tiedlora::detail::in_quotes(path.string()) + ": " + tiedlora::detail::escaped(text));
  };
  const auto in_order = [&](Adapter<float> adapter) {
    if (order == Order::hugging_face || base.architecture() != "llama") return adapter;
    return detail::in_transformers_order(std::move(adapter), base.model().config);
  };
  switch (examples::format_of(path)) {
    case examples::AdapterFormat::gguf: {
      auto loaded = load_gguf<float>(path, gguf_naming(base), {.check_finite = check_finite});
      note(loaded.report.notes);
      return std::move(loaded.adapter);
    }
    case examples::AdapterFormat::peft: {
      const auto modules = [&] { return all_modules(base.model().config); };
      auto loaded = examples::load_whole_peft(path, modules, {.check_finite = check_finite});
      note(loaded.report.notes);
      for (const std::string& copy : loaded.report.base_weights) note({examples::not_compared(copy)});
      return in_order(std::move(loaded.adapter));
    }
    case examples::AdapterFormat::native:
      break;
  }
  return in_order(tiedlora::load_adapter<float>(path, {.check_finite = check_finite}));
}

}  // namespace llama
