// The CPU kernels of several instruction sets in one program: a host that ships one binary for x86-64 gets on
// every processor what -march=native would give it there. Needs the compiled target tiedlora::dispatch, or
// dispatch/*.cpp in the host's own build; all else of the library stays headers.
#pragma once

#include <bit>          // bit_cast
#include <cstdint>      // uint16_t, uint32_t
#include <span>         // span
#include <string>       // string
#include <type_traits>  // conditional, is_same
#include <vector>       // vector

#include "tiedlora/ops.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace dispatch {

/// The two formats of 16 bits as the compiled kernels know them, whatever the host's own types are called.
/// Members are inlined everywhere: a body of them would be one that all instruction sets share.
template <Format format>
struct Bits16 {
  std::uint16_t bits = 0;

  Bits16() = default;
  /// Rounds to nearest even.
  TIEDLORA_VIEW explicit Bits16(float number) {
    const auto word = std::bit_cast<std::uint32_t>(number);
    const std::uint32_t magnitude = word & 0x7fffffff;
    if constexpr (format == Format::bfloat16) {
      const bool is_nan = magnitude > 0x7f800000;  // must not be rounded up to infinity or down to a number
      bits =
          static_cast<std::uint16_t>((is_nan ? word | 0x400000 : word + (0x7fff + (word >> 16 & 1))) >> 16);
    } else {
      std::uint32_t half;
      if (magnitude > 0x7f800000)
        half = 0x7e00 | (magnitude >> 13 & 0x3ff);
      else if (magnitude >= 0x47800000)  // 2^16
        half = 0x7c00;
      else if (magnitude < 0x38800000)  // 2^-14: the sum has its last bit at half's
        half = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000;
      else  // may carry into the exponent, up to infinity
        half = (magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13;
      bits = static_cast<std::uint16_t>(half | (word >> 16 & 0x8000));
    }
  }
  TIEDLORA_VIEW explicit operator float() const {
    const std::uint32_t word = std::uint32_t{bits} << 16;
    if constexpr (format == Format::bfloat16) return std::bit_cast<float>(word);
    const std::uint32_t magnitude = (bits & 0x7fffu) << 13, sign = word & 0x80000000;
    if (magnitude >= 0x0f800000)  // infinity and NaN
      return std::bit_cast<float>(magnitude | 0x7f800000 | sign);
    // Never a subnormal float, which a host may have told its threads to read as zero.
    const std::uint32_t moved =
        magnitude >= 0x00800000  // 2^-14, half's first normal number
            ? magnitude + 0x38000000
            : std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude + 0x38800000) - 0x1p-14f);
    return std::bit_cast<float>(moved | sign);
  }
};
using Half = Bits16<Format::binary16>;
using BFloat16 = Bits16<Format::bfloat16>;

}  // namespace dispatch
template <Format number>
struct ScalarTraits<dispatch::Bits16<number>> : Scalar16<number> {};
namespace dispatch {

/// How a type of the host's lies in memory; void for types without compiled kernels.
template <class T>
using Stored = std::conditional_t<
    std::is_same_v<T, float>, float,
    std::conditional_t<ScalarTraits<T>::format == Format::binary16, Half,
                       std::conditional_t<ScalarTraits<T>::format == Format::bfloat16, BFloat16, void>>>;

/// Whether there are kernels for parameters P beside activations X: float parameters with activations of any
/// kind, and narrow ones with float or their own.
template <class P, class X>
inline constexpr bool has_kernels =
    !std::is_void_v<Stored<P>> && !std::is_void_v<Stored<X>> &&
    (std::is_same_v<P, float> || std::is_same_v<X, float> || std::is_same_v<Stored<P>, Stored<X>>);

/// CpuBackend's functions as one instruction set has them, for parameters P with x, y, dx and dy in X.
template <class P, class X>
struct Kernels {
  void (*shrink)(const Factors<const P>&, const Tokens<const X>&, const Tokens<float>&, const CallOptions&);
  void (*expand)(const Factors<const P>&, const Tokens<const float>&, const Tokens<X>&, const CallOptions&);
  void (*expand_backward)(const Factors<const P>&, const Tokens<const float>&, const Tokens<const X>&,
                          const Factors<float>&, const Tokens<float>&, const CallOptions&);
  void (*shrink_backward)(const Factors<const P>&, const Tokens<const X>&, const Tokens<const float>&,
                          const Factors<float>&, const Tokens<X>&, const CallOptions&);
  void (*shrink_modules)(std::span<const Factors<const P>>, const Tokens<const X>&,
                         std::span<const Tokens<float>>, const CallOptions&);
  void (*shrink_backward_modules)(std::span<const Factors<const P>>, const Tokens<const X>&,
                                  std::span<const Tokens<const float>>, std::span<const Factors<float>>,
                                  const Tokens<X>&, const CallOptions&);
  void (*expand_tenants)(const Factors<const P>&, const Tenants<P>&, const Tokens<const float>&,
                         const Tokens<X>&, const CallOptions&);
};

/// All kernels of one instruction set.
struct KernelSet : Kernels<float, float>,
                   Kernels<float, Half>,
                   Kernels<float, BFloat16>,
                   Kernels<Half, float>,
                   Kernels<Half, Half>,
                   Kernels<BFloat16, float>,
                   Kernels<BFloat16, BFloat16> {
  const char* isa;  ///< as kernel_isa() says it

  template <class P, class X>
  const Kernels<P, X>& of() const {
    return *this;
  }
};

/// The sets that this processor runs, from the lowest to the best; never empty.
const std::vector<const KernelSet*>& sets();
/// The best of them, chosen once.
const KernelSet& best();
/// The one with that name ("sse2", "avx2_fma_f16c", …). Throws Error if this processor does not run it, with
/// the names of those that it does.
const KernelSet& set(const std::string& isa);

}  // namespace dispatch

