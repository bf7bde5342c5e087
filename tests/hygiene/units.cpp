// The program of odr.sh: three units for three instruction sets, adapters passed between them.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "unit.hpp"

namespace {

struct Unit {
  const char* isa;
  bool runs;
  tiedlora::Adapter<float> (*make_adapter)();
  void (*train)(tiedlora::Adapter<float>&);
  std::vector<double> (*results)(const tiedlora::Adapter<float>&);
  std::uint64_t (*identity)(const tiedlora::Adapter<float>&);
  SharedSizes sizes;
};

// Nothing of a unit may run before it is known that the processor can: isa and sizes are no calculations.
int failures = 0;
void expect(bool holds, const char* what, const char* where) {
  if (holds) return;
  std::printf("%s: %s\n", where, what);
  ++failures;
}

// Units round differently, each result a few times; the coarsest are bfloat16's, of at most 2^-9 of a number.
bool agree(const std::vector<double>& a, const std::vector<double>& b) {
  double apart = 0, size = 0;
  for (std::size_t i = 0; i < a.size() && a.size() == b.size(); ++i)
    apart += (a[i] - b[i]) * (a[i] - b[i]), size += a[i] * a[i];
  return a.size() == b.size() && size > 0 && std::sqrt(apart) <= 0x1p-9 * std::sqrt(size);
}

}  // namespace

int main() {
  __builtin_cpu_init();
  const bool has_avx2 = __builtin_cpu_supports("avx2"), has_avx512 = __builtin_cpu_supports("avx512vl");
  const Unit units[] = {
      {baseline::isa(), true, baseline::make_adapter, baseline::train, baseline::results, baseline::identity,
       baseline::sizes},
      {avx2::isa(), has_avx2, avx2::make_adapter, avx2::train, avx2::results, avx2::identity, avx2::sizes},
      {avx512::isa(), has_avx512, avx512::make_adapter, avx512::train, avx512::results, avx512::identity,
       avx512::sizes}};

  tiedlora::Adapter<float> adapter = baseline::make_adapter();
  baseline::train(adapter);
  const std::vector<double> expected = baseline::results(adapter);
  for (const Unit& unit : units) {
    std::printf("%s%s\n", unit.isa, unit.runs ? "" : ": not run, this processor has no such instructions");
    expect(unit.sizes == baseline::sizes, "types of another layout", unit.isa);
    if (!unit.runs) continue;
    // Made there it starts as the same bits, trained there it is the same function here.
    tiedlora::Adapter<float> other = unit.make_adapter();
    const tiedlora::Adapter<float> start = baseline::make_adapter();
    expect(
        std::memcmp(other.trainable().data(), start.trainable().data(), start.trainable().size_bytes()) == 0,
        "initialize gives other bits", unit.isa);
    expect(unit.identity(adapter) == baseline::identity(adapter), "another fingerprint", unit.isa);
    unit.train(other);
    expect(agree(expected, unit.results(adapter)), "another unit's adapter gives other results", unit.isa);
    expect(agree(expected, baseline::results(other)), "its adapter gives other results in another unit",
           unit.isa);
  }
  return failures;
}
