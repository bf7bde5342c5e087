// memory_bench: how much memory calls and tenants take. Counts every allocation of the process, by operator
// new and by malloc and its relatives, which is why it is a program of its own.
#include <benchmark/benchmark.h>
#include <malloc.h>

#include <cstddef>  // byte
#include <cstdlib>  // malloc
#include <limits>   // numeric_limits
#include <new>      // bad_alloc
#include <string>   // string
#include <utility>  // as_const
#include <vector>   // vector

#include "cases/tenants.hpp"
#include "harness/plan.hpp"
#include "harness/problem.hpp"
#include "harness/program.hpp"

namespace {

// One thread allocates here.
long news = 0, mallocs = 0;
std::size_t malloc_bytes = 0;

void count_malloc(std::size_t size) {
  ++mallocs;
  malloc_bytes += size;
}

}  // namespace

// glibc takes a program's own malloc for every caller, its own libraries too, and keeps its originals under
// these names.
extern "C" {
// NOLINTBEGIN(bugprone-reserved-identifier, readability-identifier-naming)
void* __libc_malloc(std::size_t) noexcept;
void* __libc_calloc(std::size_t, std::size_t) noexcept;
void* __libc_realloc(void*, std::size_t) noexcept;
void* __libc_memalign(std::size_t, std::size_t) noexcept;
// NOLINTEND(bugprone-reserved-identifier, readability-identifier-naming)

void* malloc(std::size_t size) noexcept {
  count_malloc(size);
  return __libc_malloc(size);
}
void* calloc(std::size_t count, std::size_t size) noexcept {
  count_malloc(count * size);
  return __libc_calloc(count, size);
}
void* realloc(void* p, std::size_t size) noexcept {
  count_malloc(size);
  return __libc_realloc(p, size);
}
void* memalign(std::size_t alignment, std::size_t size) noexcept {
  count_malloc(size);
  return __libc_memalign(alignment, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept { return memalign(alignment, size); }
int posix_memalign(void** p, std::size_t alignment, std::size_t size) noexcept {
  *p = memalign(alignment, size);
  return *p ? 0 : 12;  // ENOMEM
}
}

void* operator new(std::size_t size) {
  ++news;
  if (void* p = std::malloc(size)) return p;
  throw std::bad_alloc();
}
void* operator new(std::size_t size, std::align_val_t alignment) {
  ++news;
  if (void* p = memalign(static_cast<std::size_t>(alignment), size)) return p;
  throw std::bad_alloc();
}

namespace bench {
namespace {

/// Allocations of one call of each kind, in parameters P and activations X; and whether the counters count.
template <class P, class X>
void count_allocations(Report& report) {
  const Shape s = {577, 300, 9, 33};
  const auto adapter = make_adapter(make_layout(tl6.make(), 2, s)).template cast<P>();
  tiedlora::Gradients<float> gradients(adapter.layout());
  const auto f = adapter.factors(1);
  const auto g = gradients.factors(1);
  Activations<X> a(s);
  const auto count = [&](const std::string& name, const auto& call) {
    const long news_before = news, mallocs_before = mallocs;
    call();
    const long made = news - news_before, taken = mallocs - mallocs_before;
    report.number(name + ".new", static_cast<double>(made));
    report.number(name + ".malloc", static_cast<double>(taken));
  };
  count("forward", [&] { tiedlora::forward(f, a.x, a.y, a.h); });
  count("forward_without_h", [&] { tiedlora::forward(f, a.x, a.y); });
  count("backward", [&] { tiedlora::backward(f, a.x, a.h, a.dy, g, a.dx); });
  count("halves_in_slices", [&] {
    const tiedlora::CallOptions part = {.slice = {1, 2}};
    tiedlora::shrink(f, a.x, a.h, part);
    tiedlora::expand(f, a.h, a.y, part);
  });
  const tiedlora::BlockGradients<float> blocks(g, s.tokens);
  count("backward_in_blocks", [&] {
    const auto in_turn = [](tiedlora::Index n, const auto& body) {
      for (tiedlora::Index i = 0; i < n; ++i) body(i);
    };
    tiedlora::backward_in_blocks(in_turn, f, a.x, a.h, a.dy, blocks, a.dx);
  });
  count("control", [&] {
    std::vector<float> own(1);
    benchmark::DoNotOptimize(own.data());
  });
}

/// Bytes that the caller allocates between x and backward: h alone. y and dx are spoilt in between, and
/// backward still gives the same bits.
void count_kept_bytes(Report& report, const Shape& s) {
  Problem p(tl6.make(), s);
  Activations<float>& a = p.first();
  const auto f = std::as_const(p.adapter).factors(0);
  const auto g = p.gradients.factors(0);

  const std::size_t before = malloc_bytes;
  std::vector<float> kept(static_cast<std::size_t>(s.rank * s.tokens));
  const tiedlora::Tokens<float> h = {kept.data(), s.rank, s.tokens, s.rank};
  tiedlora::forward(f, a.x, a.y, h);
  const std::size_t bytes = malloc_bytes - before;

  const auto gradients = [&] {
    p.gradients.set_zero();
    a.dx.setZero();
    tiedlora::backward(f, a.x, h, a.dy, g, a.dx);
    return std::vector<float>(p.gradients.values().begin(), p.gradients.values().end());
  };
  const std::vector<float> expected = gradients();
  a.y.setConstant(std::numeric_limits<float>::quiet_NaN());
  if (gradients() != expected) Report::refuse("backward needs more than x and h");
  report.number("kept_bytes", static_cast<double>(bytes));
  report.number("r_T_floats", static_cast<double>(s.rank * s.tokens) * sizeof(float));
}

void add_memory(Plan& plan) {
  using Eigen::bfloat16, Eigen::half;
  const auto add_types = [&](const std::string& name, void (*measure)(Report&)) {
    plan.add("allocations/" + name, [=](Report& report, const Pace&) { measure(report); });
  };
  add_types("float", count_allocations<float, float>);
  add_types("bfloat16", count_allocations<bfloat16, bfloat16>);
  add_types("half", count_allocations<half, half>);
  add_types("float_bfloat16", count_allocations<float, bfloat16>);
  for (const Index d : {576, 4096})
    for (const Index r : {8, 64})
      for (const Index T : {1, 512}) {
        const Shape s = {d, d, r, T};
        plan.add("kept/" + to_string(s), [=](Report& report, const Pace&) { count_kept_bytes(report, s); });
      }
  add_tenants(plan);
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  return bench::run_program(argc, argv, "Counts allocations and bytes.", bench::add_memory);
}
