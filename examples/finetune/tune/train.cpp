#include "train.hpp"

#include <algorithm>   // max, min
#include <cmath>       // ceil, exp, isfinite
#include <filesystem>  // exists
#include <memory>      // unique_ptr
#include <optional>    // optional
#include <span>        // span

#include <fmt/format.h>
#include <finetune/data/text_data.hpp>         // size_text
#include <finetune/distributed/agreement.hpp>  // all_or_none, first_only
#include <finetune/train/resident.hpp>         // peak_resident_bytes
#include <nlohmann/json.hpp>

#include "../../standard_output.hpp"
#include "outputs.hpp"
#include "preparation.hpp"
#include "run_folder.hpp"

namespace finetune {

namespace {

/// The passes over the data as steps. A product like 0.07 · 100 that comes out a little above a whole number
/// is that number.
std::int64_t steps_of(double epochs, const Batches& batches, Index accumulate) {
  const double steps = epochs * static_cast<double>(batches.per_epoch()) / static_cast<double>(accumulate);
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(std::ceil(steps - 1e-9 * steps)));
}

/// Of a run with --minutes that continues: what it began with, whatever the machine does now. `key`: of the
/// options; a plan for others says nothing.
std::optional<RunLength> planned_length(const TrainOptions& o, const nlohmann::ordered_json& key) {
  if (!o.resume) return std::nullopt;
  const auto plan = read_plan(o.out, FolderOf::train);
  const bool has_checkpoint = std::filesystem::exists(checkpoint_path(o.out));
  if (!plan) {
    if (!has_checkpoint) return std::nullopt;
    throw std::runtime_error(
        fmt::format("--minutes: the run in {} was started with --steps or --epochs; use the same option; {}",
                    o.out.string(), start_anew(o.out, FolderOf::train)));
  }
  const auto steps = plan->find("steps"), minutes = plan->find("minutes"),
             evaluations = plan->find("evaluations");  // which plans did not always have
  const auto is_count = [](const nlohmann::ordered_json& number) {
    return number.is_number_integer() && number.get<std::int64_t>() > 0;
  };
  if (steps == plan->end() || !is_count(*steps) || minutes == plan->end() || !minutes->is_number() ||
      (evaluations != plan->end() && !is_count(*evaluations)))
    refuse_damaged_plan(o.out, FolderOf::train);
  if (!has_checkpoint && plan->value("key", key) != key) return std::nullopt;
  RunLength length = {steps->get<std::int64_t>(), o.evaluations};
  if (evaluations != plan->end())
    length.evaluations = std::min(length.evaluations, evaluations->get<std::int64_t>());
  const auto planned = minutes->get<double>();
  fmt::print("The {} steps are those that were planned for {:g} minutes{}\n", length.steps, planned,
             planned == o.minutes ? "" : fmt::format(", not for {:g}", o.minutes));
  return length;
}

/// What was decided, and where it will take longer than was asked.
void say_length(const TrainOptions& o, const RunLength& length, const StepCost& cost, double seconds) {
  fmt::print("For {:g} minutes: {} steps of {:.2f} s and {} evaluations of {:.1f} s{}\n", o.minutes,
             length.steps, cost.step, length.evaluations + 1, cost.evaluation,
             length.evaluations == o.evaluations
                 ? std::string()
                 : fmt::format(", not {}: they are to take a quarter of the time", o.evaluations + 1));
  if (cost.evaluation > 0 && 2 * cost.evaluation > seconds / 2)
    fmt::print(
        "Warning: an evaluation before the first step and one after the last take more than half of what is "
        "left of {:g} minutes, so the run may take longer; measure with fewer examples (a smaller --held-out "
        "or --validation) or give more --minutes\n",
        o.minutes);
  else if (cost.step > seconds)
    fmt::print("Warning: what is left of {:g} minutes is too little for a step, so the run takes longer\n",
               o.minutes);
}

/// As many steps as the time allows, or as were planned. What the first process measures counts for all.
RunLength length_in_time(const TrainOptions& o, Preparation& run, const nlohmann::ordered_json& key,
                         double begin, Communicator& processes) {
  RunLength planned;
  first_only(processes, [&] { planned = planned_length(o, key).value_or(RunLength()); });
  planned = processes.from_first(planned);
  if (planned.steps > 0) return planned;
  const std::span<const TokenBatch> validation = run.data.validation;
  StepCost cost = measure_cost(run.model, run.base.model(), o.tune, run.batches,
                               validation.first(validation.empty() ? 0 : 1), processes);
  // The processes share the batches, of which one was measured.
  cost.evaluation *=
      static_cast<double>(share_of(std::ssize(validation), processes.size() - 1, processes.size()).size());
  constexpr double reserve = 3;  // seconds for files and the picture
  const double left = begin + 60 * o.minutes - reserve - seconds_now();
  const RunLength length = processes.from_first(length_in(left, cost, o.evaluations));
  first_only(processes, [&] {
    say_length(o, length, cost, left);
    write_plan(
        o.out, FolderOf::train,
        {{"minutes", o.minutes}, {"steps", length.steps}, {"evaluations", length.evaluations}, {"key", key}});
  });
  return length;
}

/// As given, or as much as the time allows.
RunLength length_of_run(const TrainOptions& o, Preparation& run, const nlohmann::ordered_json& key,
                        double begin, Communicator& processes) {
  if (o.steps > 0) return {o.steps, o.evaluations};
  if (o.minutes == 0) return {steps_of(o.epochs, run.batches, o.tune.accumulate), o.evaluations};
  return length_in_time(o, run, key, begin, processes);
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

/// Writes the files and says what became of the run, which began at `begin`.
void finish(const TrainOptions& options, Preparation& run, const RunLength& length, const Adapter& adapter,
            const TrainingResult& result, double begin, int processes) {
  const bool measures = !run.data.validation.empty();
  const double before = result.log.front().select_loss, after = measures ? result.best_loss : not_measured;
  if (result.diverged) {
    const std::string advice = fmt::format(
        "the loss is no longer finite or has exploded after {} steps (rate {:g}); take a lower --rate, a "
        "longer --warm-up, or a smaller --clip",
        result.steps, rates_of(options.tune, run.base.config()).rate);
    if (result.best_step == 0) refuse_diverged(options, result, advice);
    fmt::print("Warning: {}. What follows is the adapter of step {}, the best until then.\n", advice,
               result.best_step);
  }
  if (result.interrupted && (measures ? result.best_step : result.steps) == 0) {
    fmt::print("Interrupted after {} steps{}, so no adapter was written: --resume continues from here\n",
               result.steps, result.steps > 0 ? ", none of them better than the base" : "");
    return;
  }
  save_adapter_files(options.out, run.base, adapter, run.base_name);
  const std::string problem = save_metrics(options.out, result);
  save_record(options.out, run.base,
              {.options = options,
               .base_name = run.base_name,
               .data = run.data.report,
               .training_examples = run.data.training_examples,
               .validation_examples = run.data.validation_examples,
               .held_out = run.data.held_out,
               .planned_steps = length.steps,
               .evaluations = length.evaluations,
               .training = result,
               .trained = run.layout.trainable_count(),
               .frozen = run.layout.frozen_count(),
               .loss_before = before,
               .loss_after = after,
               .processes = processes,
               .has_picture = problem.empty(),
               .estimated_bytes = run.memory.total(),
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
  if (result.interrupted) fmt::print("Interrupted: --resume continues from here\n");
}

}  // namespace

RunLength length_in(double seconds, const StepCost& cost, std::int64_t asked) {
  RunLength length = {.evaluations = asked};
  const double fitting = cost.evaluation > 0 ? seconds / 4 / cost.evaluation - 1 : static_cast<double>(asked);
  if (fitting < static_cast<double>(asked))
    length.evaluations = static_cast<std::int64_t>(std::max(1.0, fitting));
  const double left = seconds - static_cast<double>(length.evaluations + 1) * cost.evaluation;
  length.steps = std::max<std::int64_t>(1, static_cast<std::int64_t>(left / cost.step));
  return length;
}

int train(TrainOptions options, Communicator& processes) {
  const double begin = seconds_now();
  const Interrupt interrupt;
  std::unique_ptr<Preparation> prepared;
  all_or_none(processes, [&] { prepared = std::make_unique<Preparation>(options, processes); });
  Preparation& run = *prepared;
  nlohmann::ordered_json key = agreed_key(options, run, processes);
  const RunLength length = length_of_run(options, run, key, begin, processes);
  key["evaluations"] = length.evaluations;  // where "best" is looked for
  fmt::print("Training: {} steps of up to {} tokens, {:.2f} passes over the data; {}{} thread(s)\n",
             length.steps, options.data.batch_tokens * options.tune.accumulate,
             static_cast<double>(length.steps * options.tune.accumulate) /
                 static_cast<double>(run.batches.per_epoch()),
             processes.size() > 1 ? fmt::format("{} processes of ", processes.size()) : std::string(),
             run.base.pool().size());
  examples::flush(std::cout);

  Tuner tuner(run.model, run.base.model(), options.tune, run.batches, run.data.validation, processes);
  const bool measures = !run.data.validation.empty();
  TrainingPlan plan = plan_of(options.tune, options.tune.scheme, length.steps);
  plan.log_rows = std::min(length.evaluations, length.steps);
  plan.patience = options.patience;
  plan.keeps_best = measures;
  plan.checkpoint = {.path = checkpoint_path(options.out),
                     .key = fmt::format("{} steps {}", length.steps, key.dump()),
                     .start_anew = start_anew(options.out, FolderOf::train),
                     .resume = options.resume};
  const TrainingResult result = train_loop(tuner, plan, processes);
  first_only(processes,
             [&] { finish(options, run, length, tuner.adapter(), result, begin, processes.size()); });
  if (result.interrupted) return Interrupt::exit_status;
  return result.diverged ? 1 : 0;
}

}  // namespace finetune
