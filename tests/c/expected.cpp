// expected GOLDEN DIR: what the C interface must give, by the C++ library itself: DIR/adapter.safetensors,
// and in DIR/expected.bin the bytes of every result of interface_test.c and interface_test.py, in their
// order.
#include <Eigen/Core>
#include <array>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <span>
#include <string>
#include <tiedlora/io.hpp>
#include <tiedlora/tiedlora.hpp>
#include <vector>

#include "support/kernel_instances.hpp"

using namespace tiedlora;

namespace {

// Number i of an array: exact in all three types, and easily made in C and Python.
float number(Index i, Index seed) { return static_cast<float>((i * 37 + seed * 11) % 129 - 64) / 64; }

template <class T>
std::vector<T> numbers(Index n, Index seed) {
  std::vector<T> result;
  for (Index i = 0; i < n; ++i) result.push_back(static_cast<T>(number(i, seed)));
  return result;
}
void fill(std::span<float> array, Index seed) {
  for (std::size_t i = 0; i < array.size(); ++i) array[i] = number(static_cast<Index>(i), seed);
}

std::ofstream out;
template <class T>
void write(std::span<const T> array) {
  out.write(reinterpret_cast<const char*>(array.data()), static_cast<std::streamsize>(array.size_bytes()));
}
template <class T>
void write(const std::vector<T>& array) {
  write(std::span<const T>(array));
}

constexpr Index in = 24, rows = 16, rank = 4, tokens = 5, module = 2;

ModuleList host() {
  ModuleList modules;
  for (int layer = 0; layer < 2; ++layer)
    for (const auto& [kind, out_features] : {std::pair{"q", rows}, {"k", Index{8}}})
      modules.add({.name = "layers." + std::to_string(layer) + "." + kind,
                   .layer = layer,
                   .input = "x",
                   .in_features = in,
                   .out_features = out_features});
  return modules;
}

// x and dx, y and dy in X.
template <class P, class X>
void forward_and_backward(const Adapter<P>& adapter) {
  const std::vector<X> x = numbers<X>(tokens * in, 1), dy = numbers<X>(tokens * rows, 3);
  std::vector<X> y = numbers<X>(tokens * rows, 2), dx = numbers<X>(tokens * in, 4);
  std::vector<float> h(tokens * rank);
  const Tokens<const X> xs = {x.data(), in, tokens, in}, dys = {dy.data(), rows, tokens, rows};
  const Tokens<X> ys = {y.data(), rows, tokens, rows}, dxs = {dx.data(), in, tokens, in};
  const Tokens<float> hs = {h.data(), rank, tokens, rank};
  forward(adapter.factors(module), xs, ys, hs);
  Gradients<float> gradients(adapter.layout());
  backward(adapter.factors(module), xs, hs, dys, gradients.factors(module), dxs, {.scale = 0.5});
  write(h), write(y), write(std::span<const float>(gradients.values())), write(dx);
}

template <class P>
void all_of_type(const std::filesystem::path& file) {
  const auto adapter = load_adapter<P>(file);
  forward_and_backward<P, float>(adapter);
  forward_and_backward<P, Eigen::half>(adapter);
  forward_and_backward<P, Eigen::bfloat16>(adapter);
  auto weight = numbers<P>(rows * in, 5);
  merge(adapter.factors(module), Weight<P>{weight.data(), rows, in, in, 1}, 0.75);
  write(weight);
}

// The tokens of a batch through two adapters, and y of those rows of a larger array that `slots` names.
void batch(const Adapter<float>& tied) {
  Adapter<float> lora(Layout(host(), schemes::lora(), 2));
  fill(lora.trainable(), 7);
  AdapterSet<float> set(host());
  const AdapterId a = set.add(tied), b = set.add(lora);
  const std::vector<TokenAdapter> uses = {{a, 1}, {no_adapter, 1}, {b, 0.5f}, {a, 0.25f}, {b, 1}};
  const BatchPlan<float> plan(set.snapshot(), uses);
  const std::array<Index, tokens> slots = {6, 0, 2, 5, 3};
  const auto x = numbers<float>(tokens * in, 1);
  auto y = numbers<float>(7 * 20, 2);
  std::vector<float> h(static_cast<std::size_t>(plan.max_rank() * plan.size()));
  const Tokens<const float> xs = {x.data(), in, tokens, in};
  const Tokens<float> ys = {y.data(), rows, tokens, 20, slots.data()};
  forward(plan, module, xs, ys, Tokens<float>{h.data(), plan.max_rank(), plan.size(), plan.max_rank()});
  write(y);
}

// A PEFT folder that also holds a copy of the base model's weight of a module.
void save_with_base_weight(const std::filesystem::path& folder) {
  save_peft(Adapter<float>(Layout(host(), schemes::lora(), 2)), folder);
  const std::filesystem::path path = folder / "adapter_model.safetensors";
  const auto file = safetensors::open(path);
  std::vector<safetensors::Entry> entries;
  for (const auto& tensor : file.tensors())
    entries.push_back({.name = tensor.name, .shape = tensor.shape, .data = tensor.bytes.data()});
  const auto weight = numbers<float>(rows * in, 5);
  entries.push_back(
      {.name = "base_model.model.layers.0.q.base_layer.weight", .shape = {rows, in}, .data = weight.data()});
  safetensors::save(path, entries);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const std::filesystem::path golden = argv[1], folder = argv[2];
  std::filesystem::create_directories(folder);
  out.open(folder / "expected.bin", std::ios::binary);

  Adapter<float> adapter(Layout(host(), schemes::tl6(), rank, {.scaling = 0.5}));
  adapter.initialize(3);
  write(std::span<const float>(adapter.trainable()));
  fill(adapter.trainable(), 9);
  save_adapter(folder / "adapter.safetensors", adapter, {.base_model = "a/base"});

  all_of_type<float>(folder / "adapter.safetensors");
  all_of_type<Eigen::half>(folder / "adapter.safetensors");
  all_of_type<Eigen::bfloat16>(folder / "adapter.safetensors");
  batch(adapter);
  const auto peft = load_peft<float>(golden / "peft/lora");
  write(std::span<const float>(peft.adapter.trainable()));
  const auto gguf = load_gguf<Eigen::half>(golden / "gguf/llama_f16.gguf", gguf::as_in_file());
  write(std::span<const Eigen::half>(gguf.adapter.trainable()));
  save_with_base_weight(folder / "peft");
  return out.flush() ? 0 : 1;
}
