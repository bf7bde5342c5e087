// The whole model: embedding, layers, final norm, output embedding and loss; forward above backward.
//   V vocabulary; W width; L layers; N = sequences × length tokens
#pragma once

#include <algorithm>  // max, min
#include <cstdint>    // int32_t
#include <limits>     // numeric_limits
#include <memory>     // unique_ptr
#include <numeric>    // accumulate
#include <span>       // span
#include <string>     // string, to_string

#include <tiedlora/adapter.hpp>

#include "adapter_map.hpp"
#include "counted.hpp"
#include "layer.hpp"

namespace llama {

/// Sequences one after the other, of equal length or of any lengths.
struct Batch {
  const std::int32_t* tokens = nullptr;   ///< N
  const std::int32_t* targets = nullptr;  ///< N: the token that follows; negative: not counted
  Index sequences = 0, length = 0;        ///< of equal length
  std::span<const Index> lengths = {};    ///< else that of each, and the two above are not read
  tiedlora::Dropout dropout = {};         ///< of the adapters' input; `input` and `first_token` are not read
  Index mean_over = 0;  ///< what the sum of losses is divided by; 0: the counted tokens of this batch
};

/// Keys and values of the tokens so far, so that the next token costs one token's work.
template <class T>
class KeyValueCache {
 public:
  KeyValueCache(const Config& config, Index capacity)
      : width_(2 * config.kv_width()), capacity_(capacity), values_(config.layers * width_ * capacity) {}
  Index count() const { return count_; }  ///< tokens it holds
  Index capacity() const { return capacity_; }
  void clear() { count_ = 0; }

 private:
  template <class>
  friend class Transformer;
  Past<T> layer(Index l) { return {values_.data() + l * width_ * capacity_, count_}; }
  Index width_, capacity_, count_ = 0;
  tiedlora::AlignedArray<T> values_;  // per layer 2KD×capacity
};

/// A Llama-architecture transformer without weights of its own: they come with each call, and so does the
/// adapter, which may be null. Keeps the activations of the last forward. Results are the same bits for every
/// size of the pool, and whether a layer's activations are kept or computed again.
template <class T>
class Transformer {
 public:
  using Adapter = tiedlora::Adapter<T>;
  using Gradients = tiedlora::Gradients<T>;

  /// The pool must outlive the model. `keep`: what forward keeps for backward (Keep::inputs: a layer's input
  /// alone, from which backward computes the rest again). Throws tiedlora::Error for an impossible config.
  Transformer(const Config& config, ThreadPool& pool, Keep keep = Keep::every_layer)
      : config_((validate(config), config)),
        pool_(pool),
        keep_(keep),
        rotary_(config.head_width(), config.rope_base, config.rope_divisors),
        no_adapter_(config),
        last_adapter_(config) {}
  Transformer(const Transformer&) = delete;
  Transformer& operator=(const Transformer&) = delete;

  const Config& config() const { return config_; }

  /// Mean loss in nats per counted token (or the sum over batch.mean_over). Keeps what backward needs.
  double forward(const Model<T>& model, const Adapter* adapter, const Batch& batch);

  /// The same without keeping anything, in one layer's worth of memory; does not disturb a forward that waits
  /// for its backward.
  double evaluate(const Model<T>& model, const Adapter* adapter, const Batch& batch);

  /// Adds the gradients of forward's loss: to those of the weights (null: the base is frozen) and of the
  /// adapter (null: it is). Everything must be as it was in the forward before. Below the lowest adapted
  /// layer of a frozen base nothing is done; `lowest` names a lower one to reach all the same, up to its q, k
  /// and v, which measures what a step costs without its adapter.
  void backward(const Model<T>& model, const Adapter* adapter, const Batch& batch,
                Weights<T>* weight_gradients, Gradients* adapter_gradients,
                Index lowest = std::numeric_limits<Index>::max());

  /// Logits of every token: V×N.
  void logits(const Model<T>& model, const Adapter* adapter, const std::int32_t* tokens, Index sequences,
              Index length, T* out);

  /// Appends tokens to those in the cache and writes the logits of the last one, V of them.
  void extend(const Model<T>& model, const Adapter* adapter, KeyValueCache<T>& cache,
              std::span<const std::int32_t> tokens, T* out);

  /// Bytes that forward and backward of an adapter allocate for batches of up to `count` tokens in sequences
  /// of up to `longest`: what is kept, and scratch.
  static Index working_bytes(const Config& config, Keep keep, const tiedlora::Layout& layout, Index count,
                             Index longest, int threads) {
    const AdapterMap map(config, layout);
    const Workspace<T> scratch(config, count, longest, threads, Memory::counted);
    return Activations<T>(config, keep, count, map.h_ranks(), Memory::counted).bytes() + scratch.bytes() +
           BackwardWorkspace<T>(config, count, map.largest_rank(), map.gradient_size(), scratch.room(),
                                Memory::counted)
               .bytes();
  }

