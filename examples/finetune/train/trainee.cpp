// Adapters and weights as they are trained, and the checkpoints of weights.
#include "trainee.hpp"

#include <algorithm>  // copy
#include <utility>    // move

#include <llama/modules.hpp>
#include <nlohmann/json.hpp>
#include <tiedlora/adapter/optimizer.hpp>

#include "adapter_training.hpp"
#include "checked_file.hpp"

namespace finetune {

namespace {

/// Where the training of weights stands.
struct WeightsPosition {
  std::int64_t steps = 0;  ///< of the optimiser
  tiedlora::TrainingPosition position = {};
};

/// A checkpoint of weights and both moments of AdamW.
void save_weights(const std::filesystem::path& path, const Weights& weights, const Weights& first,
                  const Weights& second, const WeightsPosition& position) {
  const nlohmann::json json = {
      {"steps", position.steps}, {"step", position.position.step}, {"data", position.position.data}};
  save_checked(path, {{"weights", weights.values()}, {"first", first.values()}, {"second", second.values()}},
               json.dump());
}

/// Reads it. Throws tiedlora::Error if the file is damaged or of a model of other sizes.
WeightsPosition read_weights(const std::filesystem::path& path, Weights& weights, Weights& first,
                             Weights& second) {
  const tiedlora::safetensors::File file = open_checked(path);
  const auto read = [&](const char* name, Weights& numbers) {
    const tiedlora::safetensors::Tensor* tensor = file.find(name);
    if (!tensor || !tiedlora::safetensors::try_read(*tensor, numbers.values()))
      throw tiedlora::Error(path.string() + " is not a checkpoint of this model's weights");
  };
  read("weights", weights), read("first", first), read("second", second);
  const auto text = file.metadata().find("finetune");
  const auto json =
      nlohmann::json::parse(text == file.metadata().end() ? std::string() : text->second, nullptr,
                            /*allow_exceptions=*/false);
  if (!json.is_object()) throw tiedlora::Error(path.string() + " does not say how far its training is");
  return {json.value("steps", std::int64_t{0}),
          {.step = json.value("step", std::int64_t{0}), .data = json.value("data", std::string())}};
}

class AdapterTrainee final : public Trainee {
 public:
  /// Keeps a reference to the base weights.
  AdapterTrainee(const Weights& base, const tiedlora::Layout& layout, const Rates& rates, std::uint64_t seed)
      : base_(base), training_(layout, rates, weight_decay, seed) {}

  const Weights& weights() const override { return base_; }
  const Adapter* adapter() const override { return &training_.adapter; }
  std::span<float> values() override { return training_.adapter.trainable(); }
  tiedlora::Index frozen_count() const override { return training_.adapter.layout().frozen_count(); }
  void save(const std::filesystem::path& path, const tiedlora::TrainingPosition& position) const override {
    training_.save(path, position);
  }
  tiedlora::TrainingPosition resume(const std::filesystem::path& path) override {
    return training_.resume(path);
  }
  void share(Communicator& processes) override { training_.share(processes); }

 private:
  double add_gradients(Model& model, const llama::Batch& batch) override {
    const double loss = model.forward(base_, &training_.adapter, batch);
    model.backward(base_, &training_.adapter, batch, nullptr, &training_.gradients);
    return loss;
  }
  std::span<float> gradients() override { return training_.gradients.values(); }
  void update(double rate_factor, double gradient_scale) override {
    training_.update(rate_factor, gradient_scale);
  }

  const Weights& base_;
  AdapterTraining training_;
};

/// All weights of the transformer: pre-training, and full fine-tuning.
class WeightsTrainee final : public Trainee {
 public:
  WeightsTrainee(Weights weights, double rate)
      : weights_(std::move(weights)),
        gradients_(weights_.config()),
        first_(weights_.config()),
        second_(weights_.config()),
        rate_(rate) {}

  const Weights& weights() const override { return weights_; }
  const Adapter* adapter() const override { return nullptr; }
  std::span<float> values() override { return weights_.values(); }
  tiedlora::Index frozen_count() const override { return 0; }
  void save(const std::filesystem::path& path, const tiedlora::TrainingPosition& position) const override {
    save_weights(path, weights_, first_, second_, {.steps = steps_, .position = position});
  }
  tiedlora::TrainingPosition resume(const std::filesystem::path& path) override {
    const WeightsPosition read = read_weights(path, weights_, first_, second_);
    steps_ = read.steps;
    return read.position;
  }
  void share(Communicator& processes) override {
    for (Weights* numbers : {&weights_, &first_, &second_})
      processes.broadcast(std::as_writable_bytes(numbers->values()));
    steps_ = processes.from_first(steps_);
  }

 private:
  double add_gradients(Model& model, const llama::Batch& batch) override {
    const double loss = model.forward(weights_, nullptr, batch);
    model.backward(weights_, nullptr, batch, &gradients_, nullptr);
    return loss;
  }
  std::span<float> gradients() override { return gradients_.values(); }
  void update(double rate_factor, double gradient_scale) override {
    tiedlora::AdamWStep step = {.rate = rate_ * rate_factor,
                                .decay = 0,
                                .beta1 = 0.9,
                                .beta2 = 0.999,
                                .epsilon = 1e-8,
                                .gradient_scale = gradient_scale,
                                .step = ++steps_};
    for (const llama::WeightEntry& entry : weights_.entries()) {
      const auto part = [&](std::span<float> values) {
        return values.subspan(static_cast<std::size_t>(entry.offset),
                              static_cast<std::size_t>(entry.count()));
      };
      step.decay = entry.decay ? weight_decay : 0;
      tiedlora::adamw_update(step, part(weights_.values()), part(gradients_.values()), part(first_.values()),
                             part(second_.values()));
    }
  }

  Weights weights_, gradients_, first_, second_;
  double rate_;
  std::int64_t steps_ = 0;
};

}  // namespace

StepResult Trainee::learn(Model& model, const Tokens& tokens, double rate_factor) {
  TreeSum sum(single_process());
  return learn(model, {&tokens, 1}, rate_factor, sum);
}

StepResult Trainee::learn(Model& model, std::span<const Tokens> batches, double rate_factor, TreeSum& sum) {
  StepResult result;
  for (const Tokens& tokens : batches) result.tokens += tokens.count();
  result.loss = sum.step(std::ssize(batches), gradients(), [&](Index i) {
    llama::Batch batch = view(batches[static_cast<std::size_t>(i)]);
    batch.mean_over = result.tokens;
    return add_gradients(model, batch);
  });
  finish_step(result, gradients(), clip_norm,
              [&](double gradient_scale) { update(rate_factor, gradient_scale); });
  return result;
}

Weights copy_of(const Weights& weights) {
  Weights copy(weights.config());
  std::copy(weights.values().begin(), weights.values().end(), copy.values().begin());
  return copy;
}

tiedlora::Layout layout_of(const Settings& settings, const std::string& scheme, Index rank) {
  return tiedlora::Layout(llama::modules(settings.model, settings.targets), scheme_named(scheme), rank);
}

std::unique_ptr<Trainee> make_trainee(const Settings& settings, const Contender& contender,
                                      const Rates& rates, const Weights& base, std::uint64_t seed) {
  if (contender.is_full()) return std::make_unique<WeightsTrainee>(copy_of(base), rates.rate);
  return std::make_unique<AdapterTrainee>(base, layout_of(settings, contender.scheme, contender.rank), rates,
                                          seed);
}

std::unique_ptr<Trainee> make_weights_trainee(Weights weights, double rate) {
  return std::make_unique<WeightsTrainee>(std::move(weights), rate);
}

}  // namespace finetune
