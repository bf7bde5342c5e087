// Any bytes as a GGUF file: what is accepted holds together, and loads if it is an adapter.
#include <cstdlib>
#include <tiedlora/io/gguf.hpp>
#include <vector>

#include "fuzz.hpp"

void tiedlora_fuzz(std::span<const std::byte> bytes) {
  using namespace tiedlora;
  const auto file = gguf::try_parse(bytes);
  if (!file) {
    require(!file.error().empty());
    return;
  }
  for (const gguf::File::Entry& entry : file->metadata()) {
    require(file->find_value(entry.key) == &entry.value);
    (void)entry.value.text();
    (void)entry.value.boolean();
    (void)entry.value.natural();
    (void)entry.value.number();
    const auto texts = entry.value.texts();
    require(!texts || static_cast<Index>(texts->size()) == entry.value.count);
    (void)entry.value.numbers<std::uint8_t>();
    (void)entry.value.numbers<double>();
  }
  const std::byte* end = bytes.data();
  for (const gguf::Tensor& tensor : file->tensors()) {
    require(file->find_tensor(tensor.name) == &tensor);
    require(tensor.bytes.data() >= end);
    end = tensor.bytes.data() + tensor.bytes.size();
    require(end <= bytes.data() + bytes.size());
    if (tensor.count() > Index{1} << 20) continue;
    std::vector<float> numbers(static_cast<std::size_t>(tensor.count()));
    (void)gguf::try_read(tensor, std::span(numbers));
  }
  ModuleList modules;
  for (const char* name : {"model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.k_proj"})
    modules.add({.name = name, .in_features = 4, .out_features = name[13] == '0' ? 8 : 4});
  const auto naming = gguf::llama({.heads = 2, .kv_heads = 1, .weights = gguf::Order::hugging_face});
  for (const bool partial : {false, true}) {
    const auto loaded = gguf::detail::try_read_lora<float>(*file, modules, naming, {.partial = partial});
    require(loaded ? !loaded->report.used.empty() : !loaded.error().empty());
  }
}