/// A backend (ops/backend.hpp) that computes in the best instruction set of the processor the program runs
/// on:
///
///   tiedlora::forward(tiedlora::DispatchBackend(), adapter.factors(m), x, y, h);
///
/// It is to be given as first argument where it is wanted: calls without a backend are compiled with the
/// flags of their own unit. The bits are those of CpuBackend in a unit of that instruction set. Parameters
/// and activations in float and the types of 16 bits as dispatch::has_kernels says; double and other mixtures
/// do not compile.
class DispatchBackend {
 public:
  static constexpr bool runs_slices = true;
  static constexpr bool masks_x = true;

  DispatchBackend() : set_(&dispatch::best()) {}
  explicit DispatchBackend(const dispatch::KernelSet& set) : set_(&set) {}

  const char* isa() const { return set_->isa; }

  template <class P, class X>
    requires dispatch::has_kernels<P, X>
  void shrink(const Factors<const P>& f, const Tokens<const X>& x, const Tokens<float>& h,
              const CallOptions& o) const {
    kernels<P, X>().shrink(stored(f), stored(x), h, o);
  }
  template <class P, class Y>
    requires dispatch::has_kernels<P, Y>
  void expand(const Factors<const P>& f, const Tokens<const float>& h, const Tokens<Y>& y,
              const CallOptions& o) const {
    kernels<P, Y>().expand(stored(f), h, stored(y), o);
  }
  template <class P, class Dy>
    requires dispatch::has_kernels<P, Dy>
  void expand_backward(const Factors<const P>& f, const Tokens<const float>& h, const Tokens<const Dy>& dy,
                       const Factors<float>& gradient, const Tokens<float>& dh, const CallOptions& o) const {
    kernels<P, Dy>().expand_backward(stored(f), h, stored(dy), gradient, dh, o);
  }
  template <class P, class X, class Dx>
    requires dispatch::has_kernels<P, X> && dispatch::has_kernels<P, Dx>
  void shrink_backward(const Factors<const P>& f, const Tokens<const X>& x, const Tokens<const float>& dh,
                       const Factors<float>& gradient, const Tokens<Dx>& dx, const CallOptions& o) const {
    in_one_type<P>(x, dx, [&](const auto& kernels, const auto& x1, const auto& dx1) {
      kernels.shrink_backward(stored(f), x1, dh, gradient, dx1, o);
    });
  }

