// The program of instruction_sets.sh: a unit for every x86-64 that uses the whole library, files too, and
// hands views to units for higher instruction sets.
#include "operations.cpp"  // the same calls in this unit

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <tiedlora/io.hpp>
#include <tiedlora/tiedlora.hpp>
#include <tiedlora/verify.hpp>
#include <utility>
#include <vector>

namespace {

using namespace tiedlora;

int failures = 0;
void expect(bool holds, const char* what, const char* where) {
  if (holds) return;
  std::printf("%s: %s\n", where, what);
  ++failures;
}

ModuleList make_modules() {
  ModuleList modules;
  for (int layer = 0; layer < 2; ++layer)
    for (const char* kind : {"q", "k"})
      modules.add({.name = "layers." + std::to_string(layer) + "." + kind,
                   .layer = layer,
                   .input = "x",
                   .in_features = 45,
                   .out_features = 35});
  return modules;
}

template <class T>
struct Matrix {
  Matrix(Index rows, Index columns, int seed) : memory(static_cast<std::size_t>(rows * columns)) {
    view = {.data = memory.data(), .width = rows, .count = columns, .stride = rows};
    for (std::size_t i = 0; i < memory.size(); ++i)
      memory[i] = T(static_cast<float>((7 * i + 5 * static_cast<std::size_t>(seed)) % 23) / 16 - 0.5f);
  }
  std::vector<T> memory;
  Tokens<T> view;
};

/// All values that `use` writes, for parameters P.
template <class P>
std::vector<float> results(const Adapter<float>& adapter, Index m, void (*use)(const Operands<P>&)) {
  constexpr Index count = 37;
  const Factors<const float> f = adapter.factors(m);
  std::vector<P> a, b;
  for (Index i = 0; i < f.rank * f.in_features; ++i) a.push_back(P(f.A[i]));
  for (Index i = 0; i < f.rank * f.out_features; ++i) b.push_back(P(f.B[i]));
  const Matrix<P> x(f.in_features, count, 1), dy(f.out_features, count, 2);
  const Matrix<P> y(f.out_features, count, 3), dx(f.in_features, count, 4);
  const Matrix<float> h(f.rank, count, 5), dh(f.rank, count, 6);
  Gradients<float> gradients(adapter.layout());
  const std::vector<float> token_scale(static_cast<std::size_t>(count), 0.5f);
  std::vector<std::byte> scratch(scratch_bytes(f, count));
  std::vector<float> blocks(
      static_cast<std::size_t>(token_blocks(count) * BlockGradients<float>::size(gradients.factors(m))));
  use({.f = {.A = a.data(),
             .a_stride = f.in_features,
             .B = b.data(),
             .b_stride = f.out_features,
             .scaling = f.scaling,
             .rank = f.rank,
             .in_features = f.in_features,
             .out_features = f.out_features,
             .name = f.name},
       .gradient = gradients.factors(m),
       .x = x.view,
       .dy = dy.view,
       .y = y.view,
       .dx = dx.view,
       .h = h.view,
       .dh = dh.view,
       .token_scale = token_scale.data(),
       .scratch = scratch,
       .blocks = blocks});
  std::vector<float> numbers;
  for (const P number : y.memory) numbers.push_back(static_cast<float>(number));
  for (const P number : dx.memory) numbers.push_back(static_cast<float>(number));
  numbers.insert(numbers.end(), h.memory.begin(), h.memory.end());
  numbers.insert(numbers.end(), gradients.values().begin(), gradients.values().end());
  return numbers;
}

/// Units round differently, each result a few times; the coarsest are bfloat16's, of at most 2^-9 of a
/// number.
bool agree(const std::vector<float>& a, const std::vector<float>& b) {
  double apart = 0, size = 0;
  for (std::size_t i = 0; i < a.size() && a.size() == b.size(); ++i) {
    const double x = static_cast<double>(a[i]), y = static_cast<double>(b[i]);
    apart += (x - y) * (x - y);
    size += x * x;
  }
  return a.size() == b.size() && size > 0 && std::sqrt(apart) <= 0x1p-7 * std::sqrt(size);
}

/// An adapter that has been trained for some steps.
Adapter<float> train() {
  Adapter<float> adapter(
      Layout(make_modules(), schemes::tied_lora(), 5, {.scalings = {{"layers.1.k", 0.5}}}));
  adapter.initialize(1);
  AdamW<float> optimizer(adapter.layout(), {.learning_rate = 0.05});
  Gradients<float> gradients(adapter.layout());
  const Matrix<float> x(45, 8, 1), target(35, 8, 2);
  double before = 0, after = 0;
  for (int step = 0; step < 20; ++step) {
    double loss = 0;
    for (Index m = 0; m < adapter.layout().size(); ++m) {
      Matrix<float> y(35, 8, 3), h(5, 8, 0);
      forward(adapter.factors(m), x.view, y.view, h.view);
      for (std::size_t i = 0; i < y.memory.size(); ++i) {
        y.memory[i] -= target.memory[i];
        loss += static_cast<double>(y.memory[i] * y.memory[i]);
      }
      backward(adapter.factors(m), x.view, h.view, y.view, gradients.factors(m));
    }
    (step == 0 ? before : after) = loss;
    const GradientStatistics statistics = gradient_statistics(gradients.values());
    optimizer.step(adapter.trainable(), gradients.values(),
                   {.gradient_scale = clip_factor(statistics.norm, 100)});
    gradients.set_zero();
  }
  expect(after < 0.9 * before, "training does not lower the loss", kernel_isa());
  return adapter;
}

/// Weights, other forms of the adapter, many adapters in one batch.
template <class P>
void serve(const Adapter<P>& adapter) {
  const Factors<const P> f = adapter.factors(0);
  const Matrix<float> memory(f.in_features, f.out_features, 5);
  const Weight<float> weight = {memory.view.data, f.out_features, f.in_features, f.in_features};
  merge(f, weight);
  unmerge(f, weight);
  {
    const MergedWeight guard(f, weight);
  }
  const Fusion fusion = {
      .fused = "layers.*.qk", .parts = {"layers.*.q", "layers.*.k"}, .out_features = {35, 35}};
  const auto lora = to_lora(adapter);
  const auto sum = combine({Weighted<Adapter<P>>{&adapter, 0.5}, {&adapter, 2}});
  const auto fused = fuse(adapter, fusion);
  expect(split(fused, fusion).layout().size() == adapter.layout().size(), "split loses modules",
         kernel_isa());
  expect(lora.layout().size() == sum.layout().size(), "to_lora loses modules", kernel_isa());

  Adapter<P> base = freeze(adapter, {FactorId::A, FactorId::B});
  Adapter<P> tenant(base.layout(), base.share_frozen());
  std::copy(std::as_const(base).trainable().begin(), std::as_const(base).trainable().end(),
            tenant.trainable().begin());
  AdapterSet<P> set(adapter.layout().modules());
  const AdapterId alone = set.add(adapter), one = set.add(base), two = set.add(std::move(tenant));
  const AdapterUse uses[] = {{0, one, 0.5f}, {1, two, 1}, {3, alone, 2}, {1, alone, 1}};
  const BatchPlan<P> plan(set.snapshot(), 4, uses);
  const Matrix<float> x(f.in_features, 4, 6), y(f.out_features, 4, 7);
  const Matrix<accumulator_t<P>> h(f.rank, 4, 0);
  forward(plan, 0, x.view, y.view, h.view);
  expect(y.memory != Matrix<float>(f.out_features, 4, 7).memory, "a batch adds nothing", kernel_isa());
}

/// Files of all formats.
void write_and_read(const Adapter<float>& adapter, const std::string& folder) {
  std::filesystem::create_directories(folder);
  save_adapter(folder + "/adapter.safetensors", adapter);
  const Adapter<float> same = load_adapter<float>(folder + "/adapter.safetensors");
  expect(std::ranges::equal(same.trainable(), adapter.trainable()), "a file is read as other parameters",
         kernel_isa());
  save_peft(to_lora(adapter), folder + "/peft", {.base_model = "none"});
  const auto loaded = load_peft<float>(folder + "/peft", adapter.layout().modules());
  expect(fingerprint(loaded.adapter) != 0, "PEFT's files are read as nothing", kernel_isa());
  expect(!gguf::try_open(folder + "/adapter.safetensors"), "safetensors are read as GGUF", kernel_isa());
}

}  // namespace

