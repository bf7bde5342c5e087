// One decoder layer, forward above backward.
//   N tokens, of sequences one after the other; W width; F feed-forward width; D head width; H heads;
//   K kv heads
//
//   m = x + o(attention(rope(qkv(norm(x)))))      y = m + down(swiglu(gate_up(norm(m))))
#pragma once

#include <algorithm>  // copy_n, min

#include "activations.hpp"
#include "attention.hpp"
#include "head_norms.hpp"
#include "linear.hpp"
#include "model.hpp"
#include "rms_norm.hpp"
#include "rope.hpp"
#include "sequences.hpp"
#include "swiglu.hpp"
#include "weights.hpp"

namespace llama {

/// A layer's parameters and where their gradients go; null where not wanted.
template <class T>
struct Layer {
  const ModelLayer<T>* weights = nullptr;
  LayerWeights<T> gradients = {};
  Linear<T> qkv = {}, o = {}, gate_up = {}, down = {};
  bool trains_adapters = false;
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
  const Sequences& sequences;

  Index count() const { return sequences.count(); }
  /// (sequence, head): what attention's tasks are, so that one long sequence is enough for several threads.
  Index tasks() const { return sequences.size() * config.heads; }
};

/// Queries of a task forward, whole blocks of attention_forward.
inline constexpr Index task_queries = 4 * attention_block;

/// The features of head h of q, or of kv head h of k or v, for the tokens of one sequence.
template <class T>
struct Heads {
  const Config& c;
  Range sequence;
  Tokens<T> of(T* data, Index width, Index first_feature) const {
    return columns(data + sequence.begin * width, width, sequence.size())
        .features(first_feature, c.head_width());
  }
  Tokens<T> q(T* qkv, Index h) const { return of(qkv, c.qkv_width(), h * c.head_width()); }
  Tokens<T> k(T* qkv, Index h) const { return of(qkv, c.qkv_width(), c.q_width() + h * c.head_width()); }
  Tokens<T> v(T* qkv, Index h) const {
    return of(qkv, c.qkv_width(), c.q_width() + c.kv_width() + h * c.head_width());
  }
  Tokens<T> attended(T* data, Index h) const { return of(data, c.q_width(), h * c.head_width()); }
  /// The gradients of k and v that come from head h alone.
  Tokens<T> of_keys(T* data, Index h) const { return of(data, 2 * c.q_width(), h * c.head_width()); }
  Tokens<T> of_values(T* data, Index h) const { return of_keys(data, c.heads + h); }
};

/// The gradients of one token's k and v: sums over the heads that each kv head serves.
template <class T>
void add_up_heads(const Config& c, const T* heads, T* d_kv) {
  const Index D = c.head_width(), group = c.heads / c.kv_heads;
  for (Index i = 0; i < 2 * c.kv_heads; ++i) {
    ArrayMap<T> sum(d_kv + i * D, D);
    sum = ArrayMap<const T>(heads + i * group * D, D);
    for (Index j = 1; j < group; ++j) sum += ArrayMap<const T>(heads + (i * group + j) * D, D);
  }
}

/// output may be a.input: then x is overwritten; or null: then what backward does not read, the last
/// product, is left out.
template <class T>
void layer_forward(const Pass<T>& pass, const Layer<T>& layer, const LayerActivations<T>& a,
                   const Workspace<T>& scratch, const Past<T>& past, T* output) {  // W×N
  const Config& c = pass.config;
  const Index N = pass.count(), W = c.width, D = c.head_width(), F = c.feed_forward;
  const auto x = columns<const T>(a.input, W, N), middle = columns<const T>(a.middle, W, N);
  const auto normed = columns(scratch.normed, W, N);

  for_tokens(pass.pool, N, [&](Range part) {
    const Timed timed(Part::norms_and_activations);
    rms_norm_forward(cut(x, part), layer.weights->attention_norm, c.norm_epsilon, cut(normed, part),
                     a.attention_inverse_rms + part.begin);
  });
  base_forward(pass.pool, layer.qkv, scratch.normed, a.qkv, N);
  for_tokens(pass.pool, N, [&](Range part) {
    const Timed timed(Part::norms_and_activations);
    add_biases(layer.qkv, a.qkv, part);
    adapters_forward(layer.qkv, scratch.normed, a.qkv, part);
    for (Index t = part.begin; t < part.end; ++t) {
      T* qkv = a.qkv + t * c.qkv_width();
      if (c.head_norms) head_norms_forward(c, *layer.weights, qkv, a, t);
      rope_forward(pass.rotary, past.count + pass.sequences.position(t), qkv, c.heads + c.kv_heads);
      if (past.keys_values)
        std::copy_n(qkv + c.q_width(), 2 * c.kv_width(),
                    past.keys_values + (past.count + t) * 2 * c.kv_width());
    }
  });

  const Index pieces = (pass.sequences.longest() + task_queries - 1) / task_queries;
  for_tasks(pass.pool, pieces * pass.tasks(), [&](int ith, Index task) {
    const Timed timed(Part::attention_forward);
    const Index piece = pieces - 1 - task / pass.tasks();  // the last see most keys: they go first
    const Range sequence = pass.sequences.of(task % pass.tasks() / c.heads);
    const Index h = task % c.heads, kv_head = h / (c.heads / c.kv_heads);
    const Index begin = piece * task_queries, n = std::min(task_queries, sequence.size() - begin);
    if (n <= 0) return;
    const Heads<T> heads{c, sequence};
    const Index keys = past.count + sequence.size();
    const auto cache = columns(past.keys_values, 2 * c.kv_width(), keys);
    const auto k = past.keys_values ? cache.features(kv_head * D, D) : heads.k(a.qkv, kv_head);
    const auto v = past.keys_values ? cache.features(c.kv_width() + kv_head * D, D) : heads.v(a.qkv, kv_head);
    attention_forward<T>(heads.q(a.qkv, h).tokens(begin, n), k, v, past.count + begin,
                         heads.attended(a.attended, h).tokens(begin, n),
                         a.log_sum_exp + h * N + sequence.begin + begin, scratch.attention(ith));
  });

  base_forward(pass.pool, layer.o, a.attended, a.middle, N);
  for_tokens(pass.pool, N, [&](Range part) {
    const Timed timed(Part::norms_and_activations);
    adapters_forward(layer.o, a.attended, a.middle, part);
    matrix(cut(columns(a.middle, W, N), part)) += matrix(cut(x, part));
    rms_norm_forward(cut(middle, part), layer.weights->mlp_norm, c.norm_epsilon, cut(normed, part),
                     a.mlp_inverse_rms + part.begin);
  });
  base_forward(pass.pool, layer.gate_up, scratch.normed, a.gate_up, N);
  for_tokens(pass.pool, N, [&](Range part) {
    const Timed timed(Part::norms_and_activations);
    adapters_forward(layer.gate_up, scratch.normed, a.gate_up, part);
    swiglu_forward(columns<const T>(a.gate_up + part.begin * 2 * F, 2 * F, part.size()),
                   columns(scratch.activated + part.begin * F, F, part.size()));
    if (!output) adapters_forward<T>(layer.down, scratch.activated, nullptr, part);
  });
  if (!output) return;
  base_forward(pass.pool, layer.down, scratch.activated, output, N);
  for_tokens(pass.pool, N, [&](Range part) {
    const Timed timed(Part::norms_and_activations);
    adapters_forward(layer.down, scratch.activated, output, part);
    matrix(cut(columns(output, W, N), part)) += matrix(cut(middle, part));
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

/// The gradients of the layer's adapters from those of the blocks, on the whole pool.
template <class T>
void add_up_adapters(ThreadPool& pool, const Layer<T>& layer, Index blocks) {
  if (!layer.trains_adapters) return;
  pool.parallel([&](int ith, int nth) {
    const Timed timed(Part::adapter_backward);
    for (const Linear<T>* linear : {&layer.qkv, &layer.o, &layer.gate_up, &layer.down})
      for (const AdapterSite<T>& site : linear->adapters()) site.gradient.add_up(blocks, {ith, nth});
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
  base_backward(pass.pool, layer.down, d.stream, d.activated, N);
  for_tokens(pass.pool, N, [&](const Block& block) {
    const Timed timed(Part::norms_and_activations);
    if (layer.down.needs_x()) swiglu_forward(cut(gate_up, block), cut(activated, block));
    adapters_backward(layer.down, scratch.activated, d.stream, d.activated, block);
    swiglu_backward(cut(gate_up, block), cut(d_activated, block), cut(d_gate_up, block));
    if (layer.gate_up.needs_x())
      rms_norm_apply(cut(middle, block), layer.weights->mlp_norm, a.mlp_inverse_rms + block.begin,
                     cut(normed, block));
  });
  base_backward(pass.pool, layer.gate_up, d.gate_up, d.normed, N);
  for_tokens(pass.pool, N, [&](const Block& block) {
    adapters_backward(layer.gate_up, scratch.normed, d.gate_up, d.normed, block);
  });
  add_weight_gradient(pass.pool, layer.down, scratch.activated, d.stream, N);
  add_weight_gradient(pass.pool, layer.gate_up, scratch.normed, d.gate_up, N);
  norm_backward_weight(pass.pool, middle, a.mlp_inverse_rms, d_normed, layer.gradients.mlp_norm);

  // Attention block.
  for_tokens(pass.pool, N, [&](const Block& block) {
    const Timed timed(Part::norms_and_activations);
    rms_norm_backward(cut(middle, block), layer.weights->mlp_norm, a.mlp_inverse_rms + block.begin,
                      cut(d_normed, block), cut(stream, block));
  });
  base_backward(pass.pool, layer.o, d.stream, d.attended, N);
  for_tokens(pass.pool, N, [&](const Block& block) {
    adapters_backward(layer.o, a.attended, d.stream, d.attended, block);
  });
  add_weight_gradient(pass.pool, layer.o, a.attended, d.stream, N);
  for_tasks(pass.pool, pass.tasks(), [&](int ith, Index task) {
    const Timed timed(Part::attention_backward);
    const Range sequence = pass.sequences.of(task / c.heads);
    const Index h = task % c.heads, kv_head = h / (c.heads / c.kv_heads);
    const Heads<T> heads{c, sequence};
    const auto dk = heads.of_keys(d.heads, h), dv = heads.of_values(d.heads, h);
    matrix(dk).setZero();
    matrix(dv).setZero();
    attention_backward<T>(heads.q(a.qkv, h), heads.k(a.qkv, kv_head), heads.v(a.qkv, kv_head),
                          heads.attended(a.attended, h), a.log_sum_exp + h * N + sequence.begin,
                          heads.attended(d.attended, h), heads.q(d.qkv, h), dk, dv, scratch.attention(ith));
  });
  for_tokens(pass.pool, N, [&](const Block& block) {
    const Timed timed(Part::norms_and_activations);
    for (Index t = block.begin; t < block.end; ++t) {
      T* d_qkv = d.qkv + t * c.qkv_width();
      add_up_heads(c, d.heads + t * 2 * c.q_width(), d_qkv + c.q_width());
      rope_backward(pass.rotary, pass.sequences.position(t), d_qkv, c.heads + c.kv_heads);
      if (c.head_norms) head_norms_backward(c, *layer.weights, d_qkv, a, t);
    }
    if (layer.qkv.needs_x())
      rms_norm_apply(cut(x, block), layer.weights->attention_norm, a.attention_inverse_rms + block.begin,
                     cut(normed, block));
  });
  if (want_input) base_backward(pass.pool, layer.qkv, d.qkv, d.normed, N);
  for_tokens(pass.pool, N, [&](const Block& block) {
    const Timed timed(Part::norms_and_activations);
    adapters_backward(layer.qkv, scratch.normed, d.qkv, want_input ? d.normed : nullptr, block);
    if (want_input)
      rms_norm_backward(cut(x, block), layer.weights->attention_norm, a.attention_inverse_rms + block.begin,
                        cut(d_normed, block), cut(stream, block));
  });
  add_weight_gradient(pass.pool, layer.qkv, scratch.normed, d.qkv, N);
  if (want_input)
    norm_backward_weight(pass.pool, x, a.attention_inverse_rms, d_normed, layer.gradients.attention_norm);
  add_up_adapters(pass.pool, layer, token_blocks(N));
}

}  // namespace llama
