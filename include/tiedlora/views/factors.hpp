// What kernels get: the factors of one module as pointers.
#pragma once

#include <cstdint>      // int32_t
#include <type_traits>  // is_const

#include "config.hpp"
#include "error.hpp"
#include "options.hpp"
#include "scalar.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// One module's share of the flat arrays. Plain and trivially copyable: this is where your own kernel plugs
/// in. In gradients a null pointer means not trained. Valid while the owner of the arrays (and, for `name`,
/// its Layout) lives.
template <class P>
struct Factors {
  P* A = nullptr;                                  ///< row k at A + k · a_stride, in_features long
  Index a_stride = 0;                              ///< from row to row of A, in elements
  P* B = nullptr;                                  ///< column k at B + k · b_stride, out_features long
  Index b_stride = 0;                              ///< from column to column of B, in elements
  P* u = nullptr;                                  ///< rank long; null: ones
  P* v = nullptr;                                  ///< out_features long; null: ones
  accumulator_t<P> scaling = accumulator_t<P>(1);  ///< s
  Index rank = 0;                                  ///< 0: the module is not adapted
  Index in_features = 0;                           ///< length of x
  Index out_features = 0;                          ///< length of y
  std::int32_t module = -1;                        ///< its index in the module list; -1: not said
  const char* name = nullptr;                      ///< for messages

  /// Read-only.
  // A template, or nvcc warns of a conversion to itself.
  template <class Const>
    requires(std::is_same_v<Const, const P> && !std::is_const_v<P>)
  TIEDLORA_VIEW operator Factors<Const>() const {
    return {A, a_stride, B, b_stride, u, v, scaling, rank, in_features, out_features, module, name};
  }
};

namespace detail {
inline namespace TIEDLORA_ISA {

/// Raises an error about one module.
template <class P, class... Parts>
[[noreturn]] void fail_at(const Factors<P>& f, const Parts&... parts) {
  fail("module \"", f.name ? f.name : "?", "\" (", f.out_features, "x", f.in_features, ", rank ", f.rank,
       "): ", parts...);
}

/// c_t, by which the adapter's output for token t is multiplied.
template <class Acc, class P>
Acc token_scaling(const Factors<P>& f, const CallOptions& o, Index t) {
  const Acc c = f.scaling * static_cast<Acc>(o.scale);
  return o.token_scale ? c * static_cast<Acc>(o.token_scale[t]) : c;
}

template <class P>
void check_cut(const Factors<P>& f, const char* side, Index begin, Index n, Index features) {
  if (begin < 0 || n < 0 || begin > features - n)
    fail_at(f, n, " ", side, " features from ", begin,
            " on do not exist (another model, or a cut made twice?)");
}

}  // namespace TIEDLORA_ISA
}  // namespace detail

inline namespace TIEDLORA_ISA {

/// One device's part of a module whose base layer is cut over its inputs (row-parallel): the columns [begin,
/// begin + n) of A. Forward needs no exchange of its own: expand is linear in h, so each device adds the
/// outputs of its own h to its partial y before the base layer's all-reduce. Backward needs h itself, the sum
/// of the devices' h (r values per token). Every device holds B, u and v whole, and so their gradients once h
/// is summed. Gradients are cut the same way. With dropout give every device a seed of its own: its mask
/// counts features from the first of the part, so it is not the mask of the whole module. Throws Error,
/// naming the module, if the range is not within in_features.
template <class P>
Factors<P> slice_in(Factors<P> f, Index begin, Index n) {
  detail::check_cut(f, "input", begin, n, f.in_features);
  if (f.A) f.A += begin;
  f.in_features = n;
  return f;
}

/// One device's part of a module whose base layer is cut over its outputs (column-parallel): the rows [begin,
/// begin + n) of B and v. Forward needs no exchange: every device computes the whole h. In backward dh is the
/// sum of the devices' dh (r values per token); if u and A are frozen, the base layer's all-reduce of dx does
/// it instead. Gradients are cut the same way. Throws Error, naming the module, if the range is not within
/// out_features.
template <class P>
Factors<P> slice_out(Factors<P> f, Index begin, Index n) {
  detail::check_cut(f, "output", begin, n, f.out_features);
  if (f.B) f.B += begin;
  if (f.v) f.v += begin;
  f.out_features = n;
  return f;
}

}  // namespace TIEDLORA_ISA
TIEDLORA_END_NAMESPACE
