// One decoder layer, forward above backward.
//   N = sequences × length tokens; W width; F feed-forward width; D head width; H heads; K kv heads
//   m = x + o(attention(rope(qkv(norm(x)))))      y = m + down(swiglu(gate_up(norm(m))))
#pragma once

#include <algorithm>  // copy_n

#include "activations.hpp"
#include "attention.hpp"
#include "linear.hpp"
#include "rms_norm.hpp"
#include "rope.hpp"
#include "swiglu.hpp"
#include "weights.hpp"

namespace transformer {

/// A layer's parameters and where their gradients go; null where not wanted.
template <class T>
struct Layer {
  LayerWeights<const T> weights = {};
  LayerWeights<T> gradients = {};
  Linear<T> qkv = {}, o = {}, gate_up = {}, down = {};
};

/// Keys and values of earlier tokens, for one layer: rows [k; v].
template <class T>
struct Past {
  T* keys_values = nullptr;  // 2KD×capacity; null: attention sees the batch alone
  Index count = 0;           // tokens already there: the batch is one sequence that begins at this position
};

/// What a pass runs with.
template <class T>
struct Pass {
  ThreadPool& pool;
  const Config& config;
  const RotaryTable<T>& rotary;
  Index sequences, length;  // N = sequences × length

  Index count() const { return sequences * length; }
  /// The part of one thread in tasks (sequence, kv head) that must stay whole.
  Range tasks(int ith, int nth) const {
    const Index n = sequences * config.kv_heads;
    return {n * ith / nth, n * (ith + 1) / nth};
  }
};

/// The features of head h of q, or of kv head h of k or v, for the tokens of one sequence.
template <class T>
struct Heads {
  const Config& c;
  Index sequence, length;
  Tokens<T> of(T* data, Index width, Index first_feature) const {
    return columns(data + sequence * length * width, width, length).features(first_feature, c.head_width());
  }
  Tokens<T> q(T* qkv, Index h) const { return of(qkv, c.qkv_width(), h * c.head_width()); }
  Tokens<T> k(T* qkv, Index h) const { return of(qkv, c.qkv_width(), c.width + h * c.head_width()); }
  Tokens<T> v(T* qkv, Index h) const {
    return of(qkv, c.qkv_width(), c.width + c.kv_width() + h * c.head_width());
  }
  Tokens<T> attended(T* data, Index h) const { return of(data, c.width, h * c.head_width()); }
};

/// output may be a.input: then x is overwritten.
template <class T>
void layer_forward(const Pass<T>& pass, const Layer<T>& layer, const LayerActivations<T>& a,
                   const Workspace<T>& scratch, const Past<T>& past, T* output) {  // W×N
  const Config& c = pass.config;
  const Index N = pass.count(), W = c.width, D = c.head_width(), F = c.feed_forward;
  const auto x = columns<const T>(a.input, W, N), middle = columns<const T>(a.middle, W, N);
  const auto normed = columns(scratch.normed, W, N);

  for_tokens(pass.pool, N, [&](Range part) {
    rms_norm_forward(cut(x, part), layer.weights.attention_norm, c.norm_epsilon, cut(normed, part),
                     a.attention_inverse_rms + part.begin);
    linear_forward(layer.qkv, scratch.normed, a.qkv, part);
    for (Index t = part.begin; t < part.end; ++t) {
      T* qkv = a.qkv + t * c.qkv_width();
      rope_forward(pass.rotary, past.count + t % pass.length, qkv, c.heads + c.kv_heads);
      if (past.keys_values)
        std::copy_n(qkv + W, 2 * c.kv_width(), past.keys_values + (past.count + t) * 2 * c.kv_width());
    }
  });

  pass.pool.parallel([&](int ith, int nth) {
    const Range tasks = pass.tasks(ith, nth);
    for (Index task = tasks.begin; task < tasks.end; ++task) {
      const Index sequence = task / c.kv_heads, kv_head = task % c.kv_heads, group = c.heads / c.kv_heads;
      const Heads<T> heads{c, sequence, pass.length};
      const Index keys = past.count + pass.length;
      const auto cache = columns(past.keys_values, 2 * c.kv_width(), keys);
      const auto k = past.keys_values ? cache.features(kv_head * D, D) : heads.k(a.qkv, kv_head);
      const auto v =
          past.keys_values ? cache.features(c.kv_width() + kv_head * D, D) : heads.v(a.qkv, kv_head);
      for (Index h = kv_head * group; h < (kv_head + 1) * group; ++h)
        attention_forward<T>(heads.q(a.qkv, h), k, v, past.count, heads.attended(a.attended, h),
                             a.log_sum_exp + h * N + sequence * pass.length, scratch.attention(ith));
    }
  });

  for_tokens(pass.pool, N, [&](Range part) {
    std::copy_n(a.input + part.begin * W, part.size() * W, a.middle + part.begin * W);
    linear_forward(layer.o, a.attended, a.middle, part, Write::add);
    rms_norm_forward(cut(middle, part), layer.weights.mlp_norm, c.norm_epsilon, cut(normed, part),
                     a.mlp_inverse_rms + part.begin);
    linear_forward(layer.gate_up, scratch.normed, a.gate_up, part);
    swiglu_forward(columns<const T>(a.gate_up + part.begin * 2 * F, 2 * F, part.size()),
                   columns(scratch.activated + part.begin * F, F, part.size()));
    std::copy_n(a.middle + part.begin * W, part.size() * W, output + part.begin * W);
    linear_forward(layer.down, scratch.activated, output, part, Write::add);
  });
}

/// The gradient of a norm's weight, on the whole pool; null: not wanted.
template <class T>
void norm_backward_weight(ThreadPool& pool, const Tokens<const T>& x, const T* inverse_rms,
                          const Tokens<const T>& dy, T* dw) {
  if (!dw) return;
  pool.parallel([&](int ith, int nth) {
    const Range features = slice(x.width, ith, nth);
    rms_norm_backward_weight(x.features(features.begin, features.size()), inverse_rms,
                             dy.features(features.begin, features.size()), dw + features.begin);
  });
}

/// d.stream holds the gradient of the layer's output and receives that of its input, or, without want_input,
/// nothing of use: the lowest layer whose parameters are trained needs none.
template <class T>
void layer_backward(const Pass<T>& pass, const Layer<T>& layer, const LayerActivations<T>& a,
                    const Workspace<T>& scratch, const BackwardWorkspace<T>& d, bool want_input) {
  const Config& c = pass.config;
  const Index N = pass.count(), W = c.width, F = c.feed_forward;
  const auto x = columns<const T>(a.input, W, N), middle = columns<const T>(a.middle, W, N);
  const auto gate_up = columns<const T>(a.gate_up, 2 * F, N);
  const auto d_normed = columns<const T>(d.normed, W, N), d_activated = columns<const T>(d.activated, F, N);
  const auto activated = columns(scratch.activated, F, N), normed = columns(scratch.normed, W, N);
  const auto stream = columns(d.stream, W, N), d_gate_up = columns(d.gate_up, 2 * F, N);

  // Feed-forward block. What its linears read is made again where they need it.
  linear_backward(pass.pool, layer.down, scratch.activated, d.stream, d.activated, N, d.h, [&](Range part) {
    if (layer.down.needs_x()) swiglu_forward(cut(gate_up, part), cut(activated, part));
  });
  linear_backward(pass.pool, layer.gate_up, scratch.normed, d.gate_up, d.normed, N, d.h, [&](Range part) {
    swiglu_backward(cut(gate_up, part), cut(d_activated, part), cut(d_gate_up, part));
    if (layer.gate_up.needs_x())
      rms_norm_apply(cut(middle, part), layer.weights.mlp_norm, a.mlp_inverse_rms + part.begin,
                     cut(normed, part));
  });
  norm_backward_weight(pass.pool, middle, a.mlp_inverse_rms, d_normed, layer.gradients.mlp_norm);

  // Attention block.
  linear_backward(pass.pool, layer.o, a.attended, d.stream, d.attended, N, d.h, [&](Range part) {
    rms_norm_backward(cut(middle, part), layer.weights.mlp_norm, a.mlp_inverse_rms + part.begin,
                      cut(d_normed, part), cut(stream, part));
  });
  pass.pool.parallel([&](int ith, int nth) {
    const Range tasks = pass.tasks(ith, nth);
    for (Index task = tasks.begin; task < tasks.end; ++task) {
      const Index sequence = task / c.kv_heads, kv_head = task % c.kv_heads, group = c.heads / c.kv_heads;
      const Heads<T> heads{c, sequence, pass.length};
      const auto dk = heads.k(d.qkv, kv_head), dv = heads.v(d.qkv, kv_head);
      matrix(dk).setZero();
      matrix(dv).setZero();
      for (Index h = kv_head * group; h < (kv_head + 1) * group; ++h)
        attention_backward<T>(heads.q(a.qkv, h), heads.k(a.qkv, kv_head), heads.v(a.qkv, kv_head),
                              heads.attended(a.attended, h), a.log_sum_exp + h * N + sequence * pass.length,
                              heads.attended(d.attended, h), heads.q(d.qkv, h), dk, dv,
                              scratch.attention(ith));
    }
  });
  linear_backward(
      pass.pool, layer.qkv, scratch.normed, d.qkv, want_input ? d.normed : nullptr, N, d.h, [&](Range part) {
        for (Index t = part.begin; t < part.end; ++t)
          rope_backward(pass.rotary, t % pass.length, d.qkv + t * c.qkv_width(), c.heads + c.kv_heads);
        if (layer.qkv.needs_x())
          rms_norm_apply(cut(x, part), layer.weights.attention_norm, a.attention_inverse_rms + part.begin,
                         cut(normed, part));
      });
  if (!want_input) return;
  norm_backward_weight(pass.pool, x, a.attention_inverse_rms, d_normed, layer.gradients.attention_norm);
  for_tokens(pass.pool, N, [&](Range part) {
    rms_norm_backward(cut(x, part), layer.weights.attention_norm, a.attention_inverse_rms + part.begin,
                      cut(d_normed, part), cut(stream, part));
  });
}

}  // namespace transformer
