#include "train.hpp"

#include <algorithm>   // max, min
#include <cmath>       // ceil, exp, isfinite
#include <filesystem>  // exists
#include <optional>    // optional
#include <span>        // span

#include <fmt/format.h>
#include <finetune/data/folder_lock.hpp>  // FolderLock
#include <finetune/data/shown.hpp>        // escaped
#include <finetune/data/text_data.hpp>    // size_text
#include <finetune/train/resident.hpp>    // peak_resident_bytes
#include <nlohmann/json.hpp>

#include "../../paths.hpp"
#include "../../standard_output.hpp"
#include "data.hpp"
#include "memory.hpp"
#include "outputs.hpp"
#include "run_folder.hpp"
#include "run_key.hpp"
#include "tuner.hpp"

namespace finetune {

namespace {

/// The passes over the data as steps. A product like 0.07 · 100 that comes out a little above a whole number
/// is that number.
std::int64_t steps_of(double epochs, const Batches& batches, Index accumulate) {
  const double steps = epochs * static_cast<double>(batches.per_epoch()) / static_cast<double>(accumulate);
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(std::ceil(steps - 1e-9 * steps)));
}

/// Of a run with --minutes that goes on: those that it began with, whatever the machine does now.
std::optional<std::int64_t> planned_steps(const TrainOptions& o) {
  if (!o.resume) return std::nullopt;
  const auto plan = read_plan(o.out, FolderOf::train);
  if (!plan) {
    if (!std::filesystem::exists(checkpoint_path(o.out))) return std::nullopt;
    throw std::runtime_error(
        fmt::format("--minutes: the run in {} was begun with --steps or --epochs; give the same; {}",
                    o.out.string(), start_anew(o.out, FolderOf::train)));
  }
  const auto steps = plan->find("steps"), minutes = plan->find("minutes");
  if (steps == plan->end() || !steps->is_number_integer() || steps->get<std::int64_t>() < 1 ||
      minutes == plan->end() || !minutes->is_number())
    refuse_damaged_plan(o.out, FolderOf::train);
  const auto planned = minutes->get<double>();
  fmt::print("The {} steps are those that were planned for {:g} minutes{}\n", steps->get<std::int64_t>(),
             planned, planned == o.minutes ? "" : fmt::format(", not for {:g}", o.minutes));
  return steps->get<std::int64_t>();
}

/// How many steps there are: as given, or as many as the time allows.
std::int64_t count_steps(LanguageModel& model, const TrainOptions& o, TuneBase& base, const Batches& batches,
                         const std::vector<TokenBatch>& validation, double begin) {
  if (o.steps > 0) return o.steps;
  if (o.minutes == 0) return steps_of(o.epochs, batches, o.tune.accumulate);
  if (const auto steps = planned_steps(o)) return *steps;
  StepCost cost = measure_cost(model, base.model(), o.tune, batches,
                               std::span(validation).first(validation.empty() ? 0 : 1));
  cost.evaluation *= static_cast<double>(validation.size());
  constexpr double reserve = 3;  // seconds for files and the picture
  const double left = begin + 60 * o.minutes - reserve - seconds_now() -
                      static_cast<double>(o.evaluations + 1) * cost.evaluation;
  const auto steps = std::max<std::int64_t>(1, static_cast<std::int64_t>(left / cost.step));
  fmt::print("For {:g} minutes: {} steps of {:.2f} s and {} evaluations of {:.1f} s\n", o.minutes, steps,
             cost.step, o.evaluations + 1, cost.evaluation);
  write_plan(o.out, FolderOf::train, {{"minutes", o.minutes}, {"steps", steps}});
  return steps;
}

/// What rounding operands of products does to the base's loss, on the first validation batch.
void say_accuracy(LanguageModel& model, TuneBase& base, const std::vector<TokenBatch>& validation) {
  if (validation.empty()) return;
  llama::Model<float> exact = base.model();
  llama::for_weights(exact, [](llama::Weight<float>& weight) { weight.in_bfloat16 = false; });
  const double rounded_loss = mean_loss(model, base.model(), nullptr, {&validation.front(), 1});
  const double loss = mean_loss(model, exact, nullptr, {&validation.front(), 1});
  fmt::print(
      "Products in bfloat16: the base's loss on the first validation batch is {:.5f}, in floats {:.5f}\n",
      rounded_loss, loss);
}

void check_memory(const MemoryEstimate& estimate, const TrainOptions& o) {
  const auto available = available_memory();
  fmt::print("Memory: {}{}\n", estimate.text(),
             available ? fmt::format("; {} are free", size_text(double(*available))) : std::string());
  if (available && estimate.needed() > *available)
    throw std::runtime_error(fmt::format(
        "the run needs about {} besides the model, and {} are free; take {}a smaller --batch-tokens "
        "(now {}) with --accumulate{}",
        size_text(double(estimate.needed())), size_text(double(*available)),
        o.tune.recompute ? "" : "--recompute, ", o.data.batch_tokens,
        o.model.float_base ? ", or leave out --base-type f32" : ""));
}

/// What to do, and what is left of a run that came to nothing.
[[noreturn]] void refuse_diverged(const TrainOptions& o, const TrainingResult& result,
                                  const std::string& what) {
  save_metrics(o.out, result);
  std::string text =
      what + "; no adapter was written: " +
      (std::isfinite(result.log.front().select_loss) ? "no step was better than the base"
                                                     : "nothing was held out to tell a good one by");
  if (result.saved_step > 0)
    text += fmt::format("; {} holds that of step {}", checkpoint_path(o.out).string(), result.saved_step);
  throw std::runtime_error(fmt::format("{}; the losses are in {}", text, (o.out / "metrics.csv").string()));
}

}  // namespace

