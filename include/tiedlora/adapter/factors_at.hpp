// From a layout and the addresses of its flat arrays to the factors of one module. Adds offsets and reads
// nothing, so that the addresses may be another device's.
#pragma once

#include <cstdint>      // int32_t
#include <type_traits>  // type_identity

#include "../views/config.hpp"
#include "../views/error.hpp"
#include "../views/factors.hpp"
#include "../views/scalar.hpp"
#include "layout.hpp"

TIEDLORA_BEGIN_NAMESPACE

namespace detail {

/// A null array gives null pointers.
template <class P>
Factors<P> place_factors(const Layout& layout, Index m, P* trainable, P* frozen) {
  const Index rank = layout.rank(m);  // which throws Error where there is no module m
  const auto group = [&](FactorId id) { return layout.group(id, m); };
  const Layout::Group *A = group(FactorId::A), *B = group(FactorId::B), *u = group(FactorId::u),
                      *v = group(FactorId::v);
  const auto place = [&](FactorId id, const Layout::Group* of) -> P* {
    P* array = layout.is_trained(id) ? trainable : frozen;
    return of && array ? array + of->offset : nullptr;
  };
  const Module& module = layout.modules()[m];
  return {.A = place(FactorId::A, A),
          .a_stride = A ? A->features : 0,
          .B = place(FactorId::B, B),
          .b_stride = B ? B->features : 0,
          .u = place(FactorId::u, u),
          .v = place(FactorId::v, v),
          .scaling = static_cast<accumulator_t<P>>(layout.scaling(m)),
          .rank = rank,
          .in_features = module.in_features,
          .out_features = module.out_features,
          .module = static_cast<std::int32_t>(m),
          .name = module.name.c_str()};
}

}  // namespace detail

/// The factors of module m in arrays of layout.trainable_count() and layout.frozen_count() values, wherever
/// these are. Throws Error if there is no module m.
template <class P>
Factors<const P> factors_at(const Layout& layout, Index m, const P* trainable,
                            std::type_identity_t<const P*> frozen) {
  return detail::place_factors<const P>(layout, m, trainable, frozen);
}

/// The gradients of module m in an array of layout.trainable_count() values; null where a factor is not
/// trained. Throws Error if there is no module m.
template <class G>
Factors<G> gradients_at(const Layout& layout, Index m, G* gradients) {
  return detail::place_factors<G>(layout, m, gradients, nullptr);
}

TIEDLORA_END_NAMESPACE
