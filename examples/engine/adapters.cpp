#include "adapters.hpp"

#include <string>   // string
#include <utility>  // move
#include <vector>   // vector

#include <tiedlora/adapter/merge.hpp>
#include <tiedlora/io.hpp>

#include "../adapter_format.hpp"
#include "../whole_adapter.hpp"

namespace engine {

using llama::Config;
using llama::GgufLayer;
using llama::GgufWeight;
using llama::Index;

tiedlora::ModuleList modules_of(const GgufModel& model) {
  const auto names = tiedlora::gguf::llama({.weights = Order::gguf}).names;
  tiedlora::ModuleList modules;
  int layer_number = 0;
  for (const GgufLayer& layer : model.layers) {
    const auto add = [&](const GgufWeight& weight, const char* input) {
      modules.add({.name = *names.to_module(weight.name),
                   .layer = layer_number,
                   .input = input,
                   .in_features = weight.in,
                   .out_features = weight.out});
    };
    for (const GgufWeight* weight : {&layer.q, &layer.k, &layer.v}) add(*weight, "attention_input");
    add(layer.o, "attention_output");
    for (const GgufWeight* weight : {&layer.gate, &layer.up}) add(*weight, "mlp_input");
    add(layer.down, "mlp_product");
    ++layer_number;
  }
  return modules;
}

namespace {

/// Rows of q and k as GGUF has them, for an adapter that has them as transformers does.
template <class Column>
void permute(Column column, Index heads) {
  const std::vector<float> old(column.begin(), column.end());
  const auto rows = static_cast<Index>(old.size());
  for (Index row = 0; row < rows; ++row)
    column[row] = old[static_cast<std::size_t>(tiedlora::gguf::hugging_face_row(row, rows, heads))];
}

Index permuted_heads(const tiedlora::Module& module, const Config& sizes) {
  return module.kind == "q_proj" ? sizes.heads : module.kind == "k_proj" ? sizes.kv_heads : 0;
}

/// Whether modules that share a B or v have their rows in the same order.
bool share_order(const tiedlora::Layout& layout, const Config& sizes) {
  for (const auto id : {tiedlora::FactorId::B, tiedlora::FactorId::v})
    for (Index m = 0; m < layout.size(); ++m)
      if (const auto* group = layout.group(id, m))
        if (permuted_heads(layout.modules()[m], sizes) !=
            permuted_heads(layout.modules()[group->first], sizes))
          return false;
  return true;
}

tiedlora::Adapter<float> to_gguf_order(tiedlora::Adapter<float> adapter, const Config& sizes) {
  // A B that q shares with v, say, cannot have both orders: then each module gets its own.
  if (!share_order(adapter.layout(), sizes)) adapter = tiedlora::to_lora(adapter);
  const tiedlora::Layout layout = adapter.layout();
  for (Index m = 0; m < layout.size(); ++m) {
    const Index heads = permuted_heads(layout.modules()[m], sizes);
    if (heads == 0 || layout.rank(m) == 0) continue;
    if (layout.group(tiedlora::FactorId::B, m)->first == m) {
      auto B = adapter.B(m);
      for (Index k = 0; k < B.cols(); ++k) permute(B.col(k), heads);
    }
    const auto* v = layout.group(tiedlora::FactorId::v, m);
    if (v && v->first == m) permute(adapter.v(m), heads);
  }
  return adapter;
}

}  // namespace

bool tells_no_order(const std::filesystem::path& path) {
  return std::filesystem::exists(path) && examples::format_of(path) != examples::AdapterFormat::gguf;
}

tiedlora::Adapter<float> load_adapter(const std::filesystem::path& path, const GgufModel& model,
                                      Order order) {
  using namespace tiedlora;
  const auto ordered = [&](Adapter<float> adapter) {
    return order == Order::gguf ? adapter : to_gguf_order(std::move(adapter), model.sizes);
  };
  const examples::AdapterFormat format = examples::format_of(path);
  if (format == examples::AdapterFormat::peft) {
    return ordered(examples::load_whole_peft(path, [&] { return modules_of(model); }).adapter);
  }
  if (format == examples::AdapterFormat::gguf)
    return load_gguf<float>(path, gguf::llama({.weights = Order::gguf})).adapter;
  return ordered(tiedlora::load_adapter<float>(path));
}

}  // namespace engine
