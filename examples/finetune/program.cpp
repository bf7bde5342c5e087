// The program's course: text, plan, base, runs, report.
#include "program.hpp"

#include "comparison_run.hpp"  // ComparisonRun, stage

#include <Eigen/Core>
#include <algorithm>   // find, all_of
#include <filesystem>  // path
#include <optional>    // optional
#include <string>      // string
#include <vector>      // vector

#include <fmt/format.h>
#include <llama/gemm.hpp>  // product_kernels
#include <llama/thread_pool.hpp>

#include <finetune/data/folder_lock.hpp>       // FolderLock
#include <finetune/distributed/agreement.hpp>  // all_or_none, first_only
#include <finetune/report/plots.hpp>           // draw_comparison, sweep_script
#include <finetune/report/report.hpp>          // result_table
#include <finetune/report/results.hpp>         // save_summary_csv
#include <finetune/train/experiment.hpp>       // plan_steps
#include <finetune/train/export.hpp>           // export_run
#include <finetune/tune/memory.hpp>            // available_memory

#include "../paths.hpp"
#include "../standard_output.hpp"

namespace finetune {
namespace {

/// Throws std::runtime_error where the memory cannot hold the weights, their gradients and moments, those of
/// the largest adapter, and a step, once for each of `processes` processes.
void check_memory(const Settings& settings, const std::vector<Contender>& all, int processes) {
  Index rank = 1;
  for (const Contender& one : all) rank = std::max(rank, one.rank);
  const tiedlora::Layout largest(llama::modules(settings.model, settings.targets), tiedlora::schemes::lora(),
                                 rank);
  const Index words = 5 * (llama::weight_count(settings.model) + largest.trainable_count());
  const Index step =
      Model::working_bytes(settings.model, llama::Keep::every_layer, largest,
                           settings.batch * settings.length, settings.length, settings.threads);
  const Index sums = TreeSum::bytes(llama::weight_count(settings.model), settings.accumulate, processes);
  const auto needed = (words * static_cast<Index>(sizeof(float)) + step + sums) * processes;
  const auto available = available_memory();
  if (available && needed > *available)
    throw std::runtime_error(fmt::format(
        "the model, its adapters of rank {} and a step take about {}, and {} are free; take smaller sizes "
        "(--width, --layers, --ff, --rank, --batch, --length)",
        rank, size_text(double(needed)), size_text(double(*available))));
}

void check_processes(const Settings& settings, const Communicator& processes) {
  if (processes.size() == 1) return;
  if (settings.sweep) throw std::invalid_argument("--sweep runs in one process; start it without mpirun");
  check_batches(settings.accumulate, processes, "--batch", settings.batch);
}

/// The steps of an earlier run. What --minutes gives is measured each time, but a run that continues must
/// have the steps it began with.
std::optional<StepCounts> read_plan(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return std::nullopt;
  const auto json = nlohmann::json::parse(read_file(path), nullptr, /*allow_exceptions=*/false);
  const StepCounts counts = json.is_object() ? StepCounts{json.value("base_steps", std::int64_t{0}),
                                                          json.value("steps", std::int64_t{0})}
                                             : StepCounts{};
  if (counts.base < 1 || counts.task < 1)
    throw std::runtime_error(path.string() + " is damaged; leave out --resume to start over");
  return counts;
}
void save_plan(const std::filesystem::path& path, const StepCounts& counts) {
  write_atomically(
      path, nlohmann::ordered_json{{"base_steps", counts.base}, {"steps", counts.task}}.dump(2) + '\n');
}

/// Trains every contender with every seed.
int compare(Model& model, const Settings& settings, const TextData& data, const Base& base,
            const StepCounts& counts, Communicator& processes) {
  ComparisonRun comparison(model, settings, data, base, counts);
  first_only(processes, [&] { comparison.begin(); });
  bool interrupted = false, is_empty = true;
  for (const std::uint64_t seed : settings.seeds)
    for (const Contender& contender : contenders(settings)) {
      interrupted = processes.any(Interrupt::requested());
      if (interrupted) break;
      RunAndTrainee result = train_run(model, settings, data, base, contender, seed,
                                       rates_of(settings, contender), counts.task, /*log=*/true, processes);
      measure_run(model, data, result, processes);
      first_only(processes, [&] { comparison.add(result); });
      is_empty = false;
    }
  interrupted = processes.any(Interrupt::requested());
  if (is_empty) return Interrupt::exit_status;
  first_only(processes, [&] { comparison.end(interrupted); });
  return interrupted ? Interrupt::exit_status : 0;
}

/// The sweep: continues where an earlier one with the same settings stopped.
int sweep(Model& model, const Settings& settings, const TextData& data, const Base& base,
          std::int64_t steps) {
  Settings without_rates = settings;
  without_rates.rates = {
      {"base", settings.rates.at("base")}};  // where the search starts is not part of its settings
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
    SweepResult result = sweep_contender(settings, contender, log, train);
    if (result.search.evaluations > 0) results.push_back(std::move(result));
  }
  stage("Best rates");
  fmt::print("Before fine-tuning: select loss {:.4f}. {} steps of {} x {} bytes, {} seed(s).\n{}",
             evaluate(model, base.weights, nullptr, batches), steps, settings.batch, settings.length,
             settings.seeds.size(), sweep_table(results));
  if (Interrupt::requested()) {
    fmt::print("Interrupted, so {} was not written: the same command continues from sweep.csv\n",
               (settings.out / "best_rates.csv").string());
    return Interrupt::exit_status;
  }
  save_best_rates(settings.out / "best_rates.csv", id, results);
  const std::string problem = draw(settings.out, "sweep", sweep_script(log, results));
  if (!problem.empty()) fmt::print("Note: {}\n", problem);
  fmt::print("{}: sweep.csv, best_rates.csv{}\n", settings.out.string(),
             problem.empty() ? ", sweep.png, sweep.svg" : "");
  const bool interior = std::all_of(results.begin(), results.end(),
                                    [](const SweepResult& result) { return result.search.interior; });
  return interior ? 0 : 1;
}

}  // namespace

