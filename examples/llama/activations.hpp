// The memory of a pass through the model: what backward needs, kept per layer, and scratch that layers share.
//   N tokens; W width; F feed-forward width; D head width; H heads; K kv heads; r rank
#pragma once

#include <algorithm>  // max
#include <array>      // array
#include <vector>     // vector

#include "arena.hpp"
#include "attention.hpp"
#include "config.hpp"
#include "cross_entropy.hpp"
#include "modules.hpp"
#include "product.hpp"
#include "sequences.hpp"

namespace llama {

/// One value for each Slot of a layer.
using BySlot = std::array<Index, slot_count>;

/// What one layer leaves for backward. Outputs of norms and of SwiGLU are made again from these,
/// probabilities too.
template <class T>
struct LayerActivations {
  T* input = nullptr;                  // W×N, the residual stream
  T* attention_inverse_rms = nullptr;  // N
  T* qkv = nullptr;                    // (HD + 2KD)×N, rows [q; k; v], q and k rotated
  T* head_inputs = nullptr;            // (HD + KD)×N, q and k before their norms; null: there are none
  T* head_inverse_rms = nullptr;       // (H + K)×N, likewise
  T* log_sum_exp = nullptr;            // N×H, of the scores of each head
  T* attended = nullptr;               // HD×N, attention's output before o_proj
  T* middle = nullptr;                 // W×N, the residual stream after attention
  T* mlp_inverse_rms = nullptr;        // N
  T* gate_up = nullptr;                // 2F×N, rows [gate; up]
  std::array<T*, slot_count> h = {};   // r×N, the adapters' A x; null where there is none of its own
};

/// What a pass writes: kept for every layer where backward follows; or of every layer its input alone, and of
/// the rest one layer's worth; or one layer's worth of everything, where nothing follows.
enum class Keep { every_layer, inputs, one_layer };

template <class T>
class Activations {
 public:
  /// For up to `capacity` tokens; `ranks` of h by layer.
  Activations(const Config& c, Keep keep, Index capacity, const std::vector<BySlot>& ranks,
              Memory memory = Memory::allocated)
      : capacity_(capacity), ranks_(ranks), layers_(ranks.size()) {
    const Index N = capacity;
    if (keep == Keep::every_layer) {
      for (std::size_t l = 0; l < layers_.size(); ++l) {
        arena_.add(layers_[l].input, c.width * N);
        add_rest(layers_[l], c, ranks[l]);
      }
    } else {
      BySlot largest = {};
      for (const BySlot& of_layer : ranks)
        for (std::size_t s = 0; s < largest.size(); ++s) largest[s] = std::max(largest[s], of_layer[s]);
      add_rest(shared_, c, largest);
      if (keep == Keep::inputs)
        for (LayerActivations<T>& layer : layers_) arena_.add(layer.input, c.width * N);
      else
        arena_.add(shared_.input, c.width * N);
    }
    if (keep != Keep::one_layer) arena_.add(output, c.width * N);
    arena_.add(inverse_rms, N);
    arena_.add(dhidden, c.width * N);
    arena_.add(losses, N);
    arena_.allocate(memory);
    if (keep == Keep::every_layer) return;
    for (LayerActivations<T>& layer : layers_) {
      T* const input = keep == Keep::inputs ? layer.input : shared_.input;
      layer = shared_;
      layer.input = input;
    }
    if (keep == Keep::one_layer) output = shared_.input;
  }
  Activations(const Activations&) = delete;
  Activations& operator=(const Activations&) = delete;

  bool fits(Index count, const std::vector<BySlot>& ranks) const {
    return count <= capacity_ && ranks == ranks_;
  }
  Index capacity() const { return capacity_; }
  Index count() const { return sequences.count(); }
  Index bytes() const { return arena_.bytes(); }

  const LayerActivations<T>& layer(Index l) const { return layers_[static_cast<std::size_t>(l)]; }
  /// Where layer l writes the residual stream: the next layer's input.
  T* layer_output(Index l) const {
    return l + 1 < static_cast<Index>(layers_.size()) ? layer(l + 1).input : output;
  }

  Sequences sequences;       // of the pass that these are of
  T* output = nullptr;       // W×N, the residual stream above the last layer
  T* inverse_rms = nullptr;  // N, of the final norm
  T* dhidden = nullptr;      // W×N, the gradient of the final norm's output
  T* losses = nullptr;       // N

