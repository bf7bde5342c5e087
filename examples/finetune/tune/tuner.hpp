// An adapter that learns beside the frozen weights of a real model, step by step.
#pragma once

#include <vector>  // vector

#include <finetune/data/batches.hpp>   // Batches, TokenBatch
#include <finetune/train/trainer.hpp>  // Trainable

#include "base.hpp"
#include "options.hpp"

namespace finetune {

using LanguageModel = llama::Transformer<float>;

/// The learning rates of a run: those of the scheme unless told otherwise.
Rates rates_of(const TuneOptions& options);

tiedlora::Layout layout_of(const TuneOptions& options, const llama::Config& config);

/// Mean loss in nats per counted token over all batches; not_measured for none.
double mean_loss(LanguageModel& model, const llama::Model<float>& weights, const Adapter* adapter,
                 const std::vector<TokenBatch>& batches);

class Tuner final : public Trainable {
 public:
  /// Keeps references to all but the options.
  Tuner(LanguageModel& model, const llama::Model<float>& weights, const TuneOptions& options,
        const Batches& batches, const std::vector<TokenBatch>& validation);

  const Adapter& adapter() const { return adapter_; }

  StepResult learn(std::int64_t step, double rate_factor) override;
  double select_loss() override { return mean_loss(model_, weights_, &adapter_, validation_); }
  std::span<float> values() override { return adapter_.trainable(); }
  Index activation_bytes() const override { return model_.activation_bytes(); }
  void save(const std::filesystem::path& path, const tiedlora::TrainingPosition& position) const override;
  tiedlora::TrainingPosition resume(const std::filesystem::path& path) override;

 private:
  LanguageModel& model_;
  const llama::Model<float>& weights_;
  TuneOptions options_;
  const Batches& batches_;
  const std::vector<TokenBatch>& validation_;
  Adapter adapter_;
  tiedlora::Gradients<float> gradients_;
  tiedlora::AdamW<float> optimizer_;
};

}  // namespace finetune
