// How an adapter is initialised, and which schemes are refused: docs/mathematics.md, E33 and E34.
#pragma once

#include <cmath>    // sqrt
#include <cstdint>  // uint64_t
#include <span>     // span

#include "../views/config.hpp"
#include "../views/error.hpp"
#include "layout.hpp"
#include "random.hpp"
#include "result.hpp"
#include "scheme.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// A Failure unless an adapter initialised like this can be trained: some factor is trained, no frozen factor
/// is zero, and at most one factor is zero (the gradient of each factor is a product of all the others:
/// docs/mathematics.md, E33).
inline Status try_require_trainable(const Scheme& scheme) {
  int trained = 0, zeros = 0;
  for (const FactorId id : all_factors) {
    const Factor* factor = scheme.find(id);
    if (!factor) continue;
    trained += factor->trained;
    zeros += factor->init.is_zero();
    if (!factor->trained && factor->init.is_zero())
      return Failure{
          detail::message("this scheme cannot learn: its factor ", to_string(id), " is zero and frozen")};
  }
  if (trained == 0) return Failure{"this scheme cannot learn: it trains no factor"};
  if (zeros > 1)
    return Failure{
        "this scheme cannot learn: two of its factors start at zero, so every gradient is zero; initialise "
        "one of them differently"};
  return success();
}

/// The same, but throws Error.
inline void require_trainable(const Scheme& scheme) {
  (void)detail::value_or_fail(try_require_trainable(scheme));
}

/// Throws Error unless the adapter's ΔW starts at zero, for which one factor must. Schemes with given factors
/// pass: what these hold is the caller's choice.
inline void require_zero_start(const Scheme& scheme) {
  bool zero = false;
  for (const FactorId id : all_factors)
    if (const Factor* factor = scheme.find(id))
      zero |= factor->init.is_zero() || factor->init.kind == Init::Kind::given;
  if (!zero)
    detail::fail(
        "this scheme would change the model before the first step: start one factor at zero (B, or v where B "
        "is frozen)");
}

namespace detail {
// Row length of one copy of a factor: the fan_in of kaiming and torch_vera (f in docs/mathematics.md, E34).
inline Index fan_in(const Layout::Group& group, FactorId id) {
  return id == FactorId::A ? group.features : id == FactorId::B ? group.rank : 1;
}

// torch draws row by row: A as (r, in), which is our order, but B as (out, r), of which we keep the columns.
template <class P>
void fill_torch_vera(const Layout& layout, FactorId id, std::uint64_t key, P* array) {
  TorchUniform next(key);
  // PEFT draws A and B from one generator, A first.
  const bool follows_A = id == FactorId::B && layout.scheme().A.init == init::torch_vera(key);
  if (follows_A) next.discard(layout.segment(FactorId::A).count);
  for (const Layout::Group& group : layout.groups(id)) {
    const Index rows = id == FactorId::A ? group.rank : group.features;
    const Index columns = id == FactorId::A ? group.features : group.rank;
    for (Index row = 0; row < rows; ++row)
      for (Index column = 0; column < columns; ++column) {
        const Index element = id == FactorId::A ? row * columns + column : column * rows + row;
        array[group.offset + element] = static_cast<P>(next(fan_in(group, id)));
      }
  }
}

template <class P>
void fill_group(const Layout::Group& group, FactorId id, const Init& init, std::uint64_t key, P* values) {
  const double bound = init.value * std::sqrt(3.0 / static_cast<double>(fan_in(group, id)));
  for (Index i = 0; i < group.count; ++i) {
    const auto element = static_cast<std::uint64_t>(i);
    double value = init.value;
    if (init.kind == Init::Kind::kaiming) value = bound * uniform(key, element);
    if (init.kind == Init::Kind::normal) value = init.value * normal(key, element);
    values[i] = static_cast<P>(value);
  }
}

/// Fills one factor in its flat array, by any init but given.
template <class P>
void fill_factor(const Layout& layout, FactorId id, std::uint64_t seed, P* array) {
  const Init& init = layout.scheme().find(id)->init;
  if (init.kind == Init::Kind::torch_vera) return fill_torch_vera(layout, id, init.key, array);
  Index g = 0;
  for (const Layout::Group& group : layout.groups(id))
    fill_group(group, id, init, random_key(seed, id, g++), array + group.offset);
}

/// Initialises the trainable parameters and, if `frozen` is not empty, the frozen ones as the scheme says.
template <class P>
void initialize(const Layout& layout, std::uint64_t seed, std::span<P> trainable, std::span<P> frozen) {
  require_trainable(layout.scheme());
  require_zero_start(layout.scheme());
  const auto array_of = [&](const Factor& factor) {
    return factor.trained ? trainable.data() : frozen.data();
  };
  // All is checked before anything is written.
  for (const FactorId id : all_factors) {
    const Factor* factor = layout.scheme().find(id);
    if (!factor || !array_of(*factor)) continue;
    if (factor->init.kind == Init::Kind::given)
      fail(message(
          "factor ", to_string(id),
          " of this scheme has init::given, which initialize cannot fill: load the adapter, or share the "
          "frozen array that holds the factor"));
    if (factor->init.kind == Init::Kind::torch_vera && id != FactorId::A && id != FactorId::B)
      fail(message("factor ", to_string(id), " cannot be initialised by torch_vera, which is for A and B"));
  }
  for (const FactorId id : all_factors)
    if (const Factor* factor = layout.scheme().find(id); factor && array_of(*factor))
      fill_factor(layout, id, seed, array_of(*factor));
}

}  // namespace detail
TIEDLORA_END_NAMESPACE