  /// Bytes that the last forward keeps for backward; without scratch that does not grow with the layers.
  Index activation_bytes() const { return training_ ? training_->bytes() : 0; }

 private:
  // Makes room, and the angles of all positions. `keys`: how many positions a token may attend to, if more
  // than its own sequence (the key-value cache).
  void prepare(const Model<T>& model, const Adapter* adapter, std::unique_ptr<Activations<T>>& activations,
               Keep keep, const Sequences& sequences, Index keys = 0) {
    check_config(model.config);
    const std::vector<BySlot>& ranks = map_of(adapter).h_ranks();
    if (!activations || !activations->fits(sequences.count(), ranks)) {
      const Index capacity =
          activations ? std::max(activations->capacity(), sequences.count()) : sequences.count();
      activations.reset();  // first, so that there are never two
      activations = std::make_unique<Activations<T>>(config_, keep, capacity, ranks);
    }
    activations->sequences = sequences;
    keys = std::max(keys, sequences.longest());
    reserve_scratch(sequences.count(), keys);
    rotary_.extend(keys);
  }

  static Sequences sequences_of(Index count, Index length) {
    return Sequences(std::vector<Index>(static_cast<std::size_t>(std::max<Index>(count, 0)), length));
  }
  static Sequences sequences_of(const Batch& batch) {
    return batch.lengths.empty() ? sequences_of(batch.sequences, batch.length) : Sequences(batch.lengths);
  }

  // Never smaller than before, so that passes of different shapes may take turns.
  void reserve_scratch(Index count, Index keys) {
    if (scratch_ && scratch_->fits(count, keys)) return;
    if (scratch_) {
      count = std::max(count, scratch_->count());
      keys = std::max(keys, scratch_->keys());
    }
    backward_scratch_.reset();  // which has room in the other
    scratch_.reset();
    scratch_ = std::make_unique<Workspace<T>>(config_, count, keys, pool_.size());
  }

  void check_config(Config theirs) const {
    theirs.fused_qkv = config_.fused_qkv;  // the weights are the same either way
    if (theirs != config_) throw tiedlora::Error("llama: these weights were made for another config");
  }

  const AdapterMap& map_of(const Adapter* adapter) {
    if (!adapter) return no_adapter_;
    if (!last_adapter_.is_for(adapter->layout())) last_adapter_ = AdapterMap(config_, adapter->layout());
    return last_adapter_;
  }

  Pass<T> pass(const Activations<T>& a) const { return {pool_, config_, rotary_, a.sequences}; }

  // One layer's linears with their adapters.
  Layer<T> make_layer(Index l, const Model<T>& model, const Adapter* adapter, const Activations<T>& a,
                      const tiedlora::Dropout& dropout, Weights<T>* weight_gradients = nullptr,
                      Gradients* adapter_gradients = nullptr) {
    const BackwardWorkspace<T>* backward = backward_scratch_.get();
    T* block_gradients = backward ? backward->gradients : nullptr;
    Layer<T> layer;
    layer.weights = &model.layers[static_cast<std::size_t>(l)];
    if (weight_gradients) layer.gradients = weight_gradients->layer(l);
    const ModelLayer<T>& w = *layer.weights;
    const LayerWeights<T>& g = layer.gradients;
    const Index W = config_.width, Q = config_.q_width(), F = config_.feed_forward;
    const auto make = [&](std::span<const Weight<T>> parts, T* gradient, Index in, Index out) {
      return Linear<T>{.weights = parts, .weight_gradient = gradient, .in_features = in, .out_features = out};
    };
    layer.qkv = make(w.qkv, g.qkv, W, config_.qkv_width());
    layer.qkv.biases = w.qkv_bias;
    layer.o = make({&w.o, 1}, g.o, Q, W);
    layer.gate_up = make(w.gate_up, g.gate_up, W, 2 * F);
    layer.down = make({&w.down, 1}, g.down, F, W);

    const AdapterMap& map = map_of(adapter);
    const auto add = [&](Linear<T>& linear, Slot slot, Index first_row) {
      const Index m = map.module(l, slot);
      if (m < 0) return;
      const Slot h_slot = map.h_slot(l, slot);
      const std::size_t i = linear.site_count++;
      linear.factors[i] = adapter->factors(m);
      linear.dropout = dropout;
      linear.dropout.input = static_cast<std::uint64_t>(adapter->layout().input_id(m));
      AdapterSite<T>& site = linear.sites[i];
      site.first_row = first_row;
      site.h = a.layer(l).h[static_cast<std::size_t>(h_slot)];
      site.shares_A = h_slot != slot;
      if (backward) site.dh = backward->h[i];
      if (adapter_gradients) {
        tiedlora::Factors<T> gradient = adapter_gradients->factors(m);
        site.trains_A = gradient.A != nullptr;
        if (site.shares_A) gradient.A = nullptr;
        const Index numbers = tiedlora::BlockGradients<T>::size(gradient) * token_blocks(a.count());
        site.gradient = tiedlora::BlockGradients<T>(
            gradient, a.count(), std::span(block_gradients, static_cast<std::size_t>(numbers)));
        block_gradients += numbers;
        layer.trains_adapters = true;
      }
    };
    add(layer.qkv, Slot::q, 0);
    add(layer.qkv, Slot::k, Q);
    add(layer.qkv, Slot::v, Q + config_.kv_width());
    add(layer.qkv, Slot::qkv, 0);
    add(layer.o, Slot::o, 0);
    add(layer.gate_up, Slot::gate, 0);
    add(layer.gate_up, Slot::up, F);
    add(layer.down, Slot::down, 0);
    return layer;
  }

