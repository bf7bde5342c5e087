// The forward pass of a Llama model over a batch of tokens.
#pragma once

#include <cstdint>           // int32_t
#include <initializer_list>  // initializer_list
#include <span>              // span
#include <stdexcept>         // invalid_argument
#include <vector>            // vector

#include <fmt/format.h>
#include <llama/gguf_model.hpp>
#include <llama/rope.hpp>
#include <llama/thread_pool.hpp>
#include <tiedlora/serving.hpp>

#include "activations.hpp"
#include "attention.hpp"
#include "math.hpp"

namespace engine {

using llama::GgufLayer;
using llama::GgufModel;
using llama::ThreadPool;

/// One token of a batch. Tokens of one text stand in order; texts may be mixed.
struct Row {
  std::int32_t token = 0;
  Index position = 0;
  KvCache* cache = nullptr;  ///< of its text, filled up to the position
  bool wants_logits = false;
};

/// y = W x, where y has a row of weight.out numbers for each token.
struct Linear {
  const GgufWeight& weight;
  float* y;
};

class Engine {
 public:
  /// For batches of at most `max_rows` tokens at positions below `context`. The model must outlive it.
  Engine(const GgufModel& model, int threads, Index context, Index max_rows)
      : model_(model),
        s_(model.sizes),
        pool_(threads),
        rotary_(s_.head_width(), s_.rope_base),
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

  Index context() const { return context_; }
  Index max_rows() const { return max_rows_; }
  int threads() const { return pool_.size(); }