int main(int /*argc*/, char** argv) {
  const Adapter<float> adapter = train();
  serve(adapter);
  serve(adapter.cast<Eigen::bfloat16>());
  write_and_read(adapter, std::string(argv[0]) + ".files");

  __builtin_cpu_init();
  const struct {
    const char* isa;
    bool runs;
    void (*use_float)(const Operands<float>&);
    void (*use_short)(const Operands<Short>&);
    void (*fail)(const Operands<float>&);
  } units[] = {
      {avx2::isa(), __builtin_cpu_supports("avx2") != 0, avx2::use, avx2::use, avx2::fail},
      {avx512::isa(), __builtin_cpu_supports("avx512vl") != 0, avx512::use, avx512::use, avx512::fail}};
  for (const auto& unit : units) {
    std::printf("%s%s\n", unit.isa, unit.runs ? "" : ": not run, this processor has no such instructions");
    if (!unit.runs) continue;
    for (Index m = 0; m < adapter.layout().size(); ++m) {
      expect(agree(results<float>(adapter, m, baseline::use), results<float>(adapter, m, unit.use_float)),
             "other results in float", unit.isa);
      expect(agree(results<Short>(adapter, m, baseline::use), results<Short>(adapter, m, unit.use_short)),
             "other results in 16 bits", unit.isa);
    }
    try {
      results<float>(adapter, 1, unit.fail);
      expect(false, "a wrong operand is accepted", unit.isa);
    } catch (const Error& error) {
      expect(std::string(error.what()).find("\"layers.0.k\"") != std::string::npos, error.what(), unit.isa);
    }
  }
  return failures;
}