  // Embedding, layers and final norm. The result, W×N, lives in the scratch.
  Tokens<T> run(const Model<T>& model, const Adapter* adapter, const std::int32_t* tokens,
                const Activations<T>& a, KeyValueCache<T>* cache, const tiedlora::Dropout& dropout = {}) {
    const Index W = config_.width, N = a.count();
    check_range(tokens, N, "token", 0, config_.vocabulary);
    T* x = a.layer(0).input;
    for_tokens(pool_, N, [&](Range part) {
      for (Index t = part.begin; t < part.end; ++t) model.embedding.copy(tokens[t], 0, W, x + t * W);
    });

    for (Index l = 0; l < config_.layers; ++l) {
      const Past<T> past = cache ? cache->layer(l) : Past<T>{};
      layer_forward(pass(a), make_layer(l, model, adapter, a, dropout), a.layer(l), *scratch_, past,
                    a.layer_output(l));
    }

    const auto stream = columns<const T>(a.output, W, N);
    const auto hidden = columns(scratch_->normed, W, N);
    for_tokens(pool_, N, [&](Range part) {
      rms_norm_forward(cut(stream, part), model.final_norm, config_.norm_epsilon, cut(hidden, part),
                       a.inverse_rms + part.begin);
    });
    return hidden;
  }

  double loss(const Model<T>& model, const Adapter* adapter, const Batch& batch, const Activations<T>& a,
              T* dhidden) {
    const Counted counted(batch.targets, a.count(), config_.vocabulary);
    const Index n = counted.size(), divisor = batch.mean_over > 0 ? batch.mean_over : n;
    const auto hidden = run(model, adapter, batch.tokens, a, nullptr, batch.dropout);
    counted.pack(hidden);
    cross_entropy(pool_, model.output, Tokens<const T>(hidden.tokens(0, n)), counted.targets(), divisor,
                  a.losses, columns(dhidden, config_.width, n), static_cast<T*>(nullptr), config_.vocabulary,
                  scratch_->logits);
    if (dhidden) counted.unpack(columns(dhidden, config_.width, a.count()));
    return std::accumulate(a.losses, a.losses + n, 0.0) / static_cast<double>(divisor);
  }

