#include "engine.hpp"

#include <stdexcept>  // invalid_argument

#include <fmt/format.h>
#include <llama/rms_norm.hpp>

#include "math.hpp"

namespace engine {

Engine::Engine(const Model& model, int threads, Index context, Index max_rows)
    : model_(model),
      s_(model.config),
      pool_(threads),
      rotary_(s_.head_width(), s_.rope_base, s_.rope_divisors),
      context_(context),
      max_rows_(max_rows),
      x_(max_rows, s_.width),
      normed_(max_rows, s_.width),
      attended_(max_rows, s_.heads * s_.head_width()),
      hidden_(max_rows, s_.feed_forward) {
  rotary_.extend(context);
  const auto room = [&](Index width) { return std::vector<float>(static_cast<std::size_t>(width)); };
  q_ = room(max_rows * s_.heads * s_.head_width());
  k_ = room(max_rows * s_.kv_width());
  v_ = room(max_rows * s_.kv_width());
  up_ = room(max_rows * s_.feed_forward);
  delta_ = room(max_rows * s_.width);
  scores_ = room(threads * context);
}

std::span<const float> Engine::forward(std::span<const Row> rows, const tiedlora::BatchPlan<float>& plan) {
  check(rows, plan);
  plan_ = &plan;
  h_numbers_.resize(at(3 * plan.max_rank() * plan.size()));
  for (Index i = 0; i < 3; ++i)
    h_[i] = {h_numbers_.data() + i * plan.max_rank() * plan.size(), plan.max_rank(), plan.size(),
             plan.max_rank()};
  wanting_.clear();
  for (std::size_t t = 0; t < rows.size(); ++t)
    if (rows[t].wants_logits) wanting_.push_back(static_cast<Index>(t));
  logits_.resize(wanting_.size() * static_cast<std::size_t>(s_.vocabulary));
  pool_.with_barriers([&](const Member& member) { run(member, rows); });
  return logits_;
}

void Engine::check(std::span<const Row> rows, const tiedlora::BatchPlan<float>& plan) const {
  if (plan.size() > 0 && plan.tokens() != static_cast<Index>(rows.size()))
    throw std::invalid_argument(
        fmt::format("a plan of {} tokens for a batch of {}", plan.tokens(), rows.size()));
  if (static_cast<Index>(rows.size()) > max_rows_)
    throw std::invalid_argument(
        fmt::format("a batch of {} tokens, but there is room for {}", rows.size(), max_rows_));
  for (const Row& row : rows) {
    if (row.token < 0 || row.token >= s_.vocabulary)
      throw std::invalid_argument(
          fmt::format("token {} is outside the model's vocabulary of {}", row.token, s_.vocabulary));
    if (row.position < 0 || row.position >= context_ || row.position >= row.cache->capacity())
      throw std::invalid_argument(fmt::format("position {} is beyond the context", row.position));
  }
}

void Engine::run(const Member& member, std::span<const Row> rows) {
  const auto count = static_cast<Index>(rows.size());
  const Range own = member.part(count);
  for (Index t = own.begin; t < own.end; ++t)
    model_.embedding.copy(rows[at(t)].token, 0, s_.width, x_.row(t));

  for (Index l = 0; l < s_.layers; ++l) {
    const llama::ModelLayer<float>& layer = model_.layers[at(l)];
    const Index first = l * modules_per_layer;
    const auto& [w_q, w_k, w_v] = layer.qkv;
    normalize(own, layer.attention_norm);
    member.barrier();
    linear(member, first, {{w_q, q_.data()}, {w_k, k_.data()}, {w_v, v_.data()}}, normed_, count);
    for (Index t = own.begin; t < own.end; ++t) remember(l, rows[at(t)], t);
    member.barrier();
    const Range tasks = member.part(count * s_.heads);
    for (Index task = tasks.begin; task < tasks.end; ++task) {
      const Index t = task / s_.heads, head = task % s_.heads;
      attend(*rows[at(t)].cache, l, rows[at(t)].position + 1, s_, head, q(t, head),
             scores_.data() + member.ith * context_, attended_.row(t) + head * s_.head_width());
    }
    member.barrier();
    for (Index t = own.begin; t < own.end; ++t) attended_.quantize(t);
    member.barrier();
    linear(member, first + 3, {{layer.o, delta_.data()}}, attended_, count);
    add_delta(own);
    normalize(own, layer.mlp_norm);
    member.barrier();
    const auto& [w_gate, w_up] = layer.gate_up;
    linear(member, first + 4, {{w_gate, hidden_.row(0)}, {w_up, up_.data()}}, normed_, count);
    const Range features = member.part(s_.feed_forward, block_size);
    for (Index t = 0; t < count; ++t) {
      swiglu(hidden_.row(t) + features.begin, up_.data() + t * s_.feed_forward + features.begin,
             features.end - features.begin);
      hidden_.quantize(t, features.begin, features.end);
    }
    member.barrier();
    linear(member, first + 6, {{layer.down, delta_.data()}}, hidden_, count);
    add_delta(own);
  }

  member.barrier();
  const auto wanting = static_cast<Index>(wanting_.size());
  const Range results = member.part(wanting);
  for (Index i = results.begin; i < results.end; ++i) {
    llama::rms_norm(x_.row(wanting_[at(i)]), model_.final_norm, s_.width, s_.norm_epsilon, normed_.row(i));
    normed_.quantize(i);
  }
  member.barrier();
  multiply(member, model_.output, normed_, wanting, logits_.data());
}

void Engine::linear(const Member& member, Index first, std::initializer_list<Linear> layers,
                    const Activations& x, Index count) {
  for (const Linear& layer : layers) multiply(member, layer.weight, x, count, layer.y);
  if (plan_->size() == 0) return member.barrier();
  const Index modules[] = {first, first + 1, first + 2};
  const tiedlora::Tokens<const float> xs = {x.row(0), x.width(), count, x.width()};
  const tiedlora::CallOptions options = {.slice = {member.ith, member.nth}};
  tiedlora::shrink(*plan_, std::span(modules, layers.size()), xs, std::span(h_, layers.size()), options);
  member.barrier();
  for (Index i = 0; const auto& [weight, y] : layers) {
    tiedlora::expand(*plan_, modules[i], h_[i], tiedlora::Tokens<float>{y, weight.out, count, weight.out},
                     options);
    ++i;
  }
  member.barrier();
}

void Engine::normalize(Range own, const float* weight) {
  for (Index t = own.begin; t < own.end; ++t) {
    llama::rms_norm(x_.row(t), weight, s_.width, s_.norm_epsilon, normed_.row(t));
    normed_.quantize(t);
  }
}

void Engine::add_delta(Range own) {
  for (Index t = own.begin; t < own.end; ++t)
    for (Index i = 0; i < s_.width; ++i) x_.row(t)[i] += delta_[at(t * s_.width + i)];
}

void Engine::remember(Index l, const Row& row, Index t) {
  const llama::ModelLayer<float>& layer = model_.layers[at(l)];
  float *k = k_.data() + t * s_.kv_width(), *v = v_.data() + t * s_.kv_width();
  const auto add_bias = [](const float* bias, float* y, Index width) {
    for (Index i = 0; bias && i < width; ++i) y[i] += bias[i];
  };
  add_bias(layer.qkv_bias[0], q(t, 0), s_.q_width());
  add_bias(layer.qkv_bias[1], k, s_.kv_width());
  add_bias(layer.qkv_bias[2], v, s_.kv_width());
  const auto normalize_heads = [this](const float* weight, float* x, Index heads) {
    const Index width = s_.head_width();
    for (Index head = 0; weight && head < heads; ++head, x += width)
      llama::rms_norm(x, weight, width, s_.norm_epsilon, x);
  };
  normalize_heads(layer.q_norm, q(t, 0), s_.heads);
  normalize_heads(layer.k_norm, k, s_.kv_heads);
  llama::rope_forward(rotary_, row.position, q(t, 0), s_.heads);
  llama::rope_forward(rotary_, row.position, k, s_.kv_heads);
  for (Index i = 0; i < s_.kv_width(); ++i) {
    row.cache->key(l, row.position)[i] = to_half(k[i]);
    row.cache->value(l, row.position)[i] = to_half(v[i]);
  }
}

}  // namespace engine
