// The model before fine-tuning: pre-trained on the base text once, then read from the cache.
#pragma once

#include <cstdint>  // int64_t, uint64_t
#include <string>   // string

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base_cache.hpp"  // BaseCache
#include "budget.hpp"      // rows_per_run
#include "settings.hpp"    // Settings
#include "text_data.hpp"   // TextData
#include "trainer.hpp"     // train_loop

namespace finetune {

struct Base {
  Weights weights;
  std::string name = {};  ///< tells it from bases made otherwise
  std::int64_t steps = 0;
  double task_loss = 0;  ///< on the task's test split, in bits per byte
  double base_loss = 0;  ///< on the base's test split
  bool from_cache = false;
  double seconds_per_step = 0;  ///< of pre-training, if it was made now
  bool interrupted = false;     ///< Ctrl-C during pre-training: weights are of no use but to go on from
};

/// Everything the base's weights depend on. With steps that follow from --minutes it is the minutes that
/// count: the number of steps differs a little from run to run, and a base should not be made anew for that.
inline nlohmann::ordered_json base_key(const Settings& settings, const TextData& data) {
  nlohmann::ordered_json key = {{"format", 1},
                                {"model", to_json(settings.model)},
                                {"text", fmt::format("{:016x}", data.base.hash)},
                                {"batch", settings.batch},
                                {"length", settings.length},
                                {"seed", base_seed},
                                {"learning_rate", settings.rates.at("base").rate},
                                {"weight_decay", weight_decay},
                                {"clip_norm", clip_norm}};
  if (settings.base_steps > 0)
    key["steps"] = settings.base_steps;
  else
    key["minutes"] = settings.minutes;
  return key;
}

/// Reads the base from the cache, or pre-trains it for `steps` steps and saves it there. Says on stdout what
/// it does.
inline Base obtain_base(Model& model, const Settings& settings, const TextData& data, std::int64_t steps) {
  Base base{Weights(settings.model)};
  const BaseCache cache(settings.cache, base_key(settings, data));
  base.name = "finetune " + cache.path().stem().string();
  std::string problem;
  if (const auto notes = cache.load(base.weights.values(), problem)) {
    base.from_cache = true;
    base.steps = notes->value("steps", std::int64_t{0});
    fmt::print("Base model read from {} ({} steps; delete the file to pre-train anew)\n",
               cache.path().string(), base.steps);
  } else {
    if (!problem.empty()) fmt::print("{} is damaged ({}): made anew\n", cache.path().string(), problem);
    base.weights.initialize(base_seed);
    const Sampler sampler(data.base.text(Part::train), settings.batch, settings.length, base_seed);
    WeightsTrainee trainee(copy_of(base.weights), settings.rates.at("base").rate);
    std::filesystem::path checkpoint = cache.path();
    checkpoint.replace_extension(".checkpoint");
    const TrainingResult result =
        train_loop(model, trainee, sampler, {},
                   {.title = "base",
                    .steps = steps,
                    .log_rows = rows_per_run,
                    .checkpoint = {.path = checkpoint,
                                   .key = fmt::format("{} steps {}", steps, base_key(settings, data).dump()),
                                   .resume = settings.resume}});
    if (result.diverged) throw std::runtime_error("pre-training diverged; lower --learning-rate base=…");
    base.steps = result.steps;
    base.seconds_per_step = result.seconds_per_step;
    base.interrupted = result.interrupted;
    if (base.interrupted) return base;
    std::copy(trainee.values().begin(), trainee.values().end(), base.weights.values().begin());
    std::filesystem::remove(checkpoint);
    cache.save(base.weights.values(), {{"steps", base.steps}, {"seconds_per_step", result.seconds_per_step}});
    fmt::print("Base model pre-trained for {} steps, {:.3f} s each; kept in {}\n", base.steps,
               result.seconds_per_step, cache.path().string());
  }
  base.task_loss = evaluate(model, base.weights, nullptr, data.test);
  base.base_loss = evaluate(model, base.weights, nullptr, data.base_test);
  return base;
}

}  // namespace finetune