  Config config_;
  ThreadPool& pool_;
  Keep keep_;
  RotaryTable<T> rotary_;
  AdapterMap no_adapter_, last_adapter_;
  std::unique_ptr<Activations<T>> training_, evaluation_;
  std::unique_ptr<Workspace<T>> scratch_;
  std::unique_ptr<BackwardWorkspace<T>> backward_scratch_;
};

// Defined out here, these are compiled where Transformer<T> is instantiated and not in every file that calls
// them.

template <class T>
double Transformer<T>::forward(const Model<T>& model, const Adapter* adapter, const Batch& batch) {
  prepare(model, adapter, training_, keep_, sequences_of(batch));
  return loss(model, adapter, batch, *training_, training_->dhidden);
}

template <class T>
double Transformer<T>::evaluate(const Model<T>& model, const Adapter* adapter, const Batch& batch) {
  prepare(model, adapter, evaluation_, Keep::one_layer, sequences_of(batch));
  return loss(model, adapter, batch, *evaluation_, nullptr);
}

template <class T>
void Transformer<T>::logits(const Model<T>& model, const Adapter* adapter, const std::int32_t* tokens,
                            Index sequences, Index length, T* out) {
  prepare(model, adapter, evaluation_, Keep::one_layer, sequences_of(sequences, length));
  const Tokens<const T> hidden = run(model, adapter, tokens, *evaluation_, nullptr);
  product(pool_, Part::loss, std::span(&model.output, 1), hidden,
          columns(out, config_.vocabulary, hidden.count));
}

template <class T>
void Transformer<T>::backward(const Model<T>& model, const Adapter* adapter, const Batch& batch,
                              Weights<T>* weight_gradients, Gradients* adapter_gradients, Index lowest) {
  check_config(model.config);
  if (weight_gradients) {
    check_config(weight_gradients->config());
    for (const ModelLayer<T>& layer : model.layers)
      for (const T* bias : layer.qkv_bias)
        if (bias)
          throw tiedlora::Error(
              "llama: this model has biases, which are not trained; train an adapter, not the weights");
  }
  const AdapterMap& map = map_of(adapter);
  if (!training_ || !(training_->sequences == sequences_of(batch)) ||
      !training_->fits(training_->count(), map.h_ranks()))
    throw tiedlora::Error("llama: backward needs a forward of the same batch and adapter before it");
  if (adapter_gradients && !(adapter && adapter->layout() == adapter_gradients->layout()))
    throw tiedlora::Error("llama: adapter and adapter gradients have different layouts");
  lowest = std::min(lowest, weight_gradients ? 0 : adapter_gradients ? map.lowest_layer() : config_.layers);
  if (lowest == config_.layers) return;

  const Activations<T>& a = *training_;
  const Index W = config_.width, N = a.count();
  reserve_scratch(N, a.sequences.longest());
  if (!backward_scratch_ || !backward_scratch_->fits(N, map.largest_rank(), map.gradient_size())) {
    backward_scratch_.reset();
    backward_scratch_ = std::make_unique<BackwardWorkspace<T>>(config_, N, map.largest_rank(),
                                                               map.gradient_size(), scratch_->room());
  }
  const auto stream = columns(backward_scratch_->stream, W, N);

  // Output embedding and final norm. forward has left the gradient of the hidden state; that of the embedding
  // needs the logits once more, which costs less than keeping them.
  const auto output = columns<const T>(a.output, W, N), dhidden = columns<const T>(a.dhidden, W, N);
  if (weight_gradients) {
    norm_backward_weight(pool_, output, a.inverse_rms, dhidden, weight_gradients->final_norm());
    const auto hidden = columns(scratch_->normed, W, N);
    for_tokens(pool_, N, [&](Range part) {
      rms_norm_apply(cut(output, part), model.final_norm, a.inverse_rms + part.begin, cut(hidden, part));
    });
    const Counted counted(batch.targets, N, config_.vocabulary);
    counted.pack(hidden);
    cross_entropy(pool_, model.output, Tokens<const T>(hidden.tokens(0, counted.size())), counted.targets(),
                  batch.mean_over > 0 ? batch.mean_over : counted.size(), a.losses, Tokens<T>{},
                  weight_gradients->output_embedding(), config_.vocabulary, scratch_->logits);
  }
  for_tokens(pool_, N, [&](Range part) {
    matrix(cut(stream, part)).setZero();
    rms_norm_backward(cut(output, part), model.final_norm, a.inverse_rms + part.begin, cut(dhidden, part),
                      cut(stream, part));
  });

  for (Index l = config_.layers - 1; l >= lowest; --l) {
    const Layer<T> layer =
        make_layer(l, model, adapter, a, batch.dropout, weight_gradients, adapter_gradients);
    if (keep_ == Keep::inputs) layer_forward<T>(pass(a), layer, a.layer(l), *scratch_, {}, nullptr);
    layer_backward(pass(a), layer, a.layer(l), *scratch_, *backward_scratch_, weight_gradients || l > lowest);
  }

  // Embedding: tokens may repeat, so threads split it by features.
  if (weight_gradients)
    pool_.parallel([&](int ith, int nth) {
      const Range features = slice(W, ith, nth);
      for (Index t = 0; t < N; ++t)
        ArrayMap<T>(weight_gradients->embedding() + batch.tokens[t] * W + features.begin, features.size()) +=
            column(Tokens<const T>(stream), t, features.begin, features.size());
    });
}

template <class T>
void Transformer<T>::extend(const Model<T>& model, const Adapter* adapter, KeyValueCache<T>& cache,
                            std::span<const std::int32_t> tokens, T* out) {
  const Index n = static_cast<Index>(tokens.size());
  if (cache.count() + n > cache.capacity())
    throw tiedlora::Error("llama: " + std::to_string(n) + " tokens after the " +
                          std::to_string(cache.count()) + " in a key-value cache for " +
                          std::to_string(cache.capacity()));
  // The cache's capacity, not its count: otherwise every token would reallocate the scratch.
  prepare(model, adapter, evaluation_, Keep::one_layer, sequences_of(1, n), cache.capacity());
  const Tokens<const T> hidden = run(model, adapter, tokens.data(), *evaluation_, &cache);
  cache.count_ += n;
  product(pool_, Part::loss, std::span(&model.output, 1), hidden.tokens(n - 1, 1),
          columns(out, config_.vocabulary, 1));
}

}  // namespace llama