  /// Runs the batch, each row through its adapter in the plan if any, and adds its keys and values to the
  /// caches. Returns the logits of the rows that want them, vocabulary numbers each, in the order of the
  /// batch; they hold until the next call. Results do not depend on the number of threads, nor on what else
  /// is in the batch, to the bit.
  std::span<const float> forward(std::span<const Row> rows, const tiedlora::BatchPlan<float>& plan) {
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

 private:
  void check(std::span<const Row> rows, const tiedlora::BatchPlan<float>& plan) const {
    if (plan.size() > 0 && plan.tokens() != static_cast<Index>(rows.size()))
      throw std::invalid_argument(
          fmt::format("a plan of {} tokens for a batch of {}", plan.tokens(), rows.size()));
    if (static_cast<Index>(rows.size()) > max_rows_)
      throw std::invalid_argument(
          fmt::format("a batch of {} tokens, but there is room for {}", rows.size(), max_rows_));
    for (const Row& row : rows) {
      if (row.token < 0 || row.token >= s_.vocabulary)
        throw std::invalid_argument(
            fmt::format("token {} is none of the {} of the model", row.token, s_.vocabulary));
      if (row.position < 0 || row.position >= context_ || row.position >= row.cache->capacity())
        throw std::invalid_argument(fmt::format("position {} is beyond the context", row.position));
    }
  }

  // What each thread does. Between barriers threads work on different rows, heads or outputs.
  void run(const Member& member, std::span<const Row> rows) {
    const auto count = static_cast<Index>(rows.size());
    const Range own = member.part(count);
    for (Index t = own.begin; t < own.end; ++t) read_row(model_.embedding, rows[at(t)].token, x_.row(t));

    for (Index l = 0; l < s_.layers; ++l) {
      const GgufLayer& layer = model_.layers[at(l)];
      normalize(own, layer.attn_norm);
      member.barrier();
      linear(member, {{layer.q, q_.data()}, {layer.k, k_.data()}, {layer.v, v_.data()}}, normed_, count);
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
      linear(member, {{layer.o, delta_.data()}}, attended_, count);
      add_delta(own);
      normalize(own, layer.ffn_norm);
      member.barrier();
      linear(member, {{layer.gate, hidden_.row(0)}, {layer.up, up_.data()}}, normed_, count);
      const Range features = member.part(s_.feed_forward, block_size);
      for (Index t = 0; t < count; ++t) {
        swiglu(hidden_.row(t) + features.begin, up_.data() + t * s_.feed_forward + features.begin,
               features.end - features.begin);
        hidden_.quantize(t, features.begin, features.end);
      }
      member.barrier();
      linear(member, {{layer.down, delta_.data()}}, hidden_, count);
      add_delta(own);
    }

    member.barrier();
    const auto wanting = static_cast<Index>(wanting_.size());
    const Range results = member.part(wanting);
    for (Index i = results.begin; i < results.end; ++i) {
      rms_norm(x_.row(wanting_[at(i)]), model_.output_norm, s_.width, static_cast<float>(s_.norm_epsilon),
               normed_.row(i));
      normed_.quantize(i);
    }
    member.barrier();
    multiply(member, model_.output, normed_, wanting, logits_.data());
  }

  // Up to three linear layers, of consecutive numbers, that read the same x. All threads call it, and return
  // when all of y is there.
  void linear(const Member& member, std::initializer_list<Linear> layers, const Activations& x, Index count) {
    for (const Linear& layer : layers) multiply(member, layer.weight, x, count, layer.y);
    if (plan_->size() == 0) return member.barrier();
    const Index first = layers.begin()->weight.number, modules[] = {first, first + 1, first + 2};
    const tiedlora::Tokens<const float> xs = {x.row(0), x.width(), count, x.width()};
    const tiedlora::CallOptions options = {.slice = {member.ith, member.nth}};
    tiedlora::shrink(*plan_, std::span(modules, layers.size()), xs, std::span(h_, layers.size()), options);
    member.barrier();
    for (const auto& [weight, y] : layers)
      tiedlora::expand(*plan_, weight.number, h_[weight.number - first],
                       tiedlora::Tokens<float>{y, weight.out, count, weight.out}, options);
    member.barrier();
  }

  void normalize(Range own, const float* weight) {
    for (Index t = own.begin; t < own.end; ++t) {
      rms_norm(x_.row(t), weight, s_.width, static_cast<float>(s_.norm_epsilon), normed_.row(t));
      normed_.quantize(t);
    }
  }

  void add_delta(Range own) {
    for (Index t = own.begin; t < own.end; ++t)
      for (Index i = 0; i < s_.width; ++i) x_.row(t)[i] += delta_[at(t * s_.width + i)];
  }

  // Turns q and k of one token and puts k and v into its cache.
  void remember(Index layer, const Row& row, Index t) {
    float* k = k_.data() + t * s_.kv_width();
    const float* v = v_.data() + t * s_.kv_width();
    llama::rope_neighbours(rotary_, row.position, q(t, 0), s_.heads);
    llama::rope_neighbours(rotary_, row.position, k, s_.kv_heads);
    for (Index i = 0; i < s_.kv_width(); ++i) {
      row.cache->key(layer, row.position)[i] = to_half(k[i]);
      row.cache->value(layer, row.position)[i] = to_half(v[i]);
    }
  }

  float* q(Index t, Index head) { return q_.data() + (t * s_.heads + head) * s_.head_width(); }
  static std::size_t at(Index i) { return static_cast<std::size_t>(i); }

  const GgufModel& model_;
  const Config s_;
  ThreadPool pool_;
  llama::RotaryTable<float> rotary_;
  Index context_, max_rows_;
  // One row for each token of the batch.
  Activations x_;                              // the residual stream
  Activations normed_, attended_, hidden_;     // what linear layers read
  std::vector<float> q_, k_, v_, up_, delta_;  // what they write
  std::vector<float> scores_;                  // of each thread, by position
  const tiedlora::BatchPlan<float>* plan_ = nullptr;
  std::vector<float> h_numbers_;
  tiedlora::Tokens<float> h_[3];  // between the adapters' halves, of the layers that read the same x
  std::vector<Index> wanting_;
  std::vector<float> logits_;
};

}  // namespace engine
