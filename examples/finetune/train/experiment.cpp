// Pre-training, measuring what a step costs, and fine-tuning.
#include "experiment.hpp"

#include <algorithm>  // max, nth_element, copy

#include <fmt/format.h>
#include <finetune/data/shown.hpp>             // escaped
#include <finetune/distributed/agreement.hpp>  // first_only
#include <llama/gemm.hpp>                      // product_kernels
#include <nlohmann/json.hpp>

namespace finetune {

namespace {

nlohmann::ordered_json to_json(const llama::Config& model) {
  return {{"vocabulary", model.vocabulary},
          {"width", model.width},
          {"layers", model.layers},
          {"heads", model.heads},
          {"kv_heads", model.kv_heads},
          {"feed_forward", model.feed_forward},
          {"rope_base", model.rope_base},
          {"norm_epsilon", model.norm_epsilon},
          {"tied_embedding", model.tied_embedding}};
}

/// Everything the base's weights depend on. With steps that follow from --minutes it is the minutes that
/// count: the number of steps differs a little from run to run, and a base should not be made again for that.
nlohmann::ordered_json base_key(const Settings& settings, const TextData& data) {
  nlohmann::ordered_json key = {{"format", 1},
                                {"model", to_json(settings.model)},
                                {"text", fmt::format("{:016x}", data.base.hash)},
                                {"batch", settings.batch},
                                {"length", settings.length},
                                {"seed", base_seed},
                                {"learning_rate", settings.rates.at("base").rate},
                                {"weight_decay", weight_decay},
                                {"clip_norm", clip_norm}};
  if (settings.accumulate > 1) key["accumulate"] = settings.accumulate;
  if (settings.base_steps > 0)
    key["steps"] = settings.base_steps;
  else
    key["minutes"] = settings.minutes;
  return key;
}

/// The key of a checkpoint, from which a run continues to the same bits. Results and the base's cache have
/// none of this: they are compared between machines.
nlohmann::ordered_json with_kernels(nlohmann::ordered_json key) {
  key["kernels"] = std::string(tiedlora::kernel_isa());
  key["products"] = llama::product_kernels();
  return key;
}

/// The median of five steps, after one that warms up.
double measure_step(Model& model, Trainee& trainee, const Tokens& tokens) {
  std::vector<double> seconds;
  for (int i = 0; i < 6; ++i) {
    const double begin = seconds_now();
    trainee.learn(model, tokens, 0);
    if (i > 0) seconds.push_back(seconds_now() - begin);
  }
  std::nth_element(seconds.begin(), seconds.begin() + 2, seconds.end());
  return seconds[2];
}

}  // namespace

Base obtain_base(Model& model, const Settings& settings, const TextData& data, std::int64_t steps,
                 Communicator& processes) {
  Base base{Weights(settings.model)};
  const BaseCache cache(settings.cache, base_key(settings, data));
  base.name = "finetune " + cache.path().stem().string();
  first_only(processes, [&] {
    std::string problem;
    if (const auto notes = cache.load(base.weights.values(), problem)) {
      base.from_cache = true;
      base.steps = notes->value("steps", std::int64_t{0});
      fmt::print("Base model read from {} ({} steps; delete the file to pre-train again)\n",
                 cache.path().string(), base.steps);
    } else if (!problem.empty()) {
      fmt::print("{} is damaged ({}): made again\n", cache.path().string(), escaped(problem));
    }
  });
  base.from_cache = processes.from_first(base.from_cache);
  base.steps = processes.from_first(base.steps);
  if (base.from_cache) {
    processes.broadcast(std::as_writable_bytes(base.weights.values()));
  } else {
    base.weights.initialize(base_seed);
    const Sampler sampler(data.base.text(Part::train), settings.batch, settings.length, base_seed);
    const std::unique_ptr<Trainee> trainee =
        make_weights_trainee(copy_of(base.weights), settings.rates.at("base").rate);
    const std::filesystem::path checkpoint = settings.out / "checkpoints" / "base.safetensors";
    const TrainingResult result =
        train_loop(model, *trainee, {.sampler = sampler, .accumulate = settings.accumulate},
                   {.title = "base",
                    .steps = steps,
                    .log_rows = rows_per_run,
                    .checkpoint = {.path = checkpoint,
                                   .key = fmt::format("{} steps {}", steps,
                                                      with_kernels(base_key(settings, data)).dump()),
                                   .resume = settings.resume}},
                   processes);
    if (result.diverged) throw std::runtime_error("pre-training diverged; lower --learning-rate base=…");
    base.steps = result.steps;
    base.seconds_per_step = result.seconds_per_step;
    base.interrupted = result.interrupted;
    if (base.interrupted) return base;
    std::copy(trainee->values().begin(), trainee->values().end(), base.weights.values().begin());
    first_only(processes, [&] {
      cache.save(base.weights.values(),
                 {{"steps", base.steps}, {"seconds_per_step", result.seconds_per_step}});
      std::filesystem::remove(checkpoint);
    });
    fmt::print("Base model pre-trained for {} steps, {:.3f} s each; kept in {}\n", base.steps,
               result.seconds_per_step, cache.path().string());
  }
  base.task_loss = evaluate(model, base.weights, nullptr, data.test, processes);
  base.base_loss = evaluate(model, base.weights, nullptr, data.base_test, processes);
  return base;
}

Costs measure_costs(Model& model, const Settings& settings, const TextData& data,
                    const std::vector<Contender>& contenders) {
  Weights weights(settings.model);
  weights.initialize(base_seed);
  const Tokens tokens = Sampler(data.base.text(Part::train), settings.batch, settings.length, 0).batch(0);
  Costs costs;
  costs.base_step = measure_step(model, *make_weights_trainee(copy_of(weights), 0), tokens);
  for (const Contender& contender : contenders)
    costs.steps.push_back(
        contender.is_full()
            ? costs.base_step
            : measure_step(model, *make_trainee(settings, contender, {}, weights, 0), tokens));
  const std::vector<Tokens> some = {tokens, tokens, tokens};
  evaluate(model, weights, nullptr, std::span(some).first(1));
  const double begin = seconds_now();
  evaluate(model, weights, nullptr, some);
  costs.evaluation = (seconds_now() - begin) / 3;
  return costs;
}

std::int64_t fitting_steps(const Settings& settings, const TextData& data, const Costs& costs,
                           double seconds) {
  const auto seeds = double(settings.seeds.size());
  double step = 0;
  for (const double one : costs.steps) step += seeds * one;
  const double logs = double((rows_per_run + 1) * std::ssize(data.select));
  const double tests = double(data.test.size() + data.base_test.size());
  const double evaluations = seeds * double(costs.steps.size()) * (logs + tests) * costs.evaluation;
  return std::max<std::int64_t>(10, static_cast<std::int64_t>((seconds - evaluations) / step) / 10 * 10);
}

StepCounts plan_steps(const Settings& settings, const TextData& data, const Costs& costs, double seconds) {
  StepCounts counts{settings.base_steps, settings.steps};
  if (counts.base == 0)
    counts.base =
        std::max<std::int64_t>(10, static_cast<std::int64_t>(0.4 * seconds / costs.base_step) / 10 * 10);
  if (counts.task == 0)
    counts.task = fitting_steps(settings, data, costs, seconds - double(counts.base) * costs.base_step);
  return counts;
}

nlohmann::ordered_json comparison_key(const Settings& settings, const TextData& data, const Base& base,
                                      std::int64_t steps) {
  nlohmann::ordered_json rates;
  for (const auto& [name, rate] : settings.rates) rates[name] = {rate.rate, rate.uv_multiple};
  return {{"base", base_key(settings, data)},
          {"base_steps", base.steps},
          {"task_text", fmt::format("{:016x}", data.task.hash)},
          {"targets", settings.targets},
          {"steps", steps},
          {"learning_rates", rates},
          {"patience", settings.patience},
          {"windows", settings.windows}};
}

RunAndTrainee train_run(Model& model, const Settings& settings, const TextData& data, const Base& base,
                        const Contender& contender, std::uint64_t seed, const Rates& rates,
                        std::int64_t steps, bool log, Communicator& processes) {
  RunAndTrainee result;
  RunResult& run = result.run;
  run.contender = contender;
  run.seed = seed;
  run.rates = rates;
  result.trainee = make_trainee(settings, contender, rates, base.weights, seed);
  run.trained = result.trainee->trained_count();
  run.frozen = result.trainee->frozen_count();
  run.bytes = result.trainee->bytes();
  const Sampler sampler(data.task.text(Part::train), settings.batch, settings.length, mix(seed));
  const std::vector<Tokens> select = log ? data.select : std::vector<Tokens>();
  // Without a loss to wait for, patience would end the run.
  TrainingPlan plan{contender.label(), steps, rows_per_run, select.empty() ? 0 : settings.patience};
  if (log)
    plan.checkpoint = {.path = settings.out / "checkpoints" / (run_name(contender, seed) + ".safetensors"),
                       .key = run_name(contender, seed) + " " +
                              with_kernels(comparison_key(settings, data, base, steps)).dump(),
                       .resume = settings.resume};
  run.training =
      train_loop(model, *result.trainee,
                 {.sampler = sampler, .accumulate = settings.accumulate, .select = select}, plan, processes);
  run.activation_bytes = run.training.activation_bytes;
  return result;
}

void measure_run(Model& model, const TextData& data, RunAndTrainee& result, Communicator& processes) {
  if (result.run.training.diverged) return;
  const Trainee& trainee = *result.trainee;
  result.run.task_loss = evaluate(model, trainee.weights(), trainee.adapter(), data.test, processes);
  result.run.base_loss = evaluate(model, trainee.weights(), trainee.adapter(), data.base_test, processes);
}

}  // namespace finetune
