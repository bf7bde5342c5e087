// The program's course: text, plan, base, runs, report.
#include "program.hpp"

#include <Eigen/Core>
#include <algorithm>   // find, all_of
#include <filesystem>  // path
#include <optional>    // optional
#include <string>      // string
#include <vector>      // vector

#include <fmt/format.h>
#include <llama/thread_pool.hpp>

#include <finetune/data/folder_lock.hpp>  // FolderLock
#include <finetune/report/plots.hpp>      // draw_comparison, sweep_script
#include <finetune/report/report.hpp>     // result_table
#include <finetune/report/results.hpp>    // save_summary_csv
#include <finetune/train/experiment.hpp>  // plan_steps
#include <finetune/train/export.hpp>      // export_run
#include <finetune/tune/memory.hpp>       // available_memory

#include "../paths.hpp"
#include "../standard_output.hpp"

namespace finetune {
namespace {

/// Throws std::runtime_error for sizes that do not fit into the memory: of the weights, their gradients
/// and moments, of the largest adapter likewise, and of a step.
void check_memory(const Settings& settings, const std::vector<Contender>& all) {
  Index rank = 1;
  for (const Contender& one : all) rank = std::max(rank, one.rank);
  const tiedlora::Layout largest(llama::modules(settings.model, settings.targets), tiedlora::schemes::lora(),
                                 rank);
  const Index words = 5 * (llama::weight_count(settings.model) + largest.trainable_count());
  const Index step =
      Model::working_bytes(settings.model, llama::Keep::every_layer, largest,
                           settings.batch * settings.length, settings.length, settings.threads);
  const auto needed = words * static_cast<Index>(sizeof(float)) + step;
  const auto available = available_memory();
  if (available && needed > *available)
    throw std::runtime_error(fmt::format(
        "the model, its adapters of rank {} and a step take about {}, and {} are free; take smaller sizes "
        "(--width, --layers, --ff, --rank, --batch, --length)",
        rank, size_text(double(needed)), size_text(double(*available))));
}

void stage(const std::string& title) {
  fmt::print("\n== {}\n", title);
  examples::flush(std::cout);
}

/// The steps of an earlier run. What --minutes gives is measured anew each time, but a run that goes on must
/// have the steps it began with.
std::optional<StepCounts> read_plan(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return std::nullopt;
  const auto json = nlohmann::json::parse(read_file(path), nullptr, /*allow_exceptions=*/false);
  const StepCounts counts = json.is_object() ? StepCounts{json.value("base_steps", std::int64_t{0}),
                                                          json.value("steps", std::int64_t{0})}
                                             : StepCounts{};
  if (counts.base < 1 || counts.task < 1)
    throw std::runtime_error(path.string() + " is damaged; leave out --resume to start anew");
  return counts;
}
void save_plan(const std::filesystem::path& path, const StepCounts& counts) {
  write_atomically(
      path, nlohmann::ordered_json{{"base_steps", counts.base}, {"steps", counts.task}}.dump(2) + '\n');
}

/// The comparison: trains every contender with every seed, and saves all that is known after each run.
int compare(Model& model, const Settings& settings, const TextData& data, const Base& base,
            const StepCounts& counts) {
  Comparison comparison{settings,
                        comparison_key(settings, data, base, counts.task),
                        base.task_loss,
                        base.base_loss,
                        base.steps,
                        counts.task,
                        {}};
  Samples samples(choose_prompt(data));
  samples.add("before fine-tuning", base.task_loss,
              sample_text(model, base.weights, nullptr, samples.prompt().text, settings.length));
  export_base(settings, base);
  for (const std::uint64_t seed : settings.seeds)
    for (const Contender& contender : contenders(settings)) {
      if (Interrupt::requested()) break;
      RunAndTrainee result = train_run(model, settings, data, base, contender, seed,
                                       rates_of(settings, contender), counts.task, /*log=*/true);
      measure_run(model, data, result);
      const RunResult& run = result.run;
      fmt::print("{:<17} seed {}  test loss {:.3f}  {:.3f} s per step{}\n", contender.label(), seed,
                 run.task_loss, run.training.seconds_per_step, run.note());
      examples::flush(std::cout);
      comparison.runs.push_back(run);
      export_run(settings, base, run_name(contender, seed), *result.trainee);
      save_metrics(settings.out / "metrics.csv", comparison);
      save_summary_csv(settings.out / "summary.csv", comparison);
      save_summary_json(settings.out / "summary.json", comparison);
      samples.add(fmt::format("{}, seed {}", contender.label(), seed), run.task_loss,
                  sample_text(model, result.trainee->weights(), result.trainee->adapter(),
                              samples.prompt().text, settings.length));
      write_atomically(settings.out / "samples.txt", samples.all());
    }
  if (comparison.runs.empty()) return Interrupt::exit_status;
  if (Interrupt::requested()) fmt::print("Interrupted: --resume goes on from here\n");

  stage("Result");
  const std::string table = result_table(comparison);
  fmt::print("{}", table);
  write_atomically(settings.out / "result.txt", table);
  stage("A sample of text, before and after");
  fmt::print("{}", samples.before_and_best());
  stage("Files");
  const std::string problem = draw_comparison(settings.out, comparison);
  if (!problem.empty()) fmt::print("Note: {}\n", problem);
  fmt::print(
      "{}: result.txt, summary.csv, summary.json, metrics.csv, samples.txt, text_splits.csv, adapters/, "
      "checkpoints/{}\n",
      settings.out.string(),
      problem.empty() ? ", loss.png, test_loss_against_parameters.png (and .svg)" : "");
  return Interrupt::requested() ? Interrupt::exit_status : 0;
}

/// The sweep: goes on where an earlier one with the same settings stopped.
int sweep(Model& model, const Settings& settings, const TextData& data, const Base& base,
          std::int64_t steps) {
  Settings without_rates = settings;
  without_rates.rates = {
      {"base", settings.rates.at("base")}};  // where the search starts is no part of its settings
  const std::string id =
      fmt::format("{:08x}", fnv1a(comparison_key(without_rates, data, base, steps).dump()) & 0xffffffffu);
  SweepLog log(settings.out / "sweep.csv", id);
  const auto batches =
      evaluation_batches(data.task.text(Part::select), settings.batch, settings.length, settings.windows);
  const auto train = [&](const Contender& contender, std::uint64_t seed, const Rates& rates) {
    RunAndTrainee result =
        train_run(model, settings, data, base, contender, seed, rates, steps, /*log=*/false);
    const TrainingResult& training = result.run.training;
    const double loss = training.diverged
                            ? std::numeric_limits<double>::infinity()
                            : evaluate(model, result.trainee->weights(), result.trainee->adapter(), batches);
    if (training.interrupted) return loss;
    log.add(contender, seed, rates, loss, training);
    fmt::print("{:<17} seed {}  rate {:<10} u, v x{:<9} select loss {:.4f}\n", contender.label(), seed,
               csv_number(rates.rate), csv_number(rates.uv_multiple), loss);
    examples::flush(std::cout);
    return loss;
  };
  std::vector<SweepResult> results;
  for (const Contender& contender : contenders(settings)) {
    if (Interrupt::requested()) break;
    results.push_back(sweep_contender(settings, contender, log, train));
  }
  stage("Best rates");
  fmt::print("Before fine-tuning: select loss {:.4f}. {} steps of {} x {} bytes, {} seed(s).\n{}",
             evaluate(model, base.weights, nullptr, batches), steps, settings.batch, settings.length,
             settings.seeds.size(), sweep_table(results));
  save_best_rates(settings.out / "best_rates.csv", id, results);
  const std::string problem = draw(settings.out, "sweep", sweep_script(log, results));
  if (!problem.empty()) fmt::print("Note: {}\n", problem);
  fmt::print("{}: sweep.csv, best_rates.csv{}\n", settings.out.string(),
             problem.empty() ? ", sweep.png, sweep.svg" : "");
  if (Interrupt::requested()) return Interrupt::exit_status;
  const bool interior = std::all_of(results.begin(), results.end(),
                                    [](const SweepResult& result) { return result.search.interior; });
  return interior ? 0 : 1;
}

}  // namespace

int run_program(Settings settings) {
  const double begin = seconds_now();
  settings.model.fused_qkv =
      std::find(settings.targets.begin(), settings.targets.end(), "qkv_proj") != settings.targets.end();
  const std::vector<Contender> all = contenders(settings);  // names are checked before any work is done
  llama::modules(settings.model, settings.targets);
  check_exports(settings);
  check_memory(settings, all);
  examples::check_readable("--base-text", settings.base_text);
  examples::check_readable("--task-text", settings.task_text);
  examples::check_output_folder("--out", settings.out);
  examples::check_output_folder("--cache", settings.cache);
  const FolderLock lock(settings.out);
  const Interrupt interrupt;

  stage("Text");
  const TextData data = read_text(settings);
  fmt::print("{}{}", split_table(data.base_corpus, data.base), split_table(data.task_corpus, data.task));
  save_splits(settings.out / "text_splits.csv", data);

  stage("Plan");
  llama::ThreadPool pool(settings.threads);
  Model model(settings.model, pool);
  fmt::print("Model: {} layers, width {}, {} heads, {} parameters; {} thread(s); vector instructions: {}\n",
             settings.model.layers, settings.model.width, settings.model.heads,
             llama::weight_count(settings.model), settings.threads, Eigen::SimdInstructionSetsInUse());
  StepCounts counts{settings.base_steps, settings.steps};
  constexpr double reserve = 5;  // seconds for samples and plots
  const double deadline = begin + 60 * settings.minutes - reserve;
  Costs costs;
  const std::filesystem::path plan_path = settings.out / "plan.json";
  const std::optional<StepCounts> before = settings.resume ? read_plan(plan_path) : std::nullopt;
  if (before) {
    if (counts.base == 0) counts.base = before->base;
    if (counts.task == 0) counts.task = before->task;
    fmt::print("Resumed: {} steps of pre-training and {} of fine-tuning\n", counts.base, counts.task);
  } else if (counts.base == 0 || counts.task == 0) {
    costs = measure_costs(model, settings, data, all);
    counts = plan_steps(settings, data, costs, deadline - seconds_now());
    fmt::print(
        "For {:g} minutes: {} steps of pre-training and {} of fine-tuning (a step takes {:.3f} s and {:.3f} "
        "to {:.3f} s)\n",
        settings.minutes, counts.base, counts.task, costs.base_step,
        *std::min_element(costs.steps.begin(), costs.steps.end()),
        *std::max_element(costs.steps.begin(), costs.steps.end()));
  }

  save_plan(plan_path, counts);

  stage("Pre-training");
  const Base base = obtain_base(model, settings, data, counts.base);
  if (base.interrupted) {
    fmt::print("Interrupted after {} of {} steps; --resume goes on from here\n", base.steps, counts.base);
    return Interrupt::exit_status;
  }
  fmt::print("Loss on its own test split {:.3f} bits per byte, on the task's {:.3f}\n", base.base_loss,
             base.task_loss);
  if (settings.steps == 0 && !base.from_cache && !before) {
    // If the machine has become slower since the plan was made, fewer steps are left.
    costs.slow_down(base.seconds_per_step / costs.base_step);
    counts.task = std::min(counts.task, fitting_steps(settings, data, costs, deadline - seconds_now()));
    save_plan(plan_path, counts);
  }

  stage(fmt::format("{}: {} steps each", settings.sweep ? "Sweep" : "Fine-tuning", counts.task));
  return settings.sweep ? sweep(model, settings, data, base, counts.task)
                        : compare(model, settings, data, base, counts);
}

}  // namespace finetune
