// An adapter that learns beside the frozen weights of a real model, step by step.
#pragma once

#include <cstdint>  // int64_t
#include <span>     // span
#include <string>   // string
#include <vector>   // vector

#include <finetune/data/batches.hpp>          // Batches, TokenBatch
#include <finetune/distributed/tree_sum.hpp>  // TreeSum
#include <finetune/train/adapter_training.hpp>
#include <finetune/train/trainer.hpp>  // Trainable

#include "base.hpp"
#include "options.hpp"

namespace finetune {

using LanguageModel = llama::Transformer<float>;

/// Throws std::invalid_argument for a rate of what the scheme does not train.
void check_rates(const TuneOptions& options);

/// The learning rates of a run: those recommended for its layout unless told
/// otherwise. Throws as check_rates.
Rates rates_of(const TuneOptions& options, const llama::Config& config);

tiedlora::Layout layout_of(const TuneOptions& options, const llama::Config& config);

/// The plan of a run of `steps` steps: what every run of a real model shares.
TrainingPlan plan_of(const TuneOptions& options, std::string title, std::int64_t steps);

/// Mean loss in nats per counted token over all batches, which the processes share; not_measured for none.
double mean_loss(LanguageModel& model, const llama::Model<float>& weights, const Adapter* adapter,
                 std::span<const TokenBatch> batches, Communicator& processes = single_process());

class Tuner final : public Trainable {
 public:
  /// Keeps references to all but the options. `validation` may be empty: nothing is measured then.
  Tuner(LanguageModel& model, const llama::Model<float>& weights, const TuneOptions& options,
        const Batches& batches, std::span<const TokenBatch> validation,
        Communicator& processes = single_process());

  const Adapter& adapter() const { return training_.adapter; }

  StepResult learn(std::int64_t step, double rate_factor) override;
  double start_loss(std::int64_t step) override;
  double select_loss() override {
    return mean_loss(model_, weights_, &training_.adapter, validation_, sum_.processes());
  }
  std::span<float> values() override { return training_.adapter.trainable(); }
  Index activation_bytes() const override { return model_.activation_bytes(); }
  void save(const std::filesystem::path& path, const tiedlora::TrainingPosition& position) const override {
    training_.save(path, position);
  }
  tiedlora::TrainingPosition resume(const std::filesystem::path& path) override {
    return training_.resume(path);
  }
  void share(Communicator& processes) override { training_.share(processes); }

 private:
  std::vector<TokenBatch> batches_of(std::int64_t step) const;  // those in which something counts

  LanguageModel& model_;
  const llama::Model<float>& weights_;
  TuneOptions options_;
  const Batches& batches_;
  std::span<const TokenBatch> validation_;
  AdapterTraining training_;
  TreeSum sum_;
};

/// Seconds, measured on an adapter that is thrown away; those of the first process.
struct StepCost {
  double step = 0;
  double evaluation = 0;  ///< of the batches that were given
};
StepCost measure_cost(LanguageModel& model, const llama::Model<float>& weights, const TuneOptions& options,
                      const Batches& batches, std::span<const TokenBatch> evaluated,
                      Communicator& processes = single_process());

}  // namespace finetune
