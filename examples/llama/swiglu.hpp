// SwiGLU (Shazeer 2020): the gated activation between the two halves of the feed-forward block.
//   F feed-forward width; N tokens; g gate; u up; σ(g) = 1 / (1 + e^−g)
//   y = g · σ(g) · u
#pragma once

#include "token_matrix.hpp"

namespace llama {

/// Rows [0, F) of gate_up are g, rows [F, 2F) are u.
template <class T>
void swiglu_forward(const Tokens<const T>& gate_up,  // 2F×N
                    const Tokens<T>& y) {            // F×N
  const Index F = y.width;
  for (Index t = 0; t < y.count; ++t) {
    const auto g = column(gate_up, t, 0, F), u = column(gate_up, t, F, F);
    column(y, t) = g / (T(1) + (-g).exp()) * u;
  }
}

/// du = dy · gσ      dg = dy · u · σ · (1 + g(1 − σ))
template <class T>
void swiglu_backward(const Tokens<const T>& gate_up,  // 2F×N
                     const Tokens<const T>& dy,       // F×N
                     const Tokens<T>& d_gate_up) {    // 2F×N, overwritten; the rows of g carry σ in between
  const Index F = dy.width;
  for (Index t = 0; t < dy.count; ++t) {
    const auto g = column(gate_up, t, 0, F), u = column(gate_up, t, F, F);
    const auto dy_t = column(dy, t);
    auto dg = column(d_gate_up, t, 0, F), du = column(d_gate_up, t, F, F);
    dg = (T(1) + (-g).exp()).inverse();
    du = dy_t * g * dg;
    dg = dy_t * u * dg * (T(1) + g * (T(1) - dg));
  }
}

}  // namespace llama
