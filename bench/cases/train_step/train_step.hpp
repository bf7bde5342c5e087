// One step of fine-tuning an adapter on a frozen transformer, and the same step without the adapter.
#pragma once

#include <cstddef>   // size_t
#include <cstdint>   // int32_t
#include <optional>  // optional
#include <string>    // string
#include <vector>    // vector

#include <llama/modules.hpp>
#include <llama/profile.hpp>
#include <llama/random.hpp>
#include <llama/transformer.hpp>
#include <tiedlora/tiedlora.hpp>

namespace train_step {

using tiedlora::Index;

/// What one run measures. The defaults are the toy: width 128, 8 layers, 16×128 tokens.
struct Problem {
  llama::Config config = {.layers = 8};
  Index sequences = 16, length = 128;
  Index rank = 8;
  std::vector<std::string> targets = {"q_proj", "k_proj", "v_proj"};
  llama::Keep keep = llama::Keep::every_layer;
};

/// Tokens and targets, both sequences × length; the same in every run.
struct Text {
  explicit Text(const Problem& p) : sequences(p.sequences), length(p.length) {
    llama::Random random(1);
    for (std::vector<std::int32_t>* values : {&tokens, &targets}) {
      values->resize(static_cast<std::size_t>(sequences * length));
      for (std::int32_t& value : *values)
        value = static_cast<std::int32_t>(random.uniform() * static_cast<double>(p.config.vocabulary));
    }
  }
  llama::Batch batch() const { return {tokens.data(), targets.data(), sequences, length}; }

  Index sequences, length;
  std::vector<std::int32_t> tokens = {}, targets = {};
};

/// An adapter with its optimiser; without a scheme the bare model, of which a step is forward and backward as
/// far down as an adapter's would go: to q, k and v of the lowest layer. Steps of both differ by the adapter
/// alone.
class TrainStep {
 public:
  /// Keeps references to all but the problem.
  TrainStep(const Problem& problem, const std::optional<tiedlora::Scheme>& scheme,
            const llama::Model<float>& weights, const Text& text, llama::ThreadPool& pool)
      : weights_(weights), text_(text), model_(problem.config, pool, problem.keep) {
    if (!scheme) return;
    training_.emplace(tiedlora::Layout(llama::modules(problem.config, problem.targets), *scheme, problem.rank,
                                       {.scaling = 2}));
  }

  /// Forward, backward and AdamW; returns the loss before the update.
  double run() {
    const tiedlora::Adapter<float>* adapter = training_ ? &training_->adapter : nullptr;
    const double loss = model_.forward(weights_, adapter, text_.batch());
    model_.backward(weights_, adapter, text_.batch(), nullptr, training_ ? &training_->gradients : nullptr,
                    /*lowest=*/0);
    if (training_) {
      const llama::Timed timed(llama::Part::optimizer);
      training_->optimizer.step(training_->adapter.trainable(), training_->gradients.values());
      training_->gradients.set_zero();
    }
    return loss;
  }

  /// What the last forward keeps for backward.
  Index activation_bytes() const { return model_.activation_bytes(); }
  Index trained_count() const { return training_ ? training_->adapter.layout().trainable_count() : 0; }
  Index frozen_count() const { return training_ ? training_->adapter.layout().frozen_count() : 0; }

 private:
  struct Training {
    explicit Training(const tiedlora::Layout& layout)
        : adapter(layout), gradients(layout), optimizer(layout) {
      adapter.initialize(1);
    }
    tiedlora::Adapter<float> adapter;
    tiedlora::Gradients<float> gradients;
    tiedlora::AdamW<float> optimizer;
  };

  const llama::Model<float>& weights_;
  const Text& text_;
  llama::Transformer<float> model_;
  std::optional<Training> training_;
};

}  // namespace train_step
