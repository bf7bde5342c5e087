#include "tuner.hpp"

#include <utility>  // move

#include <tiedlora/adapter/learning_rates.hpp>  // recommended_rates

#include <llama/modules.hpp>

namespace finetune {

namespace {

llama::Batch view(const TokenBatch& batch) {
  return {.tokens = batch.tokens.data(), .targets = batch.targets.data(), .lengths = batch.lengths};
}

}  // namespace

void check_rates(const TuneOptions& options) {
  const tiedlora::Scheme scheme = scheme_named(options.scheme);
  if (options.uv_rate && !has_uv_rate(scheme))
    throw std::invalid_argument("--uv-rate: the scheme " + options.scheme +
                                " does not train u or v together with A or B; give --rate alone");
  if (options.b_rate && !has_b_rate(scheme))
    throw std::invalid_argument("--b-rate: the scheme " + options.scheme +
                                " does not train both A and B; give --rate alone");
}

Rates rates_of(const TuneOptions& options, const llama::Config& config) {
  check_rates(options);
  const tiedlora::LearningRates recommended = tiedlora::recommended_rates(layout_of(options, config));
  Rates rates = {.rate = options.rate.value_or(recommended.learning_rate),
                 .uv_multiple = recommended.factors.u};
  if (options.uv_rate) rates.uv_multiple = *options.uv_rate / rates.rate;
  if (options.b_rate) rates.b_multiple = *options.b_rate / rates.rate;
  return rates;
}

tiedlora::Layout layout_of(const TuneOptions& options, const llama::Config& config) {
  return tiedlora::Layout(llama::modules(config, options.targets, options.layers),
                          scheme_named(options.scheme), options.rank, {.scaling = options.scaling});
}

TrainingPlan plan_of(const TuneOptions& options, std::string title, std::int64_t steps) {
  // A mean loss that many nats above the base's does not come back.
  constexpr double explosion = 2;
  return {
      .title = std::move(title),
      .steps = steps,
      .unit = {"nats/token", 1},
      .schedule = Schedule{.steps = steps,
                           .warm_up = static_cast<std::int64_t>(options.warm_up * static_cast<double>(steps)),
                           .floor = options.schedule == "constant" ? 1.0 : 0.1},
      .explosion = explosion};
}

double mean_loss(LanguageModel& model, const llama::Model<float>& weights, const Adapter* adapter,
                 std::span<const TokenBatch> batches, Communicator& processes) {
  const auto batch = [&](Index i) -> const TokenBatch& { return batches[static_cast<std::size_t>(i)]; };
  return mean_by_all(
      processes, std::ssize(batches), [&](Index i) { return batch(i).counted; },
      [&](Index i) { return model.evaluate(weights, adapter, view(batch(i))); });
}

Tuner::Tuner(LanguageModel& model, const llama::Model<float>& weights, const TuneOptions& options,
             const Batches& batches, std::span<const TokenBatch> validation, Communicator& processes)
    : model_(model),
      weights_(weights),
      options_(options),
      batches_(batches),
      validation_(validation),
      training_(layout_of(options, model.config()), rates_of(options, model.config()), options.weight_decay,
                options.seed),
      sum_(processes, options.fast_reduce ? Reduction::fast : Reduction::exact) {}

std::vector<TokenBatch> Tuner::batches_of(std::int64_t step) const {
  std::vector<TokenBatch> batches;
  for (Index i = 0; i < options_.accumulate; ++i) {
    TokenBatch batch = batches_.batch(step * options_.accumulate + i);
    if (batch.counted > 0) batches.push_back(std::move(batch));
  }
  return batches;
}

double Tuner::start_loss(std::int64_t step) {
  // Adapters begin as the base alone.
  return mean_loss(model_, weights_, nullptr, batches_of(step), sum_.processes());
}

StepResult Tuner::learn(std::int64_t step, double rate_factor) {
  // The mean is over all counted tokens of the step, however its batches divide them.
  const std::vector<TokenBatch> batches = batches_of(step);
  Index counted = 0;
  for (const TokenBatch& batch : batches) counted += batch.counted;
  StepResult result;
  for (const TokenBatch& batch : batches) result.tokens += static_cast<Index>(batch.tokens.size());
  result.loss = sum_.step(std::ssize(batches), training_.gradients.values(), [&](Index i) {
    llama::Batch part = view(batches[static_cast<std::size_t>(i)]);
    part.mean_over = counted;
    part.dropout = {.probability = options_.dropout,
                    .seed = options_.seed,
                    .step = static_cast<std::uint64_t>(step * options_.accumulate + i)};
    const double loss = model_.forward(weights_, &training_.adapter, part);
    model_.backward(weights_, &training_.adapter, part, nullptr, &training_.gradients);
    return loss;
  });
  finish_step(result, training_.gradients.values(), options_.clip_norm,
              [&](double gradient_scale) { training_.update(rate_factor, gradient_scale); });
  return result;
}

StepCost measure_cost(LanguageModel& model, const llama::Model<float>& weights, const TuneOptions& options,
                      const Batches& batches, std::span<const TokenBatch> evaluated,
                      Communicator& processes) {
  Tuner tuner(model, weights, options, batches, {}, processes);
  tuner.learn(0, 0);  // allocates, and reads the file
  const double begin = seconds_now();
  tuner.learn(1, 0);
  const double end = seconds_now();
  mean_loss(model, weights, &tuner.adapter(), evaluated, processes);
  return {.step = processes.from_first(end - begin), .evaluation = processes.from_first(seconds_now() - end)};
}

}  // namespace finetune
