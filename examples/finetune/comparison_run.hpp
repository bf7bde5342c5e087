// What a comparison prints and writes: after each run, all that is known so far.
#pragma once

#include <string>  // string

#include <fmt/format.h>

#include <finetune/report/plots.hpp>    // draw_comparison
#include <finetune/report/report.hpp>   // Samples, result_table
#include <finetune/report/results.hpp>  // Comparison, save_summary_csv
#include <finetune/train/experiment.hpp>
#include <finetune/train/export.hpp>  // export_run

#include "../standard_output.hpp"

namespace finetune {

inline void stage(const std::string& title) {
  fmt::print("\n== {}\n", title);
  examples::flush(std::cout);
}

/// To be used by the first process.
class ComparisonRun {
 public:
  ComparisonRun(Model& model, const Settings& settings, const TextData& data, const Base& base,
                const StepCounts& counts)
      : model_(model),
        settings_(settings),
        base_(base),
        comparison_{settings,
                    comparison_key(settings, data, base, counts.task),
                    base.task_loss,
                    base.base_loss,
                    base.steps,
                    counts.task,
                    {}},
        samples_(choose_prompt(data)) {}

  void begin() {
    samples_.add("before fine-tuning", base_.task_loss, sample(base_.weights, nullptr));
    export_base(settings_, base_);
  }
  void add(const RunAndTrainee& result) {
    const RunResult& run = result.run;
    fmt::print("{:<17} seed {}  test loss {:.3f}  {:.3f} s per step{}\n", run.contender.label(), run.seed,
               run.task_loss, run.training.seconds_per_step, run.note());
    examples::flush(std::cout);
    comparison_.runs.push_back(run);
    export_run(settings_, base_, run_name(run.contender, run.seed), *result.trainee);
    save_metrics(settings_.out / "metrics.csv", comparison_);
    save_summary_csv(settings_.out / "summary.csv", comparison_);
    save_summary_json(settings_.out / "summary.json", comparison_);
    samples_.add(fmt::format("{}, seed {}", run.contender.label(), run.seed), run.task_loss,
                 sample(result.trainee->weights(), result.trainee->adapter()));
    write_atomically(settings_.out / "samples.txt", samples_.all());
  }
  void end(bool interrupted) {
    if (interrupted) fmt::print("Interrupted: --resume continues from here\n");
    stage("Result");
    const std::string table = result_table(comparison_);
    fmt::print("{}", table);
    write_atomically(settings_.out / "result.txt", table);
    stage("A sample of text, before and after");
    fmt::print("{}", samples_.before_and_best());
    stage("Files");
    const std::string problem = draw_comparison(settings_.out, comparison_);
    if (!problem.empty()) fmt::print("Note: {}\n", problem);
    fmt::print(
        "{}: result.txt, summary.csv, summary.json, metrics.csv, samples.txt, text_splits.csv, adapters/, "
        "checkpoints/{}\n",
        settings_.out.string(),
        problem.empty() ? ", loss.png, test_loss_against_parameters.png (and .svg)" : "");
  }

 private:
  std::string sample(const Weights& weights, const Adapter* adapter) {
    return sample_text(model_, weights, adapter, samples_.prompt().text, settings_.length);
  }

  Model& model_;
  const Settings& settings_;
  const Base& base_;
  Comparison comparison_;
  Samples samples_;
};

}  // namespace finetune
