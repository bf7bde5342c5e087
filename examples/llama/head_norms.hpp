// Qwen 3's normalisation of q and k: each head by itself, before it turns, by one weight for all heads of q
// and one for all of k.
//   D head width; H heads; K kv heads; N tokens
#pragma once

#include <algorithm>  // copy_n

#include "activations.hpp"
#include "model.hpp"
#include "rms_norm.hpp"

namespace llama {

/// For token t, in place; keeps what backward needs.
template <class T>
void head_norms_forward(const Config& c, const ModelLayer<T>& weights,
                        T* qk,  // (H + K)·D
                        const LayerActivations<T>& a, Index t) {
  const Index D = c.head_width(), heads = c.heads + c.kv_heads;
  T* const x = a.head_inputs + t * heads * D;
  T* const inverse_rms = a.head_inverse_rms + t * heads;
  std::copy_n(qk, heads * D, x);
  const auto normalize = [&](const T* w, Index first, Index count) {
    rms_norm_forward(columns<const T>(x + first * D, D, count), w, c.norm_epsilon,
                     columns(qk + first * D, D, count), inverse_rms + first);
  };
  normalize(weights.q_norm, 0, c.heads);
  normalize(weights.k_norm, c.heads, c.kv_heads);
}

/// The gradient of what went in, in the place of that of what came out.
template <class T>
void head_norms_backward(const Config& c, const ModelLayer<T>& weights,
                         T* d_qk,  // (H + K)·D
                         const LayerActivations<T>& a, Index t) {
  const Index D = c.head_width(), heads = c.heads + c.kv_heads;
  const T* const x = a.head_inputs + t * heads * D;
  const T* const inverse_rms = a.head_inverse_rms + t * heads;
  const auto differentiate = [&](const T* w, Index first, Index count) {
    rms_norm_backward_in_place(columns(x + first * D, D, count), w, inverse_rms + first,
                               columns(d_qk + first * D, D, count));
  };
  differentiate(weights.q_norm, 0, c.heads);
  differentiate(weights.k_norm, c.heads, c.kv_heads);
}

}  // namespace llama
