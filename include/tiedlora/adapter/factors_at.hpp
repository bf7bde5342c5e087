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
  if (m < 0 || m >= layout.size())
    fail("module ", m, " does not exist: the layout has ", layout.size(), " of them");
  const auto place = [&](FactorId id) -> P* {
    const Layout::Group* group = layout.group(id, m);
    P* array = layout.is_trained(id) ? trainable : frozen;
    return group && array ? array + group->offset : nullptr;
  };
  const auto stride = [&](FactorId id) {
    const Layout::Group* group = layout.group(id, m);
    return group ? group->features : 0;
  };
  const Module& module = layout.modules()[m];
  return {.A = place(FactorId::A),
          .a_stride = stride(FactorId::A),
          .B = place(FactorId::B),
          .b_stride = stride(FactorId::B),
          .u = place(FactorId::u),
          .v = place(FactorId::v),
          .scaling = static_cast<accumulator_t<P>>(layout.scaling(m)),
          .rank = layout.rank(m),
          .in_features = module.in_features,
          .out_features = module.out_features,
          .module = static_cast<std::int32_t>(m),
          .name = module.name.c_str()};
}

}  // namespace detail

/// The factors of module m in arrays of layout.trainable_count() and layout.frozen_count() numbers, wherever
/// these are. Throws Error if there is no module m.
template <class P>
Factors<const P> factors_at(const Layout& layout, Index m, const P* trainable,
                            std::type_identity_t<const P*> frozen) {
  return detail::place_factors<const P>(layout, m, trainable, frozen);
}

/// The gradients of module m in an array of layout.trainable_count() numbers; null where a factor is not
/// trained. Throws Error if there is no module m.
template <class G>
Factors<G> gradients_at(const Layout& layout, Index m, G* gradients) {
  return detail::place_factors<G>(layout, m, gradients, nullptr);
}

TIEDLORA_END_NAMESPACE
