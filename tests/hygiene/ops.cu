// <tiedlora/ops.hpp> in a .cu file: kernels of a user's own take views by value, of CUDA's 16-bit types too,
// and the calls above them are checked and divided by the library.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <tiedlora/ops.hpp>
#include <type_traits>

using namespace tiedlora;

static_assert(std::is_same_v<accumulator_t<__half>, float> &&
              std::is_same_v<accumulator_t<__nv_bfloat16>, float>);
static_assert(std::is_trivially_copyable_v<Factors<const __half>> &&
              std::is_trivially_copyable_v<Tokens<float>>);

/// h = A x, a thread for each rank and token.
template <class P>
__global__ void shrink_kernel(Factors<const P> f, Tokens<const P> x, Tokens<float> h) {
  const Index k = threadIdx.x, t = blockIdx.x;
  if (k >= f.rank || t >= x.count) return;
  float sum = 0;
  for (Index i = 0; i < f.in_features; ++i)
    sum += static_cast<float>(f.A[k * f.a_stride + i]) * static_cast<float>(x[t][i]);
  h[t][k] = sum;
}

/// y += c v∘B(u∘h), a thread for each feature and token.
template <class P>
__global__ void expand_kernel(Factors<const P> f, Tokens<const float> h, Tokens<P> y, float c) {
  const Index i = threadIdx.x, t = blockIdx.x;
  if (i >= f.out_features || y.is_none()) return;
  float sum = 0;
  for (Index k = 0; k < f.rank; ++k)
    sum += static_cast<float>(f.B[k * f.b_stride + i]) * (f.u ? static_cast<float>(f.u[k]) : 1.0f) * h[t][k];
  y[t][i] = static_cast<P>(static_cast<float>(y[t][i]) + c * (f.v ? static_cast<float>(f.v[i]) : 1.0f) * sum);
}

/// Adds where a kernel of backward would: gradients are Factors as well.
__global__ void add_kernel(Factors<float> gradient, Tokens<float> dh) {
  if (gradient.u) gradient.u[threadIdx.x] += dh[0][threadIdx.x];
}

struct Kernels {
  template <class P>
  void shrink(const Factors<const P>& f, Tokens<const P> x, Tokens<float> h, const CallOptions&) const {
    shrink_kernel<P><<<static_cast<unsigned>(x.count), static_cast<unsigned>(f.rank)>>>(f, x, h);
  }
  template <class P>
  void expand(const Factors<const P>& f, Tokens<const float> h, Tokens<P> y, const CallOptions& o) const {
    const float c = f.scaling * static_cast<float>(o.scale);
    expand_kernel<P><<<static_cast<unsigned>(y.count), static_cast<unsigned>(f.out_features)>>>(f, h, y, c);
  }
  template <class P>
  void expand_backward(const Factors<const P>& f, Tokens<const float>, Tokens<const P>,
                       const Factors<float>& gradient, Tokens<float> dh, const CallOptions&) const {
    add_kernel<<<1, static_cast<unsigned>(f.rank)>>>(gradient, dh);
  }
  template <class P>
  void shrink_backward(const Factors<const P>&, Tokens<const P>, Tokens<const float>, const Factors<float>&,
                       Tokens<P>, const CallOptions&) const {}
};
static_assert(Backend<Kernels, float> && Backend<Kernels, __half> && Backend<Kernels, __nv_bfloat16>);

/// Checked calls with the kernels.
template <class P>
void call(const Factors<P>& f, Tokens<P> x, Tokens<P> y, Tokens<float> h, const Factors<float>& gradient) {
  forward(Kernels(), f, x, y, h);
  forward(Kernels(), f, x, y.features(0, f.out_features), h.tokens(0, x.count), {.scale = 0.5});
  backward(Kernels(), f, x, h, y, gradient, x);
  shrink(Kernels(), slice_in(f, 0, 8), x.features(0, 8), h);
}
template void call(const Factors<float>&, Tokens<float>, Tokens<float>, Tokens<float>, const Factors<float>&);
template void call(const Factors<__half>&, Tokens<__half>, Tokens<__half>, Tokens<float>,
                   const Factors<float>&);
template void call(const Factors<__nv_bfloat16>&, Tokens<__nv_bfloat16>, Tokens<__nv_bfloat16>, Tokens<float>,
                   const Factors<float>&);

/// On the host, in the same file: the CPU's kernels and the loops.
void on_the_host(const Factors<float>& f, Tokens<float> x, Tokens<float> y, Tokens<float> h) {
  forward(f, x, y, h);
  backward(f, x, h, y, f, x);
  forward(ReferenceBackend(), f, x, y, h);
}
