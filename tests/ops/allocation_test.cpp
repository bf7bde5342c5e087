// Calls on the hot path allocate nothing. A program of its own: it replaces operator new, and Eigen's
// allocator is told to refuse.
#define EIGEN_RUNTIME_NO_MALLOC
#include <gtest/gtest.h>

#include <cstdlib>
#include <new>
#include <tiedlora/tiedlora.hpp>
#include <vector>

#include "support/kernel_instances.hpp"
#include "support/models.hpp"
#include "support/reference.hpp"

namespace {

// Single-threaded, as these tests are.
std::size_t allocations = 0, allocated_bytes = 0;

void* allocate(std::size_t size, std::size_t alignment) {
  ++allocations;
  allocated_bytes += size;
  const std::size_t rounded = (size + alignment - 1) / alignment * alignment;
  if (void* p = std::aligned_alloc(alignment, rounded > 0 ? rounded : alignment)) return p;
  throw std::bad_alloc();
}

// Not inlined: GCC would see free() behind a new that it does not take for ours.
[[gnu::noinline]] void release(void* p) { std::free(p); }

}  // namespace

void* operator new(std::size_t size) { return allocate(size, alignof(std::max_align_t)); }
void* operator new[](std::size_t size) { return allocate(size, alignof(std::max_align_t)); }
void* operator new(std::size_t size, std::align_val_t a) {
  return allocate(size, static_cast<std::size_t>(a));
}
void* operator new[](std::size_t size, std::align_val_t a) {
  return allocate(size, static_cast<std::size_t>(a));
}
void operator delete(void* p) noexcept { release(p); }
void operator delete[](void* p) noexcept { release(p); }
void operator delete(void* p, std::size_t) noexcept { release(p); }
void operator delete[](void* p, std::size_t) noexcept { release(p); }
void operator delete(void* p, std::align_val_t) noexcept { release(p); }
void operator delete[](void* p, std::align_val_t) noexcept { release(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { release(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { release(p); }

namespace tiedlora_test {
namespace {

using namespace tiedlora;

template <class Body>
std::size_t allocations_of(const Body& body) {
  const std::size_t before = allocations;
  Eigen::internal::set_is_malloc_allowed(false);
  body();
  Eigen::internal::set_is_malloc_allowed(true);
  return allocations - before;
}

TEST(Allocation, TheCounterCounts) {
  EXPECT_EQ(allocations_of([] {}), 0u);
  EXPECT_GE(allocations_of([] { std::vector<int> v(3); }), 1u);
  EXPECT_GE(allocations_of([] { AlignedArray<float> a(3); }), 1u);
}

template <class P, class X>
void expect_no_allocations(const CallOptions& options) {
  const Index in = 300, out = 280, rank = 9, count = 11;
  const Layout layout(one_kind(2, in, out), schemes::tied_lora(), rank);
  using Acc = accumulator_t<P>;
  Adapter<P> adapter(layout);
  Gradients<Acc> gradients(layout), others(layout);
  Dice dice(150);
  fill_factors(adapter, dice);
  const Matrix<X> x = dice.matrix<X>(in, count), dy = dice.matrix<X>(out, count);
  Matrix<X> y = dice.matrix<X>(out, count), dx = dice.matrix<X>(in, count), w = dice.matrix<X>(out, in);
  Matrix<Acc> h(rank, count), dh(rank, count);
  EXPECT_EQ(allocations_of([&] {
              const auto f = adapter.factors(1);
              const auto g = gradients.factors(1);
              CallOptions half = options;
              half.slice = {1, 3};
              shrink(f, x, h, half);
              expand(f, h, y, half);
              forward(f, x, y, h, options);
              forward(f, x, y, options);
              forward(f, x.leftCols(1), y.col(2), options);
              backward(f, x, h, dy, g, dx, options);
              backward(f, x, h, dy, g, options);
              expand_backward(f, h, dy, g, dh, options);
              shrink_backward(f, x, dh, g, dx, options);
              gradients.set_zero();
              gradients.add(others);
              merge(f, w);
              unmerge(f, w);
            }),
            0u);
}

TEST(Allocation, ForwardBackwardAndMergeAllocateNothing) {
  const std::vector<float> scales(11, 0.5f);
  std::vector<std::byte> scratch(100000);
  const CallOptions options[] = {{},
                                 {.scale = 2, .token_scale = scales.data(), .overwrite = true},
                                 {.dropout = {.probability = 0.5}},
                                 {.scratch = scratch}};
  for (const CallOptions& o : options) {
    expect_no_allocations<float, float>(o);
    expect_no_allocations<double, double>(o);
    expect_no_allocations<Eigen::bfloat16, Eigen::bfloat16>(o);
    expect_no_allocations<Eigen::half, float>(o);
  }
}

TEST(Allocation, AStepAllocatesNothing) {
  const Layout layout(one_kind(2, 30, 28), schemes::tied_lora(), 4);
  Adapter<float> adapter(layout);
  adapter.initialize(1);
  const Gradients<float> gradients(layout);
  AdamW<float> optimizer(layout);
  EXPECT_EQ(allocations_of([&] {
              const GradientStatistics statistics = gradient_statistics(gradients.values());
              optimizer.step(adapter.trainable(), gradients.values(),
                             {.gradient_scale = clip_factor(statistics.norm, 1)});
            }),
            0u);
}

TEST(Allocation, CountingTheParametersOf70BModelsAllocatesNoParameters) {
  // 80 layers of seven modules: a gigabyte of parameters at rank 128 would be counted in kilobytes.
  ModuleList modules;
  for (int layer = 0; layer < 80; ++layer)
    for (const char* kind : {"q", "k", "v", "o", "gate", "up", "down"})
      modules.add({.name = std::to_string(layer) + "." + kind,
                   .layer = layer,
                   .in_features = 8192,
                   .out_features = 8192});
  const std::size_t before = allocated_bytes;
  const Layout layout(modules, schemes::lora(), 128);
  EXPECT_EQ(layout.trainable_count(), Index{80} * 7 * 128 * 2 * 8192);
  EXPECT_LT(allocated_bytes - before, std::size_t{1} << 20);
}

TEST(Allocation, ATenantPaysForItsTrainedNumbersOnly) {
  const Layout layout(one_kind(4, 512, 512), schemes::vera(1), 64);
  Adapter<float> base(layout);
  const auto shared = base.share_frozen();
  const std::size_t before = allocated_bytes;
  const Adapter<float> tenant(layout, shared);
  EXPECT_LT(allocated_bytes - before,
            static_cast<std::size_t>(layout.trainable_count()) * sizeof(float) + 1024);
}

// Tokens of five adapters, three of them tenants over one A and B.
template <class P, class X>
void expect_no_allocations_in_batches() {
  const Index in = 300, count = 23;
  const ModuleList modules = projections(2, {"q", "k"}, in, "x");
  AdapterSet<P> set(modules);
  Dice dice(151);
  Adapter<P> base(Layout(modules, schemes::vera(1), 9));
  const auto frozen = base.share_frozen();
  std::vector<AdapterId> ids = {no_adapter};
  for (int n = 0; n < 3; ++n) ids.push_back(set.add(Adapter<P>(base.layout(), frozen)));
  for (int n = 0; n < 2; ++n)
    ids.push_back(set.add(Adapter<P>(Layout(modules, schemes::tied_lora(), 5 + n))));
  std::vector<TokenAdapter> tokens;
  for (Index t = 0; t < count; ++t) tokens.push_back({dice.pick(ids)});
  BatchPlan<P> plan(set.snapshot(), tokens);
  const Matrix<X> x = dice.matrix<X>(in, count);
  Matrix<X> y = dice.matrix<X>(in, count);
  using Acc = accumulator_t<P>;
  Matrix<Acc> h(plan.max_rank(), count), other(plan.max_rank(), count);
  const Index q_and_k[] = {0, 1};
  const Tokens<Acc> hs[] = {detail::output_tokens(h), detail::output_tokens(other)};
  const auto calls = [&] {
    for (const bool overwrite : {false, true}) {
      forward(plan, 2, x, y, h, {.overwrite = overwrite});
      for (const Slice slice : {Slice{0, 1}, Slice{1, 3}}) {
        shrink(plan, q_and_k, x, hs, {.slice = slice});
        expand(plan, 1, other, y, {.overwrite = overwrite, .slice = slice});
      }
    }
  };
  EXPECT_EQ(allocations_of(calls), 0u);
  EXPECT_EQ(allocations_of([&] { plan.assign(set.snapshot(), tokens); }), 0u) << "the same plan rebuilt";
  EXPECT_EQ(allocations_of([&] { plan.assign(set.snapshot(), std::span(tokens).first(7)); }), 0u)
      << "a smaller plan";
}

TEST(Allocation, BatchesAllocateNothing) {
  expect_no_allocations_in_batches<float, float>();
  expect_no_allocations_in_batches<double, double>();
  expect_no_allocations_in_batches<Eigen::bfloat16, Eigen::half>();
}

TEST(Allocation, ATenantOfASetCostsItsNumbersAndLittleElse) {
  const Layout layout(one_kind(32, 64, 64), schemes::vera(1), 8);
  Adapter<float> base(layout);
  const auto frozen = base.share_frozen();
  AdapterSet<float> set(layout.modules());
  set.add(Adapter<float>(layout, frozen));  // the table of where its modules are, one for all
  const std::size_t before = allocated_bytes;
  const int tenants = 10000;
  for (int n = 0; n < tenants; ++n) {
    set.add(Adapter<float>(layout, frozen));
    if (n % 100 == 0) (void)set.snapshot();  // what a host does beside it
  }
  const auto numbers = static_cast<double>(layout.trainable_count()) * sizeof(float);
  const double bytes = static_cast<double>(allocated_bytes - before) / tenants;
  EXPECT_LT(bytes, numbers + 300);
}

}  // namespace
}  // namespace tiedlora_test
