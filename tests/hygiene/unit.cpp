// The whole public face of the core in one translation unit, for odr.sh: compiled for several instruction
// sets, whose objects are compared and linked into one program. TIEDLORA_UNIT names the namespace of this
// one.
#include "unit.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <tiedlora/tiedlora.hpp>
#include <tiedlora/verify/gradient_check.hpp>
#include <utility>
#include <vector>

namespace {

using namespace tiedlora;

// Numbers in memory of the library's own: Eigen's matrices and vectors of its types are the host's business.
template <class T>
struct Matrix {
  Matrix(Index rows, Index columns, int seed = 0) : view{.width = rows, .count = columns, .stride = rows} {
    memory = AlignedArray<T>(rows * columns);
    view.data = memory.data();
    for (Index i = 0; i < memory.size(); ++i)
      memory.data()[i] = static_cast<T>(static_cast<float>((7 * i + 5 * seed) % 23) / 16 - 0.5f);
  }
  AlignedArray<T> memory;
  Tokens<T> view;
};

struct Results {
  std::vector<double>& numbers;
  template <class T>
  void add(const T& number) {
    numbers.push_back(static_cast<double>(number));
  }
  template <class Range>
  void add_all(const Range& range) {
    for (const auto& number : range) add(number);
  }
};

// Every call on one module, with parameters P and activations X.
template <class P, class X>
void use_module(const Adapter<P>& adapter, Index m, Results& results) {
  using Acc = accumulator_t<P>;
  const Factors<const P> f = adapter.factors(m);
  constexpr Index count = 37;
  const Matrix<X> x(f.in_features, count, 1), dy(f.out_features, count, 2);
  const Matrix<X> y(f.out_features, count, 3), dx(f.in_features, count, 4);
  const Matrix<Acc> h(f.rank, count), dh(f.rank, count);
  Gradients<Acc> gradients(adapter.layout());
  const Factors<Acc> g = gradients.factors(m);
  std::vector<std::byte> scratch(scratch_bytes(f, count));
  const std::vector<float> token_scale(static_cast<std::size_t>(count), 0.5f);

  shrink(f, x.view, h.view);
  expand(f, h.view, y.view, {.scale = 0.5, .token_scale = token_scale.data()});
  forward(f, x.view, y.view, h.view);
  forward(f, x.view, y.view, {.overwrite = true});
  expand(f, h.view.tokens(1, 1), y.view.features(0, f.out_features).tokens(1, 1));
  backward(f, x.view, h.view, dy.view, g, dx.view, {.scratch = scratch});
  backward(f, x.view, h.view, dy.view, g);
  expand_backward(f, h.view, dy.view, g, dh.view, {.scratch = scratch});
  shrink_backward(f, x.view, dh.view, g, dx.view);
  const Dropout dropout = {.probability = 0.25, .seed = 3};
  forward(f, x.view, y.view, h.view, {.dropout = dropout});
  backward(f, x.view, h.view, dy.view, g, dx.view, {.dropout = dropout});

  const Factors<const P> modules[] = {f, f};
  const Tokens<Acc> hs[] = {h.view, dh.view};
  const Tokens<const Acc> dhs[] = {h.view, dh.view};
  const Factors<Acc> gs[] = {g, g};
  shrink(std::span<const Factors<const P>>(modules), x.view, hs);
  shrink_backward(std::span<const Factors<const P>>(modules), x.view, dhs, gs, dx.view);

  Gradients<Acc> sum = gradients;
  sum.add(gradients);
  results.add_all(y.memory), results.add_all(dx.memory), results.add_all(sum.values());
}

// The weight, and other forms of the adapter.
template <class P>
void use_adapter(const Adapter<P>& adapter, Results& results) {
  const Factors<const P> f = adapter.factors(0);
  const Matrix<float> memory(f.in_features, f.out_features, 5);
  const Weight<float> weight = {memory.view.data, f.out_features, f.in_features, f.in_features};
  merge(f, weight), unmerge(f, weight, 0.5);
  {
    const MergedWeight guard(f, weight);
    results.add_all(memory.memory);
  }
  results.add_all(memory.memory);
  results.add_all(to_lora(adapter).trainable());
  results.add_all(combine({Weighted<Adapter<P>>{&adapter, 0.5}, {&adapter, 2}}).trainable());
  const Adapter<P> frozen = freeze(adapter, {FactorId::A, FactorId::B});
  results.add(frozen.A(0)(0, 0)), results.add(frozen.B(0)(0, 0));
  results.add(frozen.u(0)(0)), results.add(frozen.v(0)(0));
  const Fusion fusion = {
      .fused = "layers.*.qk", .parts = {"layers.*.q", "layers.*.k"}, .out_features = {35, 35}};
  results.add_all(fuse(adapter, fusion).trainable());
  results.add_all(split(fuse(adapter, fusion), fusion).trainable());
  shrink(slice_in(f, 1, 1), memory.view.features(1, 1),
         Matrix<accumulator_t<P>>(f.rank, f.out_features).view);
  results.add(slice_out(f, 1, 1).B[0]);
  Adapter<P> copy = adapter;
  copy = frozen;
  results.add_all(copy.view().frozen());
}

// Tenants over one A and B, and one adapter by itself, in one batch.
template <class P>
void use_batch(const Adapter<P>& adapter, Results& results) {
  Adapter<P> base = freeze(adapter, {FactorId::A, FactorId::B});
  Adapter<P> tenant(base.layout(), base.share_frozen());
  std::copy(std::as_const(base).trainable().begin(), std::as_const(base).trainable().end(),
            tenant.trainable().begin());
  AdapterSet<P> set(adapter.layout().modules());
  const AdapterId alone = set.add(adapter), one = set.add(base), two = set.add(std::move(tenant));
  const AdapterId removed = set.add(adapter);
  set.remove(removed);
  const AdapterUse uses[] = {{0, one, 0.5f}, {1, two, 1}, {3, alone, 2}, {1, alone, 1}};
  BatchPlan<P> plan(set.snapshot(), 4, uses);
  const Factors<const P> f = adapter.factors(0);
  const Matrix<float> x(f.in_features, 4, 6), y(f.out_features, 4, 7);
  const Matrix<accumulator_t<P>> h(f.rank, 4), other(f.rank, 4);
  forward(plan, 0, x.view, y.view, h.view);
  const Index modules[] = {0, 1};
  const Tokens<accumulator_t<P>> hs[] = {h.view, other.view};
  parallel_stages(
      [](Index n, const auto& body) {
        for (Index i = 0; i < n; ++i) body(i);
      },
      2, [&](Slice slice) { shrink(plan, modules, x.view, hs, {.slice = slice}); },
      [&](Slice slice) { expand(plan, 1, other.view, y.view, {.overwrite = true, .slice = slice}); });
  const TokenAdapter tokens[] = {{two}, {no_adapter}, {one}, {two}};
  plan.assign(set.snapshot(), tokens);
  forward(plan, 1, x.view, y.view, h.view);
  results.add_all(y.memory);
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

}  // namespace

namespace TIEDLORA_UNIT {

const char* isa() { return kernel_isa(); }

Adapter<float> make_adapter() {
  Adapter<float> adapter(
      Layout(make_modules(), schemes::tied_lora(), 5, {.scalings = {{"layers.1.k", 0.5}}}));
  adapter.initialize(1);
  return adapter;
}

void train(Adapter<float>& adapter) {
  AdamW<float> optimizer(adapter.layout());
  Gradients<float> gradients(adapter.layout());
  int i = 0;
  for (float& gradient : gradients.values()) gradient = static_cast<float>(++i % 7) - 3;
  const GradientStatistics statistics = gradient_statistics(gradients.values());
  optimizer.step(adapter.trainable(), gradients.values(),
                 {.gradient_scale = clip_factor(statistics.norm, 1)});
  gradients.set_zero();
}

std::vector<double> results(const Adapter<float>& adapter) {
  std::vector<double> numbers;
  Results results{numbers};
  use_adapter(adapter, results);
  use_adapter(adapter.cast<Eigen::bfloat16>(), results);
  use_batch(adapter, results);
  use_batch(adapter.cast<Eigen::bfloat16>(), results);
  for (Index m = 0; m < adapter.layout().size(); ++m) use_module<float, float>(adapter, m, results);
  use_module<Eigen::half, Eigen::bfloat16>(adapter.cast<Eigen::half>(), 0, results);
  use_module<double, double>(adapter.cast<double>(), 0, results);
  Adapter<float> vera(Layout(make_modules(), schemes::vera(3), 5));
  vera.initialize(1);
  results.add_all(vera.frozen());
  return numbers;
}

std::uint64_t identity(const Adapter<float>& adapter) {
  const std::vector<std::string> names = {"blk.0.q", "blk.0.k", "blk.1.q", "blk.1.k"};
  const NameMap map{{"layers.*.q", "blk.*.q"}, {"layers.*.k", "blk.*.k"}};
  std::vector<ActiveAdapter> uses = {{fingerprint(adapter), 0.5}};
  for (const Index m : bind_names(adapter.layout(), names, map))
    uses.push_back({static_cast<std::uint64_t>(m), 1});
  return cache_key(uses);
}

constexpr SharedSizes sizes = sizes_here;

}  // namespace TIEDLORA_UNIT
