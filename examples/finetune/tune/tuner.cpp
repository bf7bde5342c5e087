#include "tuner.hpp"

#include <algorithm>  // fill
#include <cmath>      // isfinite
#include <utility>    // move

#include <llama/modules.hpp>
#include <tiedlora/adapter/optimizer.hpp>
#include <tiedlora/io/native.hpp>

namespace finetune {

namespace {

llama::Batch view(const TokenBatch& batch) {
  return {.tokens = batch.tokens.data(), .targets = batch.targets.data(), .lengths = batch.lengths};
}

tiedlora::AdamWOptions optimizer_options(const TuneOptions& options) {
  const Rates rates = rates_of(options);
  return {.learning_rate = rates.rate,
          .rates = tiedlora::PerFactor{.A = 1, .B = 1, .u = rates.uv_multiple, .v = rates.uv_multiple},
          .weight_decay = options.weight_decay};
}

}  // namespace

Rates rates_of(const TuneOptions& options) {
  const tiedlora::Scheme scheme = scheme_named(options.scheme);
  const tiedlora::LearningRates recommended = tiedlora::recommended_rates(scheme);
  Rates rates = {options.rate.value_or(recommended.learning_rate), recommended.factors.u};
  if (options.uv_rate) {
    if (!has_uv_rate(scheme))
      throw std::invalid_argument("--uv-rate: the scheme " + options.scheme +
                                  " trains no u and v beside A or B; give --rate alone");
    rates.uv_multiple = *options.uv_rate / rates.rate;
  }
  return rates;
}

tiedlora::Layout layout_of(const TuneOptions& options, const llama::Config& config) {
  return tiedlora::Layout(llama::modules(config, options.targets), scheme_named(options.scheme), options.rank,
                          {.scaling = options.scaling});
}

double mean_loss(LanguageModel& model, const llama::Model<float>& weights, const Adapter* adapter,
                 const std::vector<TokenBatch>& batches) {
  double sum = 0;
  Index counted = 0;
  for (const TokenBatch& batch : batches) {
    if (batch.counted == 0) continue;
    sum += model.evaluate(weights, adapter, view(batch)) * static_cast<double>(batch.counted);
    counted += batch.counted;
  }
  return counted > 0 ? sum / static_cast<double>(counted) : not_measured;
}

Tuner::Tuner(LanguageModel& model, const llama::Model<float>& weights, const TuneOptions& options,
             const Batches& batches, const std::vector<TokenBatch>& validation)
    : model_(model),
      weights_(weights),
      options_(options),
      batches_(batches),
      validation_(validation),
      adapter_(layout_of(options, model.config())),
      gradients_(adapter_.layout()),
      optimizer_(adapter_.layout(), optimizer_options(options)) {
  adapter_.initialize(options.seed);
}

StepResult Tuner::learn(std::int64_t step, double rate_factor) {
  // The mean is over all counted tokens of the step, however its batches divide them.
  std::vector<TokenBatch> batches;
  Index counted = 0;
  for (Index i = 0; i < options_.accumulate; ++i) {
    TokenBatch batch = batches_.batch(step * options_.accumulate + i);
    counted += batch.counted;
    if (batch.counted > 0) batches.push_back(std::move(batch));
  }
  StepResult result;
  auto number = static_cast<std::uint64_t>(step * options_.accumulate);
  for (const TokenBatch& batch : batches) {
    llama::Batch part = view(batch);
    part.mean_over = counted;
    part.dropout = {.probability = options_.dropout, .seed = options_.seed, .step = number++};
    result.loss += model_.forward(weights_, &adapter_, part);
    model_.backward(weights_, &adapter_, part, nullptr, &gradients_);
    result.tokens += static_cast<Index>(batch.tokens.size());
  }
  const tiedlora::GradientStatistics statistics = tiedlora::gradient_statistics(gradients_.values());
  result.gradient_norm = statistics.norm;
  result.finite = std::isfinite(result.loss) && statistics.finite;
  if (result.finite)
    optimizer_.step(adapter_.trainable(), gradients_.values(),
                    {.rate_factor = rate_factor,
                     .gradient_scale = tiedlora::clip_factor(statistics.norm, options_.clip_norm)});
  gradients_.set_zero();
  return result;
}

void Tuner::save(const std::filesystem::path& path, const tiedlora::TrainingPosition& position) const {
  tiedlora::save_checkpoint(path, adapter_, optimizer_, position);
}

tiedlora::TrainingPosition Tuner::resume(const std::filesystem::path& path) {
  tiedlora::Checkpoint<float> checkpoint =
      tiedlora::load_checkpoint<float>(path, {.modules = &adapter_.layout().modules()});
  if (!(checkpoint.adapter.layout() == adapter_.layout()))
    throw tiedlora::Error(path.string() + " holds an adapter of another scheme or rank");
  adapter_ = std::move(checkpoint.adapter);
  optimizer_ = std::move(checkpoint.optimizer);
  return checkpoint.position;
}

}  // namespace finetune
