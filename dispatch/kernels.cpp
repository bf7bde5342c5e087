// One instruction set's kernels. Compiled once for each, with
//   -DTIEDLORA_DISPATCH_SET=sse2
//   -DTIEDLORA_DISPATCH_SET=avx2        -mavx2 -mfma -mf16c
//   -DTIEDLORA_DISPATCH_SET=avx512      -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl
//   -DTIEDLORA_DISPATCH_SET=avx512bf16  the same and -mavx512bf16
//   -DTIEDLORA_DISPATCH_SET=plain       once, on processors other than x86-64
// and includes <tiedlora/ops.hpp> alone of the library (docs/builds.md says why).
#include <tiedlora/dispatch.hpp>

TIEDLORA_BEGIN_NAMESPACE
namespace dispatch {
namespace {  // of this unit: under a name that units share the linker would keep one of them

template <class P, class X>
constexpr Kernels<P, X> kernels() {
  return {
      [](const Factors<const P>& f, const Tokens<const X>& x, const Tokens<float>& h, const CallOptions& o) {
        CpuBackend().shrink(f, x, h, o);
      },
      [](const Factors<const P>& f, const Tokens<const float>& h, const Tokens<X>& y, const CallOptions& o) {
        CpuBackend().expand(f, h, y, o);
      },
      [](const Factors<const P>& f, const Tokens<const float>& h, const Tokens<const X>& dy,
         const Factors<float>& gradient, const Tokens<float>& dh,
         const CallOptions& o) { CpuBackend().expand_backward(f, h, dy, gradient, dh, o); },
      [](const Factors<const P>& f, const Tokens<const X>& x, const Tokens<const float>& dh,
         const Factors<float>& gradient, const Tokens<X>& dx,
         const CallOptions& o) { CpuBackend().shrink_backward(f, x, dh, gradient, dx, o); },
      [](std::span<const Factors<const P>> modules, const Tokens<const X>& x,
         std::span<const Tokens<float>> h, const CallOptions& o) { CpuBackend().shrink(modules, x, h, o); },
      [](std::span<const Factors<const P>> modules, const Tokens<const X>& x,
         std::span<const Tokens<const float>> dh, std::span<const Factors<float>> gradients,
         const Tokens<X>& dx,
         const CallOptions& o) { CpuBackend().shrink_backward(modules, x, dh, gradients, dx, o); },
      [](const Factors<const P>& f, const Tenants<P>& tenants, const Tokens<const float>& h,
         const Tokens<X>& y, const CallOptions& o) { CpuBackend().expand(f, tenants, h, y, o); }};
}

}  // namespace

extern const KernelSet TIEDLORA_DISPATCH_SET;
const KernelSet TIEDLORA_DISPATCH_SET = {kernels<float, float>(),       kernels<float, Half>(),
                                         kernels<float, BFloat16>(),    kernels<Half, float>(),
                                         kernels<Half, Half>(),         kernels<BFloat16, float>(),
                                         kernels<BFloat16, BFloat16>(), kernel_isa()};

}  // namespace dispatch
TIEDLORA_END_NAMESPACE