int run_program(Settings settings, Communicator& processes) {
  const double begin = seconds_now();
  settings.model.fused_qkv =
      std::find(settings.targets.begin(), settings.targets.end(), "qkv_proj") != settings.targets.end();
  std::vector<Contender> all;
  std::optional<FolderLock> lock;
  all_or_none(processes, [&] {
    all = contenders(settings);  // names are checked before any work is done
    llama::modules(settings.model, settings.targets);
    check_exports(settings);
    check_processes(settings, processes);
    check_memory(settings, all, processes.on_this_machine());
    examples::check_readable("--base-text", settings.base_text);
    examples::check_readable("--task-text", settings.task_text);
    if (!processes.is_first()) return;
    examples::check_output_folder("--out", settings.out);
    examples::check_output_folder("--cache", settings.cache);
    lock.emplace(settings.out);
  });
  const Interrupt interrupt;

  stage("Text");
  TextData data;
  all_or_none(processes, [&] { data = read_text(settings); });
  // Whatever decides how many steps, batches and parameters there are: processes that differ would wait for
  // ever.
  check_same_run(processes, {{"kernels", std::string(tiedlora::kernel_isa())},
                             {"products", llama::product_kernels()},
                             {"model",
                              {settings.model.layers, settings.model.width, settings.model.heads,
                               settings.model.kv_heads, settings.model.feed_forward}},
                             {"targets", settings.targets},
                             {"schemes", settings.schemes},
                             {"ranks", settings.ranks},
                             {"seeds", settings.seeds},
                             {"steps", {settings.base_steps, settings.steps}},
                             {"minutes", settings.minutes},
                             {"batch", {settings.batch, settings.length, settings.accumulate}},
                             {"patience", settings.patience},
                             {"windows", settings.windows},
                             {"resume", settings.resume},
                             {"base text", fmt::format("{:016x}", data.base.hash)},
                             {"task text", fmt::format("{:016x}", data.task.hash)}});
  fmt::print("{}{}", split_table(data.base_corpus, data.base), split_table(data.task_corpus, data.task));
  first_only(processes, [&] { save_splits(settings.out / "text_splits.csv", data); });

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
  std::optional<StepCounts> before;
  first_only(processes, [&] {
    if (settings.resume) before = read_plan(plan_path);
  });
  if (processes.from_first(before.has_value())) {
    before = processes.from_first(before.value_or(StepCounts()));
    if (counts.base == 0) counts.base = before->base;
    if (counts.task == 0) counts.task = before->task;
    fmt::print("Resumed: {} steps of pre-training and {} of fine-tuning\n", counts.base, counts.task);
  } else if (counts.base == 0 || counts.task == 0) {
    costs = measure_costs(model, settings, data, all);
    costs.share(settings.accumulate, processes.size());
    counts = processes.from_first(plan_steps(settings, data, costs, deadline - seconds_now()));
    fmt::print(
        "For {:g} minutes: {} steps of pre-training and {} of fine-tuning (a step takes {:.3f} s and {:.3f} "
        "to {:.3f} s)\n",
        settings.minutes, counts.base, counts.task, costs.base_step,
        *std::min_element(costs.steps.begin(), costs.steps.end()),
        *std::max_element(costs.steps.begin(), costs.steps.end()));
  }

  first_only(processes, [&] { save_plan(plan_path, counts); });

  stage("Pre-training");
  const Base base = obtain_base(model, settings, data, counts.base, processes);
  if (base.interrupted) {
    fmt::print("Interrupted after {} of {} steps; --resume continues from here\n", base.steps, counts.base);
    return Interrupt::exit_status;
  }
  fmt::print("Loss on its own test split {:.3f} bits per byte, on the task's {:.3f}\n", base.base_loss,
             base.task_loss);
  if (settings.steps == 0 && !base.from_cache && !before) {
    // If the machine has become slower since the plan was made, fewer steps are left.
    costs.slow_down(base.seconds_per_step / costs.base_step);
    counts.task = processes.from_first(
        std::min(counts.task, fitting_steps(settings, data, costs, deadline - seconds_now())));
    first_only(processes, [&] { save_plan(plan_path, counts); });
  }

  stage(fmt::format("{}: {} steps each", settings.sweep ? "Sweep" : "Fine-tuning", counts.task));
  return settings.sweep ? sweep(model, settings, data, base, counts.task)
                        : compare(model, settings, data, base, counts, processes);
}

}  // namespace finetune