int train(TrainOptions options) {
  const double begin = seconds_now();
  const Interrupt interrupt;
  const Rates rates = rates_of(options.tune);
  examples::check_output_folder("--out", options.out);
  std::optional<FolderLock> lock;
  if (std::filesystem::exists(options.out)) lock.emplace(options.out);
  check_folder(options.out, FolderOf::train, options.resume);

  TuneBase base(options.model);
  const std::string base_name = options.base_name.empty() ? base.file().name() : options.base_name;
  const llama::Config& c = base.config();
  fmt::print("Base: {} ({}; {} layers, width {}, vocabulary {}; {})\n", escaped(base_name),
             base.file().architecture(), c.layers, c.width, c.vocabulary, base.types());
  options.data.reading = base.with_window(options.data.reading, options.data.batch_tokens);
  const tiedlora::Layout layout = layout_of(options.tune, c);
  TuneData data = read_tune_data(base, options.data);

  const MemoryEstimate memory = estimate_memory(base, options.data, options.tune, layout, options.resume);
  check_memory(memory, options);
  fmt::print(
      "Adapter: {} of rank {} on {} modules, {} trained numbers ({} in LoRA of that rank); rate {:g}{}{}\n",
      options.tune.scheme, options.tune.rank, layout.size(), layout.trainable_count(),
      tiedlora::Layout(layout.modules(), tiedlora::schemes::lora(), options.tune.rank).trainable_count(),
      rates.rate,
      options.tune.b_rate ? fmt::format(" for A, {:g} for B", *options.tune.b_rate) : std::string(),
      has_uv_rate(scheme_named(options.tune.scheme))
          ? fmt::format("{}, {:g} for u and v", options.tune.b_rate ? "" : " for A and B",
                        rates.rate * rates.uv_multiple)
          : std::string());

  if (!lock) lock.emplace(options.out);  // nothing was written until here
  LanguageModel model(c, base.pool(),
                      options.tune.recompute ? llama::Keep::inputs : llama::Keep::every_layer);
  if (options.model.bfloat16) say_accuracy(model, base, data.validation);
  const Batches batches(std::move(data.train), options.data.batch_tokens, options.tune.seed);
  const std::int64_t steps = count_steps(model, options, base, batches, data.validation, begin);
  fmt::print("Training: {} steps of up to {} tokens, {:.2f} passes over the data; {} thread(s)\n", steps,
             options.data.batch_tokens * options.tune.accumulate,
             static_cast<double>(steps * options.tune.accumulate) / static_cast<double>(batches.per_epoch()),
             base.pool().size());
  examples::flush(std::cout);

  Tuner tuner(model, base.model(), options.tune, batches, data.validation);
  const bool measures = !data.validation.empty();
  nlohmann::ordered_json key = run_key(options.model, base, options.data, data, options.tune);
  key["patience"] = options.patience;
  key["evaluations"] = options.evaluations;
  TrainingPlan plan = plan_of(options.tune, options.tune.scheme, steps);
  plan.log_rows = std::min(options.evaluations, steps);
  plan.patience = options.patience;
  plan.keeps_best = measures;
  plan.checkpoint = {.path = checkpoint_path(options.out),
                     .key = fmt::format("{} steps {}", steps, key.dump()),
                     .start_anew = start_anew(options.out, FolderOf::train),
                     .resume = options.resume};
  const TrainingResult result = train_loop(tuner, plan);

  const double before = result.log.front().select_loss, after = measures ? result.best_loss : not_measured;
  if (result.diverged) {
    const std::string advice = fmt::format(
        "the loss is no longer finite or has exploded after {} steps (rate {:g}); take a lower --rate, a "
        "longer --warm-up, or a smaller --clip",
        result.steps, rates.rate);
    if (result.best_step == 0) refuse_diverged(options, result, advice);
    fmt::print("Warning: {}. What follows is the adapter of step {}, the best until then.\n", advice,
               result.best_step);
  }
  if (result.interrupted && (measures ? result.best_step : result.steps) == 0) {
    fmt::print("Interrupted after {} steps{}, so no adapter was written: --resume goes on from here\n",
               result.steps, result.steps > 0 ? ", none of them better than the base" : "");
    return Interrupt::exit_status;
  }
  save_adapter_files(options.out, base, tuner.adapter(), base_name);
  const std::string problem = save_metrics(options.out, result);
  save_record(options.out, base,
              {.options = options,
               .base_name = base_name,
               .data = data.report,
               .training_examples = data.training_examples,
               .validation_examples = data.validation_examples,
               .held_out = data.held_out,
               .training = result,
               .trained = layout.trainable_count(),
               .frozen = layout.frozen_count(),
               .loss_before = before,
               .loss_after = after,
               .has_picture = problem.empty(),
               .estimated_bytes = memory.total(),
               .peak_bytes = peak_resident_bytes(),
               .seconds = seconds_now() - begin});
  if (measures)
    fmt::print(
        "\nValidation loss {:.4f} -> {:.4f} nats a token (perplexity {:.3f} -> {:.3f}), best at step {} of "
        "{}\n",
        before, after, std::exp(before), std::exp(after), result.best_step, result.steps);
  else
    fmt::print(
        "\nTraining loss {:.4f} nats a token in the last steps; nothing was held out to measure with\n",
        result.log.back().train_loss);
  if (measures && result.best_step == 0)
    fmt::print(
        "Warning: no step was better than the base, so the adapter does nothing; take a lower --rate or "
        "other data\n");
  fmt::print("{:.2f} s a step; {} of memory at most\n", result.seconds_per_step,
             size_text(double(peak_resident_bytes())));
  if (!problem.empty()) fmt::print("Note: {}\n", problem);
  fmt::print("{}: adapter.safetensors, peft/, adapter.gguf, README.md, run.json, metrics.csv{}\n",
             options.out.string(), problem.empty() ? ", loss.png" : "");
  if (!result.interrupted) return result.diverged ? 1 : 0;
  fmt::print("Interrupted: --resume goes on from here\n");
  return Interrupt::exit_status;
}

}  // namespace finetune
