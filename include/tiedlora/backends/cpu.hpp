// The CPU's kernels as a backend (ops/backend.hpp): parameters and activations in float and the 16-bit types,
// in any mixture. Everything else goes to the reference loops: other types, a masked x (dropout), no
// features.
#pragma once

#include <span>         // span
#include <type_traits>  // is_same, remove_const

#include "../views/config.hpp"
#include "../views/factors.hpp"
#include "../views/options.hpp"
#include "../views/scalar.hpp"
#include "../views/tenants.hpp"
#include "../views/tokens.hpp"
#include "cpu/expand.hpp"
#include "cpu/expand_backward.hpp"
#include "cpu/shrink.hpp"
#include "cpu/shrink_backward.hpp"
#include "reference.hpp"

TIEDLORA_BEGIN_NAMESPACE
inline namespace TIEDLORA_ISA {

/// The backend of calls that do not name one: kernels for float and 16-bit types in any mixture, for the
/// translation unit's instruction set; the reference loops for all other types and for a masked x. Stateless.
/// Besides the four functions of a Backend it has overloads for several modules with one x and for tenants.
class CpuBackend {
  /// Whether the kernels, which compute in float, cover these types in memory.
  template <class... T>
  static constexpr bool has_kernels =
      ((std::is_same_v<T, float> || (is_narrow<T> && std::is_same_v<accumulator_t<T>, float>)) && ...);

 public:
  static constexpr bool runs_slices = true;  ///< shrink and expand do their part of a slice
  static constexpr bool masks_x = true;      ///< by the reference loops

  /// h = A·(mask ∘ x).
  template <class P, class X>
  void shrink(const Factors<const P>& f, const Tokens<const X>& x, const Tokens<accumulator_t<P>>& h,
              const CallOptions& o) const {
    if constexpr (has_kernels<P, X>)
      if (x.width > 0 && !masks(o)) return cpu::shrink<P>(std::span(&f, 1), x, std::span(&h, 1), o);
    reference::shrink(f, x, h, o);
  }

  /// y += c ∘ v ∘ B·(u ∘ h), or y = … with overwrite.
  template <class P, class Y>
  void expand(const Factors<const P>& f, const Tokens<const accumulator_t<P>>& h, const Tokens<Y>& y,
              const CallOptions& o) const {
    if constexpr (has_kernels<P, Y>)
      if (f.rank > 0) return cpu::expand<P>(f, h, y, o);
    reference::expand(f, h, y, o);
  }

  /// dh = c u ∘ Bᵀ(v ∘ dy), and adds to the gradients of B, u and v that are there.
  template <class P, class Dy>
  void expand_backward(const Factors<const P>& f, const Tokens<const accumulator_t<P>>& h,
                       const Tokens<const Dy>& dy, const Factors<accumulator_t<P>>& gradient,
                       const Tokens<accumulator_t<P>>& dh, const CallOptions& o) const {
    if constexpr (has_kernels<P, Dy>)
      if (dy.width > 0) return cpu::expand_backward<P>(f, h, dy, gradient, dh, o);
    reference::expand_backward(f, h, dy, gradient, dh, o);
  }

  /// Adds to the gradient of A if it is there, and dx += mask ∘ Aᵀ dh, or dx = … with overwrite.
  template <class P, class X, class Dx>
  void shrink_backward(const Factors<const P>& f, const Tokens<const X>& x,
                       const Tokens<const accumulator_t<P>>& dh, const Factors<accumulator_t<P>>& gradient,
                       const Tokens<Dx>& dx, const CallOptions& o) const {
    if constexpr (has_kernels<P, X, Dx>)
      if (f.rank > 0 && !masks(o))
        return cpu::shrink_backward<P>(std::span(&f, 1), x, std::span(&dh, 1), std::span(&gradient, 1), dx,
                                       o);
    reference::shrink_backward(f, x, dh, gradient, dx, o);
  }

  /// Several modules with one x: each block of x serves all of them while it is in L2, and modules that share
  /// A shrink once.
  template <class P, class X>
  void shrink(std::span<const Factors<const P>> modules, const Tokens<const X>& x,
              std::span<const Tokens<accumulator_t<P>>> h, const CallOptions& o) const {
    if constexpr (has_kernels<P, X>)
      if (x.width > 0 && !masks(o)) return cpu::shrink<P>(modules, x, h, o);
    for (std::size_t m = 0; m < modules.size(); ++m)
      if (modules[m].rank > 0) shrink(modules[m], x, h[m], o);
  }
  template <class P, class X, class Dx>
  void shrink_backward(std::span<const Factors<const P>> modules, const Tokens<const X>& x,
                       std::span<const Tokens<const accumulator_t<P>>> dh,
                       std::span<const Factors<accumulator_t<P>>> gradients, const Tokens<Dx>& dx,
                       CallOptions o) const {
    if constexpr (has_kernels<P, X, Dx>)
      if (!masks(o)) return cpu::shrink_backward<P>(modules, x, dh, gradients, dx, o);
    for (std::size_t m = 0; m < modules.size(); ++m) {
      if (modules[m].rank == 0) continue;
      shrink_backward(modules[m], x, dh[m], gradients[m], dx, o);
      o.overwrite = false;  // only the first sets dx
    }
  }

  /// Tokens of many adapters over one B, each with its own u and v (serving/).
  template <class P, class Y>
  void expand(const Factors<const P>& f, const Tenants<P>& tenants, const Tokens<const accumulator_t<P>>& h,
              const Tokens<Y>& y, const CallOptions& o) const
    requires(has_kernels<P, Y>)
  {
    cpu::expand<P>(f, tenants, h, y, o);
  }

 private:
  static bool masks(const CallOptions& o) { return o.dropout.probability != 0; }
};

}  // namespace TIEDLORA_ISA
TIEDLORA_END_NAMESPACE
