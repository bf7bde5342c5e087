// What can be trained on a transformer: an adapter beside frozen weights, or the weights themselves.
#pragma once

#include <cstdint>     // int64_t, uint64_t
#include <filesystem>  // path
#include <memory>      // unique_ptr
#include <span>        // span
#include <string>      // string

#include <finetune/data/text_data.hpp>        // Tokens
#include <finetune/distributed/tree_sum.hpp>  // TreeSum
#include <finetune/settings.hpp>              // Settings, Contender, Rates
#include <llama/transformer.hpp>
#include <tiedlora/adapter.hpp>
#include <tiedlora/io/native/checkpoint.hpp>  // TrainingPosition

extern template class llama::Transformer<float>;  // model.cpp

namespace finetune {

using Weights = llama::Weights<float>;
using Model = llama::Transformer<float>;
using Adapter = tiedlora::Adapter<float>;

inline llama::Batch view(const Tokens& tokens) {
  return {tokens.tokens.data(), tokens.targets.data(), tokens.sequences, tokens.length};
}

/// Of one step.
struct StepResult {
  double loss = 0;           ///< before the step, in nats per byte or token
  double gradient_norm = 0;  ///< before clipping
  bool finite = true;        ///< if not, nothing was changed
  Index tokens = 0;          ///< that the model saw
};

class Trainee {
 public:
  virtual ~Trainee() = default;

  /// Forward, backward and one step of AdamW, gradients clipped to clip_norm; rates are multiplied by
  /// `rate_factor`.
  StepResult learn(Model& model, const Tokens& tokens, double rate_factor);
  /// The same with the mean gradient of several batches of one size, which the processes of `sum` share.
  StepResult learn(Model& model, std::span<const Tokens> batches, double rate_factor, TreeSum& sum);

  virtual const Weights& weights() const = 0;
  virtual const Adapter* adapter() const = 0;        ///< null in full fine-tuning
  virtual std::span<float> values() = 0;             ///< what is trained
  virtual tiedlora::Index frozen_count() const = 0;  ///< frozen parameters of its own: VeRA's A and B
  /// Writes all that learn() continues from, and where training stands; `resume` reads it. Both throw
  /// tiedlora::Error where they cannot.
  virtual void save(const std::filesystem::path& path, const tiedlora::TrainingPosition& position) const = 0;
  virtual tiedlora::TrainingPosition resume(const std::filesystem::path& path) = 0;
  /// Gives every process what the first has.
  virtual void share(Communicator& processes) = 0;

  tiedlora::Index trained_count() { return static_cast<tiedlora::Index>(values().size()); }
  /// Of parameters, gradients and both moments of AdamW; without the base model's frozen weights.
  tiedlora::Index bytes() {
    return (4 * trained_count() + frozen_count()) * static_cast<tiedlora::Index>(sizeof(float));
  }

 private:
  virtual double add_gradients(Model& model, const llama::Batch& batch) = 0;
  virtual std::span<float> gradients() = 0;
  virtual void update(double rate_factor, double gradient_scale) = 0;
};

Weights copy_of(const Weights& weights);

tiedlora::Layout layout_of(const Settings& settings, const std::string& scheme, Index rank);

/// What trains the contender. Keeps a reference to the base weights.
std::unique_ptr<Trainee> make_trainee(const Settings& settings, const Contender& contender,
                                      const Rates& rates, const Weights& base, std::uint64_t seed);

/// All weights, from the given ones on: pre-training, and full fine-tuning.
std::unique_ptr<Trainee> make_weights_trainee(Weights weights, double rate);

}  // namespace finetune
