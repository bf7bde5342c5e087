// Root-mean-square normalisation (Zhang and Sennrich 2019, eq. 4).
//   W width; N tokens
//   i_t = 1 / √(ε + Σ_j x_jt² / W)      y_jt = w_j · i_t · x_jt
#pragma once

#include <cmath>  // sqrt

#include "token_matrix.hpp"

namespace llama {

/// Of one token; returns its i_t. y may be x.
template <class T>
T rms_norm(const T* x,  // W
           const T* w,  // W
           Index width, double epsilon,
           T* y) {  // W
  const ArrayMap<const T> from(x, width);
  const T mean_square = from.square().sum() / static_cast<T>(width);
  const T inverse_rms = 1 / std::sqrt(mean_square + static_cast<T>(epsilon));
  ArrayMap<T>(y, width) = ArrayMap<const T>(w, width) * (from * inverse_rms);
  return inverse_rms;
}

/// inverse_rms [N] is what backward needs besides x.
template <class T>
void rms_norm_forward(const Tokens<const T>& x,  // W×N
                      const T* w,                // W
                      double epsilon,
                      const Tokens<T>& y,  // W×N
                      T* inverse_rms) {    // N
  for (Index t = 0; t < x.count; ++t) inverse_rms[t] = rms_norm(x[t], w, x.width, epsilon, y[t]);
}

/// y again, from what forward kept.
template <class T>
void rms_norm_apply(const Tokens<const T>& x, const T* w, const T* inverse_rms, const Tokens<T>& y) {
  const ArrayMap<const T> weight(w, x.width);
  for (Index t = 0; t < x.count; ++t) column(y, t) = weight * (column(x, t) * inverse_rms[t]);
}

/// Calls set(t, gradient) for each token: i_t · w_j dy_jt − x_jt · i_t³ / W · Σ_k w_k dy_kt x_kt.
template <class T, class Dy, class Set>
void rms_norm_gradients(const Tokens<const T>& x,  // W×N
                        const T* w,                // W
                        const T* inverse_rms,      // N
                        const Tokens<Dy>& dy,      // W×N
                        const Set& set) {
  const ArrayMap<const T> weight(w, x.width);
  for (Index t = 0; t < x.count; ++t) {
    const auto x_t = column(x, t);
    const auto dy_t = column(dy, t);
    const T i = inverse_rms[t];
    const T dot = (weight * dy_t * x_t).sum() / static_cast<T>(x.width);
    set(t, i * (weight * dy_t - x_t * (i * i * dot)));
  }
}

/// dx += the gradient.
template <class T>
void rms_norm_backward(const Tokens<const T>& x,   // W×N
                       const T* w,                 // W
                       const T* inverse_rms,       // N
                       const Tokens<const T>& dy,  // W×N
                       const Tokens<T>& dx) {      // W×N, accumulates
  rms_norm_gradients(x, w, inverse_rms, dy,
                     [&](Index t, const auto& gradient) { column(dx, t) += gradient; });
}

/// The gradient in the place of dy.
template <class T>
void rms_norm_backward_in_place(const Tokens<const T>& x,  // W×N
                                const T* w,                // W
                                const T* inverse_rms,      // N
                                const Tokens<T>& dy) {     // W×N, overwritten
  rms_norm_gradients(x, w, inverse_rms, dy, [&](Index t, const auto& gradient) { column(dy, t) = gradient; });
}

/// dw_j += Σ_t i_t · x_jt · dy_jt. Apart from dx because its sum runs over tokens: threads split it by
/// features, which is what the cut views x and dy of [features]×N are for.
template <class T>
void rms_norm_backward_weight(const Tokens<const T>& x, const T* inverse_rms, const Tokens<const T>& dy,
                              T* dw) {
  ArrayMap<T> weight_gradient(dw, x.width);
  for (Index t = 0; t < x.count; ++t) weight_gradient += inverse_rms[t] * (column(x, t) * column(dy, t));
}

}  // namespace llama
