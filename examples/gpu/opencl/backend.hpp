// A backend of your own (tiedlora/ops/backend.hpp): what each of its functions starts on the device. The
// kernels themselves are in kernels/. Everything is started and nothing waited for: a queue keeps the order.
#pragma once

#include <algorithm>  // min
#include <array>      // array
#include <cstddef>    // size_t
#include <map>        // map
#include <span>       // span
#include <string>     // string
#include <tuple>      // tuple
#include <utility>    // move

#include <tiedlora/ops.hpp>

#include "device.hpp"
#include "kernels.hpp"

namespace gpu_opencl {

using tiedlora::CallOptions, tiedlora::Factors, tiedlora::Tenants, tiedlora::Tokens;

/// For parameters, x, y and dx in float, half and bfloat16 in any mixture; sums are float. Has one call for
/// modules that read the same x, and expand for tenants. Kernels are compiled when a combination of types is
/// first used. Like its device it is for one host thread at a time. The device must outlive it.
class Backend {
 public:
  explicit Backend(Device& device, std::string source = kernel_source())
      : device_(&device), source_(std::move(source)) {}

  /// Where all pointers in views belong.
  Device& memory() const { return *device_; }

  /// h = A x. One group of work-items for each value of h.
  template <class P, class X>
  void shrink(const Factors<const P>& f, const Tokens<const X>& x, const Tokens<float>& h,
              const CallOptions& o) const {
    shrink(std::span(&f, 1), x, std::span(&h, 1), o);
  }
  /// For several modules with one x: one launch for each four of them.
  template <class P, class X>
  void shrink(std::span<const Factors<const P>> modules, const Tokens<const X>& x,
              std::span<const Tokens<float>> h, const CallOptions&) const {
    for_fours(modules.size(), [&](std::size_t begin, std::size_t n) {
      InputModules<P, float> four;
      for (std::size_t m = begin; m < begin + n; ++m) four.add(modules[m], {}, h[m]);
      kernels<P, X, float>().start_groups("shrink", four.ranks(), x.count, four, x);
    });
  }

  /// y += c ∘ v ∘ B (u ∘ h). One work-item for each value of y.
  template <class P, class Y>
  void expand(const Factors<const P>& f, const Tokens<const float>& h, const Tokens<Y>& y,
              const CallOptions& o) const {
    expand(f, Tenants<P>(), h, y, o);
  }
  /// With a u and v for each token.
  template <class P, class Y>
  void expand(const Factors<const P>& f, const Tenants<P>& tenants, const Tokens<const float>& h,
              const Tokens<Y>& y, const CallOptions& o) const {
    kernels<P, float, Y>().start_items("expand", f.out_features, y.count, f, tenants, h, y, options(f, o));
  }

  /// dh = u ∘ d, du += h ∘ d, dB += e (u ∘ h)ᵀ, dv += c dy ∘ B (u ∘ h), by a kernel for each line of
  /// operands.
  template <class P, class Y>
  void expand_backward(const Factors<const P>& f, const Tokens<const float>& h, const Tokens<const Y>& dy,
                       const Factors<float>& gradient, const Tokens<float>& dh, const CallOptions& o) const {
    Kernels& k = kernels<P, float, Y>();
    if (!dh.is_none()) {
      k.start_groups("gradient_of_uh", f.rank, dy.count, f, dy, dh, options(f, o));
      if (f.u || gradient.u) k.start_groups("gradient_of_u", f.rank, 1, f, h, dh, address(gradient.u));
    }
    if (gradient.B || gradient.v)
      k.start_items("gradients_of_b_and_v", f.out_features, 1, f, h, dy, gradient, options(f, o));
  }