 private:
  void add_rest(LayerActivations<T>& a, const Config& c, const BySlot& ranks) {
    const Index N = capacity_;
    arena_.add(a.attention_inverse_rms, N);
    arena_.add(a.qkv, c.qkv_width() * N);
    if (c.head_norms) {
      arena_.add(a.head_inputs, (c.q_width() + c.kv_width()) * N);
      arena_.add(a.head_inverse_rms, (c.heads + c.kv_heads) * N);
    }
    arena_.add(a.log_sum_exp, c.heads * N);
    arena_.add(a.attended, c.q_width() * N);
    arena_.add(a.middle, c.width * N);
    arena_.add(a.mlp_inverse_rms, N);
    arena_.add(a.gate_up, 2 * c.feed_forward * N);
    for (std::size_t s = 0; s < a.h.size(); ++s)
      if (ranks[s] > 0) arena_.add(a.h[s], ranks[s] * N);
  }

  Index capacity_;
  std::vector<BySlot> ranks_;
  std::vector<LayerActivations<T>> layers_;
  LayerActivations<T> shared_;  // what layers use in turn
  Arena<T> arena_;
};

/// Scratch that layers share: its contents do not outlive one layer's forward or backward.
template <class T>
class Workspace {
 public:
  /// For N = `count` tokens that attend to up to `keys` positions, by `threads` threads.
  Workspace(const Config& c, Index count, Index keys, int threads, Memory memory = Memory::allocated)
      : count_(count), keys_(keys), attention_(static_cast<std::size_t>(threads)) {
    arena_.add(normed, c.width * count);
    arena_.add(activated, c.feed_forward * count);
    for (T*& scratch : attention_) arena_.add(scratch, attention_scratch(keys));
    logits_size_ = c.vocabulary * cross_entropy_chunk<T>(c.vocabulary, count);
    arena_.add(logits, logits_size_);
    arena_.allocate(memory);
  }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  Index count() const { return count_; }
  Index keys() const { return keys_; }
  Index bytes() const { return arena_.bytes(); }
  bool fits(Index count, Index keys) const { return count <= count_ && keys <= keys_; }
  T* attention(int ith) const { return attention_[static_cast<std::size_t>(ith)]; }
  /// The memory of the logits, which are used up when layers go backward.
  Room<T> room() const { return {logits, logits_size_}; }

  T* normed = nullptr;     // W×N, a norm's output
  T* activated = nullptr;  // F×N, SwiGLU's output
  T* logits = nullptr;     // V×C

 private:
  Index count_, keys_, logits_size_;
  std::vector<T*> attention_;  // by thread
  Arena<T> arena_;
};

/// Gradients of activations; one layer's worth.
template <class T>
class BackwardWorkspace {
 public:
  /// For tokens and for the adapters of one layer: their largest rank, and what BlockGradients need for a
  /// block. What layers alone use goes into `room` first, which must outlive this.
  BackwardWorkspace(const Config& c, Index count, Index largest_rank, Index gradient_size, Room<T> room,
                    Memory memory = Memory::allocated)
      : count_(count), largest_rank_(largest_rank), gradient_size_(gradient_size) {
    arena_.add(stream, c.width * count);
    arena_.add(gate_up, 2 * c.feed_forward * count, room);
    arena_.add(activated, c.feed_forward * count, room);
    arena_.add(qkv, c.qkv_width() * count, room);
    arena_.add(normed, c.width * count, room);
    arena_.add(attended, c.q_width() * count, room);
    for (T*& dh : h) arena_.add(dh, largest_rank * count, room);
    arena_.add(gradients, gradient_size * token_blocks(count), room);
    if (c.feed_forward < c.q_width()) arena_.add(heads, 2 * c.q_width() * count, room);
    arena_.allocate(memory);
    if (!heads) heads = gate_up;  // which is used up by then
  }
  BackwardWorkspace(const BackwardWorkspace&) = delete;
  BackwardWorkspace& operator=(const BackwardWorkspace&) = delete;

  bool fits(Index count, Index largest_rank, Index gradient_size) const {
    return count <= count_ && largest_rank <= largest_rank_ && gradient_size <= gradient_size_;
  }
  Index bytes() const { return arena_.bytes(); }

  T* stream = nullptr;       // W×N, gradient of the residual stream, from layer to layer
  T* normed = nullptr;       // W×N
  T* attended = nullptr;     // HD×N
  T* qkv = nullptr;          // (HD + 2KD)×N
  T* activated = nullptr;    // F×N
  T* gate_up = nullptr;      // 2F×N
  T* heads = nullptr;        // 2HD×N, what each head adds to dk and dv, rows [dk; dv]
  std::array<T*, 3> h = {};  // r×N, for each of a linear layer's adapters
  T* gradients = nullptr;    // of the adapters, for each block of tokens

 private:
  Index count_, largest_rank_, gradient_size_;
  Arena<T> arena_;
};

}  // namespace llama
