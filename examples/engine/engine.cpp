#include "engine.hpp"

#include <stdexcept>  // invalid_argument, runtime_error

#include <fmt/format.h>
#include <llama/quant/dequantize.hpp>

#include "math.hpp"

namespace engine {

namespace {

/// Files hold more models than this engine computes.
void check_sizes(const GgufModel& model) {
  const llama::Config& sizes = model.sizes;
  const auto fail = [&model](const std::string& what) {
    throw std::runtime_error(fmt::format("\"{}\" {}", model.path().string(), what));
  };
  if (model.architecture != "llama")
    fail(fmt::format("is a model of architecture \"{}\"; this engine runs \"llama\"", model.architecture));
  if (sizes.own_head_width > 0)
    fail(fmt::format(
        "has heads {} wide, which is not its width {} / {} heads; this engine does not compute that",
        sizes.head_width(), sizes.width, sizes.heads));
  if (sizes.width % block_size != 0 || sizes.feed_forward % block_size != 0 || sizes.head_width() % 8 != 0)
    fail(
        fmt::format("has widths {} and {} and heads of {}; multiples of {} and, for heads, of 8 are expected",
                    sizes.width, sizes.feed_forward, sizes.head_width(), block_size));
}

}  // namespace

Engine::Engine(const GgufModel& model, int threads, Index context, Index max_rows)
    : model_(model),
      s_(model.sizes),
      pool_(threads),
      rotary_(s_.head_width(), s_.rope_base, s_.rope_divisors),
      context_(context),
      max_rows_(max_rows),
      x_(max_rows, s_.width),
      normed_(max_rows, s_.width),
      attended_(max_rows, s_.heads * s_.head_width()),
      hidden_(max_rows, s_.feed_forward) {
  check_sizes(model);
  const auto check_type = [&](const GgufWeight& weight) {
    using llama::NumberType;
    if (weight.type != NumberType::F32 && weight.type != NumberType::Q4_1 && weight.type != NumberType::Q8_0)
      throw std::runtime_error(fmt::format(
          "\"{}\" has a tensor \"{}.weight\" of type {} ({}); this engine computes with F32, Q4_1 and Q8_0",
          model.path().string(), weight.name, llama::info(weight.type).name,
          static_cast<std::uint32_t>(weight.type)));
  };
  check_type(model.embedding), check_type(model.output);
  for (const GgufLayer& layer : model.layers)
    for (const GgufWeight* weight :
         {&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down})
      check_type(*weight);
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
          fmt::format("token {} is none of the {} of the model", row.token, s_.vocabulary));
    if (row.position < 0 || row.position >= context_ || row.position >= row.cache->capacity())
      throw std::invalid_argument(fmt::format("position {} is beyond the context", row.position));
  }
}

void Engine::run(const Member& member, std::span<const Row> rows) {
  const auto count = static_cast<Index>(rows.size());
  const Range own = member.part(count);
  for (Index t = own.begin; t < own.end; ++t)
    llama::dequantize(model_.embedding.type, model_.embedding.row(rows[at(t)].token), 0, s_.width, x_.row(t));

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

void Engine::linear(const Member& member, std::initializer_list<Linear> layers, const Activations& x,
                    Index count) {
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

void Engine::normalize(Range own, const float* weight) {
  for (Index t = own.begin; t < own.end; ++t) {
    rms_norm(x_.row(t), weight, s_.width, static_cast<float>(s_.norm_epsilon), normed_.row(t));
    normed_.quantize(t);
  }
}

void Engine::add_delta(Range own) {
  for (Index t = own.begin; t < own.end; ++t)
    for (Index i = 0; i < s_.width; ++i) x_.row(t)[i] += delta_[at(t * s_.width + i)];
}

void Engine::remember(Index layer, const Row& row, Index t) {
  float* k = k_.data() + t * s_.kv_width();
  const float* v = v_.data() + t * s_.kv_width();
  llama::rope_forward(rotary_, row.position, q(t, 0), s_.heads, s_.rope_pairs);
  llama::rope_forward(rotary_, row.position, k, s_.kv_heads, s_.rope_pairs);
  for (Index i = 0; i < s_.kv_width(); ++i) {
    row.cache->key(layer, row.position)[i] = to_half(k[i]);
    row.cache->value(layer, row.position)[i] = to_half(v[i]);
  }
}

}  // namespace engine
