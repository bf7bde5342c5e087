// The C++ half of gguf_interop.py: gguf_interop FOLDER writes there adapters for SmolLM2-135M, each as
// NAME.gguf and as the PEFT folder NAME, from which Python makes the same GGUF with the package gguf.
#include <cstdio>
#include <filesystem>
#include <string>
#include <tiedlora/io.hpp>
#include <tiedlora/tiedlora.hpp>

#include "smollm2.hpp"
#include "support/kernel_instances.hpp"

namespace {

using namespace tiedlora;
using gguf::Order;

gguf::Naming naming(Order order) { return gguf::llama({.heads = 9, .kv_heads = 3, .weights = order}); }

/// Every factor random: A as it starts, B small. Values of eight bits, so that s v B u is exact in a float,
/// in whatever order the PEFT folder's and GGUF's writers multiply.
Adapter<float> trained(const Scheme& scheme, Index rank, const LayoutOptions& options, std::uint64_t seed) {
  Scheme random = scheme;
  random.A.init = init::kaiming();
  random.B.init = init::normal(0.02);
  if (random.u) random.u->init = init::normal(1);
  if (random.v) random.v->init = init::normal(1);
  const Layout layout(smollm2(), random, rank, options);
  AlignedArray<float> trainable(layout.trainable_count()), frozen(layout.frozen_count());
  for (const FactorId id : all_factors)
    if (layout.scheme().find(id))
      tiedlora::detail::fill_factor(layout, id, seed,
                                    layout.is_trained(id) ? trainable.data() : frozen.data());
  return Adapter<float>(layout, std::move(trainable), std::move(frozen))
      .cast<Eigen::bfloat16>()
      .cast<float>();
}

void write(const std::filesystem::path& folder, const char* name, const Adapter<float>& adapter, Order order,
           gguf::Type type = gguf::Type::F32) {
  const auto path = folder / (std::string(name) + ".gguf");
  const auto written =
      export_gguf(adapter, path, naming(order), {.type = type, .base_model = "SmolLM2-135M-Instruct"});
  save_peft(adapter, folder / name,
            {.base_model = "HuggingFaceTB/SmolLM2-135M-Instruct", .task_type = "CAUSAL_LM"});
  std::printf("%s: %td modules, %ju bytes\n", path.filename().c_str(), written.modules, written.bytes);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const std::filesystem::path folder = argv[1];
  std::filesystem::create_directories(folder);
  const auto lora = trained(schemes::lora(), 4, {.scaling = 2}, 1);
  write(folder, "lora", lora, Order::gguf);
  write(folder, "lora_f16", lora, Order::gguf, gguf::Type::F16);
  write(folder, "lora_bf16", lora, Order::gguf, gguf::Type::BF16);
  write(folder, "hugging_face", lora, Order::hugging_face);
  write(folder, "tied", trained(schemes::tied_lora(), 8, {.scaling = 0.5}, 2), Order::gguf);
  write(folder, "vera", trained(schemes::vera(), 16, {.scaling = 0.5}, 3), Order::gguf);
  const LayoutOptions ranks = {
      .scaling = 1.5,
      .ranks = {{"model.layers.3.self_attn.q_proj", 1}, {"model.layers.9.mlp.up_proj", 0}},
      .scalings = {{"model.layers.3.self_attn.q_proj", 3}}};
  write(folder, "ranks", trained(schemes::lora(), 4, ranks, 4), Order::gguf);
  Adapter<float> zero(Layout(smollm2(), schemes::tied_lora(), 4));
  zero.initialize(5);
  write(folder, "zero", zero, Order::gguf);
  // Read in GGUF's order, the adapter for transformers' rows is one for GGUF's, and is written as such.
  const auto permuted = load_gguf<float>(folder / "hugging_face.gguf", smollm2(), naming(Order::gguf));
  write(folder, "permuted", permuted.adapter, Order::gguf);
}