  /// dA += dh xᵀ, dx += Aᵀ dh.
  template <class P, class X, class Dx>
  void shrink_backward(const Factors<const P>& f, const Tokens<const X>& x, const Tokens<const float>& dh,
                       const Factors<float>& gradient, const Tokens<Dx>& dx, const CallOptions& o) const {
    shrink_backward(std::span(&f, 1), x, std::span(&dh, 1), std::span(&gradient, 1), dx, o);
  }
  /// For several modules with one x and one dx.
  template <class P, class X, class Dx>
  void shrink_backward(std::span<const Factors<const P>> modules, const Tokens<const X>& x,
                       std::span<const Tokens<const float>> dh, std::span<const Factors<float>> gradients,
                       const Tokens<Dx>& dx, const CallOptions& o) const {
    Kernels& k = kernels<P, X, Dx>();
    for_fours(modules.size(), [&](std::size_t begin, std::size_t n) {
      InputModules<P, const float> four;
      for (std::size_t m = begin; m < begin + n; ++m) four.add(modules[m], gradients[m], dh[m]);
      if (four.trains_a()) k.start_items("gradient_of_a", x.width, four.ranks(), four, x);
      if (!dx.is_none())  // only the first four may set dx
        k.start_items("gradient_of_x", dx.width, dx.count, four, dx,
                      static_cast<int>(o.overwrite && begin == 0));
    });
  }

  /// The kernels for these types, e.g. for a host's own calls next to the adapter's.
  template <class P, class X, class Y>
  Kernels& kernels() const {
    const auto types =
        std::tuple<std::string, std::string, std::string>(type_name<P>(), type_name<X>(), type_name<Y>());
    const auto found = kernels_.find(types);
    if (found != kernels_.end()) return found->second;
    const auto& [p, x, y] = types;
    return kernels_.try_emplace(types, *device_, source_, p, x, y).first->second;
  }

 private:
  // The structs below are what kernels/*.cl declare. Views are passed as they are.
  static_assert(sizeof(Tokens<float>) == 56 && sizeof(Factors<float>) == 96 && sizeof(Tenants<float>) == 24);

  struct Options {
    const float* token_scale;
    float scale;
    int overwrite;
  };
  template <class P>
  static Options options(const Factors<const P>& f, const CallOptions& o) {
    return {o.token_scale, f.scaling * static_cast<float>(o.scale), o.overwrite};
  }

  template <class P>
  struct InputModule {
    const P* A = nullptr;
    Index a_stride = 0;
    float* dA = nullptr;
    Index da_stride = 0;
    Index rank = 0;
    Tokens<float> hidden = {};
  };
  template <class P, class H>
  struct InputModules {
    std::array<InputModule<P>, 4> all = {};
    int count = 0;

    void add(const Factors<const P>& f, const Factors<float>& gradient, const Tokens<H>& hidden) {
      if (f.rank == 0) return;
      all[static_cast<std::size_t>(count++)] = {f.A,    f.a_stride,      gradient.A, gradient.a_stride,
                                                f.rank, writable(hidden)};
    }
    Index ranks() const {
      Index sum = 0;
      for (const InputModule<P>& module : all) sum += module.rank;
      return sum;
    }
    bool trains_a() const {
      bool any = false;
      for (const InputModule<P>& module : all) any |= module.dA != nullptr;
      return any;
    }
  };

  /// As kernels see tokens: without const.
  static Tokens<float> writable(const Tokens<float>& tokens) { return tokens; }
  static Tokens<float> writable(const Tokens<const float>& t) {
    return {const_cast<float*>(t.data),
            t.width,
            t.count,
            t.stride,
            t.rows,
            const_cast<float* const*>(t.pointers),
            t.first_feature};
  }
  static cl_ulong address(const float* pointer) { return reinterpret_cast<cl_ulong>(pointer); }

  template <class Body>
  static void for_fours(std::size_t count, const Body& body) {
    for (std::size_t begin = 0; begin < count; begin += 4)
      body(begin, std::min<std::size_t>(4, count - begin));
  }

  Device* device_;
  std::string source_;
  mutable std::map<std::tuple<std::string, std::string, std::string>, Kernels> kernels_;
};

static_assert(tiedlora::Backend<Backend, float>);

}  // namespace gpu_opencl
