// The forward pass of a model of the Llama family over a batch of tokens.
#pragma once

#include <cstdint>           // int32_t
#include <initializer_list>  // initializer_list
#include <span>              // span
#include <vector>            // vector

#include <llama/model.hpp>
#include <llama/rope.hpp>
#include <llama/thread_pool.hpp>
#include <tiedlora/serving.hpp>

#include "activations.hpp"
#include "attention.hpp"

namespace engine {

using llama::ThreadPool;
using Model = llama::Model<float>;

/// One token of a batch. Tokens of one text stand in order; texts may be mixed.
struct Row {
  std::int32_t token = 0;
  Index position = 0;
  KvCache* cache = nullptr;  ///< of its text, filled up to the position
  bool wants_logits = false;
};

/// y = W x, where y has a row of weight.out values for each token.
struct Linear {
  const Weight& weight;
  float* y;
};

/// Linear layers of a decoder layer: q, k, v, o, gate, up, down. Number m of layer l is module 7 l + m of an
/// AdapterSet of llama::all_modules.
inline constexpr Index modules_per_layer = 7;

class Engine {
 public:
  /// For batches of at most `max_rows` tokens at positions below `context`. The model must outlive it.
  Engine(const Model& model, int threads, Index context, Index max_rows);

  Index context() const { return context_; }
  Index max_rows() const { return max_rows_; }
  int threads() const { return pool_.size(); }

  /// Runs the batch, each row through its adapter in the plan if any, and adds its keys and values to the
  /// caches. Returns the logits of the rows that want them, one row of the vocabulary's size each, in the
  /// order of the batch; they hold until the next call. Results do not depend on the number of threads, nor
  /// on what else is in the batch, to the bit.
  std::span<const float> forward(std::span<const Row> rows, const tiedlora::BatchPlan<float>& plan);

 private:
  void check(std::span<const Row> rows, const tiedlora::BatchPlan<float>& plan) const;

  // What each thread does. Between barriers threads work on different rows, heads or outputs.
  void run(const Member& member, std::span<const Row> rows);

  // Up to three linear layers that read the same x, and are modules `first` and the next. All threads call
  // it, and return when all of y is there.
  void linear(const Member& member, Index first, std::initializer_list<Linear> layers, const Activations& x,
              Index count);

  void normalize(Range own, const float* weight);
  void add_delta(Range own);

  // Completes q, k and v of one token, turns q and k and puts k and v into its cache.
  void remember(Index layer, const Row& row, Index t);

  float* q(Index t, Index head) { return q_.data() + (t * s_.heads + head) * s_.head_width(); }
  static std::size_t at(Index i) { return static_cast<std::size_t>(i); }

  const Model& model_;
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
  tiedlora::Tokens<float> h_[3];  // between the adapters' stages, of the layers that read the same x
  std::vector<Index> wanting_;
  std::vector<float> logits_;
};

}  // namespace engine
