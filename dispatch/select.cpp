// Which of the compiled instruction sets this processor, and its operating system, run. Compiled plainly.
#if defined(__x86_64__)
#include <cpuid.h>  // __get_cpuid
#endif

#include <tiedlora/dispatch.hpp>

TIEDLORA_BEGIN_NAMESPACE
namespace dispatch {

#if defined(__x86_64__)
extern const KernelSet sse2, avx2, avx512, avx512bf16;
#else
extern const KernelSet plain;
#endif

namespace {

#if defined(__x86_64__)
// Clang 14 knows no "f16c".
bool has_f16c() {
  unsigned a, b, c = 0, d;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

std::vector<const KernelSet*> find_sets() {
#if defined(__x86_64__)
  std::vector<const KernelSet*> found = {&sse2};
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !has_f16c()) return found;
  found.push_back(&avx2);
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
    return found;
  found.push_back(&avx512);
  if (__builtin_cpu_supports("avx512bf16")) found.push_back(&avx512bf16);
  return found;
#else
  return {&plain};
#endif
}

}  // namespace

const std::vector<const KernelSet*>& sets() {
  static const std::vector<const KernelSet*> found = find_sets();
  return found;
}

const KernelSet& best() { return *sets().back(); }

const KernelSet& set(const std::string& isa) {
  std::string names;
  for (const KernelSet* one : sets()) {
    if (isa == one->isa) return *one;
    names += (names.empty() ? "" : ", ") + std::string(one->isa);
  }
  tiedlora::detail::fail("no kernels for \"", isa, "\" on this processor; it runs ", names);
}

}  // namespace dispatch
TIEDLORA_END_NAMESPACE