  template <class P, class X>
    requires dispatch::has_kernels<P, X>
  void shrink(std::span<const Factors<const P>> modules, const Tokens<const X>& x,
              std::span<const Tokens<float>> h, const CallOptions& o) const {
    kernels<P, X>().shrink_modules(stored(modules), stored(x), h, o);
  }
  template <class P, class X, class Dx>
    requires dispatch::has_kernels<P, X> && dispatch::has_kernels<P, Dx>
  void shrink_backward(std::span<const Factors<const P>> modules, const Tokens<const X>& x,
                       std::span<const Tokens<const float>> dh, std::span<const Factors<float>> gradients,
                       const Tokens<Dx>& dx, const CallOptions& o) const {
    in_one_type<P>(x, dx, [&](const auto& kernels, const auto& x1, const auto& dx1) {
      kernels.shrink_backward_modules(stored(modules), x1, dh, gradients, dx1, o);
    });
  }

  template <class P, class Y>
    requires dispatch::has_kernels<P, Y>
  void expand(const Factors<const P>& f, const Tenants<P>& tenants, const Tokens<const float>& h,
              const Tokens<Y>& y, const CallOptions& o) const {
    using S = dispatch::Stored<P>;
    const Tenants<S> same = {reinterpret_cast<const S* const*>(tenants.arrays), tenants.u, tenants.v};
    kernels<P, Y>().expand_tenants(stored(f), same, h, stored(y), o);
  }

 private:
  template <class P, class X>
  const auto& kernels() const {
    return set_->of<dispatch::Stored<P>, dispatch::Stored<X>>();
  }

  // Views of the host's memory under the kernels' names for its types: the same bytes.
  template <class P>
  static Factors<const dispatch::Stored<P>> stored(const Factors<const P>& f) {
    using S = const dispatch::Stored<P>;
    const auto as = [](const P* pointer) { return reinterpret_cast<S*>(pointer); };
    return {as(f.A),   f.a_stride, as(f.B),       f.b_stride,     as(f.u),  as(f.v),
            f.scaling, f.rank,     f.in_features, f.out_features, f.module, f.name};
  }
  template <class P>
  static std::span<const Factors<const dispatch::Stored<P>>> stored(std::span<const Factors<const P>> f) {
    if constexpr (std::is_same_v<P, float>)
      return f;
    else  // plain structs of the same members
      return {reinterpret_cast<const Factors<const dispatch::Stored<P>>*>(f.data()), f.size()};
  }
  template <class T>
  static auto stored(const Tokens<T>& x) {
    return as<dispatch::Stored<std::remove_const_t<T>>>(x);
  }
  template <class S, class T>
  static auto as(const Tokens<T>& x) {
    using To = std::conditional_t<std::is_const_v<T>, const S, S>;
    return Tokens<To>{reinterpret_cast<To*>(x.data),
                      x.width,
                      x.count,
                      x.stride,
                      x.rows,
                      reinterpret_cast<To* const*>(x.pointers),
                      x.first_feature};
  }

  // The kernels have x and dx in one type. Of two, the gradients of A, which need x, and dx are a call each.
  template <class P, class X, class Dx, class Call>
  void in_one_type(const Tokens<const X>& x, const Tokens<Dx>& dx, Call call) const {
    using SX = dispatch::Stored<X>;
    using SDx = dispatch::Stored<Dx>;
    if constexpr (std::is_same_v<SX, SDx>) {
      call(kernels<P, X>(), stored(x), stored(dx));
    } else {
      if (!x.is_none()) call(kernels<P, X>(), stored(x), Tokens<SX>());
      if (!dx.is_none()) call(kernels<P, Dx>(), Tokens<const SDx>(), stored(dx));
    }
  }

  const dispatch::KernelSet* set_;
};

TIEDLORA_END_NAMESPACE
