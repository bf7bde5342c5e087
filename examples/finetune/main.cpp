// finetune: commands for real models; without one it pre-trains a small transformer, fine-tunes it with LoRA
// and its tied relatives, and compares them.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <iostream>
#include <ostream>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <finetune/distributed/agreement.hpp>

#include "../command_line.hpp"
#include "../lists.hpp"
#include "../validators.hpp"
#include "program.hpp"
#include "tune/commands.hpp"

namespace {

const char* const examples_text = R"(
Commands for real models, each with a --help of its own:
  finetune train      trains an adapter for a GGUF file or a Hugging Face folder
  finetune eval       loss and perplexity, with adapters and without
  finetune generate   text, before and after
  finetune compare    which scheme and rank fit a task

Examples:
  finetune                                     the demo: all schemes at rank 16, in three and a half minutes
  finetune --minutes 20                        the same with more steps
  finetune --schemes lora,tl6 --ranks 4,8,16 --seeds 1,2,3 --steps 500 --base-steps 2000
                                               a small study; rows go to OUT/summary.csv
  finetune --schemes lora:1,lora:16,tl6:16     a rank for each scheme
  finetune --task-text ~/src/project --targets q_proj,v_proj
  finetune --learning-rate tl6=0.005 --learning-rate tl6.uv=0.15
  finetune --sweep                             search the learning rates again; continues where it was stopped

Ctrl-C ends the run at the next step and keeps what was trained; --resume continues from there, or from the last
checkpoint of a run that was killed. Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
)";

int run_demo(int argc, char** argv, finetune::Communicator& processes) {
  using finetune::Settings;
  // --smoke changes the defaults, so it must be known before the other options are.
  bool smoke = std::find(argv, argv + argc, std::string_view("--smoke")) != argv + argc;
  Settings settings = smoke ? finetune::tiny_settings() : Settings();
  settings.threads = processes.cores();
  std::vector<std::string> rates;

  CLI::App app(
      "Pre-trains a small byte-level transformer on one body of text, fine-tunes it on another with LoRA, "
      "VeRA,\n"
      "Tied-LoRA (tl5: A and B tied over the layers; tl6: and u, v of each layer's own) and in full, and "
      "compares them.",
      "finetune");
  app.footer(examples_text);
  app.option_defaults()->always_capture_default();

  using examples::whole_from;
  examples::add_list(app, "--schemes", settings.schemes,
                     "what to compare: " + finetune::known_names() + "; name:rank for a rank of its own")
      ->group("Comparison");
  examples::add_list(app, "--ranks,--rank", settings.ranks,
                     "ranks of the schemes without one of their own; LoRA at the first is the reference",
                     examples::any_rank())
      ->group("Comparison");
  examples::add_list(
      app, "--targets", settings.targets,
      "adapted modules: q_proj, k_proj, v_proj (or qkv_proj: fused), o_proj, gate_proj, up_proj, down_proj")
      ->group("Comparison");
  examples::add_list(app, "--seeds,--seed", settings.seeds,
                     "seeds of the adapters' start and the data order; the base has one of its own",
                     examples::any_seed())
      ->group("Comparison");

  examples::add_list(app, "--base-text", settings.base_text,
                     "files or folders for pre-training [the C++ standard library's headers]",
                     examples::any_path())
      ->group("Text");
  examples::add_list(app, "--task-text", settings.task_text,
                     "files or folders for fine-tuning [Eigen's headers]", examples::any_path())
      ->group("Text");

  app.add_option("--layers", settings.model.layers, "")->check(whole_from(1, 1000))->group("Model");
  app.add_option("--width", settings.model.width, "")->check(whole_from(1, 65536))->group("Model");
  app.add_option("--heads", settings.model.heads, "")->check(whole_from(1, 1024))->group("Model");
  app.add_option("--kv-heads", settings.model.kv_heads,
                 "heads of k and v, each shared by heads / kv-heads of q")
      ->check(whole_from(1, 1024))
      ->group("Model");
  app.add_option("--ff", settings.model.feed_forward, "width of the feed-forward block")
      ->check(whole_from(1, 262144))
      ->group("Model");

  app.add_option("--minutes", settings.minutes,
                 "time for everything; sets the numbers of steps that are not given")
      ->check(examples::some_minutes())
      ->group("Training");
  app.add_option("--base-steps", settings.base_steps, "steps of pre-training [from --minutes]")
      ->check(examples::positive_count())
      ->group("Training")
      ->always_capture_default(false);
  app.add_option("--steps", settings.steps, "steps of each fine-tuning run [from --minutes]")
      ->check(examples::positive_count())
      ->group("Training");
  app.add_option("--batch", settings.batch, "sequences per batch")
      ->check(whole_from(1, 4096))
      ->group("Training");
  app.add_option("--accumulate", settings.accumulate, "batches in a step; the processes of mpirun share them")
      ->check(whole_from(1, 4096))
      ->group("Training");
  app.add_option("--length", settings.length, "bytes per sequence")
      ->check(whole_from(1, 65536))
      ->group("Training");
  examples::add_list(app, "--learning-rate", rates,
                     "NAME=RATE, NAME base, full or a scheme (its A and B), tl6.uv (its u and v), or "
                     "with a rank: lora:1")
      ->group("Training");
  app.add_option("--patience", settings.patience,
                 "end a run after that many evaluations without a better select loss; 0: never")
      ->check(whole_from(0, 1'000'000))
      ->group("Training");
  app.add_option("--windows", settings.windows, "windows of LENGTH bytes in each test")
      ->check(whole_from(1, 1'000'000))
      ->group("Training");
  app.add_option("--threads", settings.threads, "")->check(examples::count_of_threads())->group("Training");

  CLI::Option* out =
      app.add_option("--out", settings.out, "folder for tables, plots and adapters; of a sweep: out/sweep")
          ->check(examples::any_path())
          ->group("Files");
  app.add_flag("--resume", settings.resume,
               "continue from the checkpoints that an earlier run with the same options left in OUT and "
               "CACHE, as if it had not been interrupted")
      ->group("Files");
  examples::add_list(app, "--export", settings.exports,
                     "formats for the trained adapters: native (always written), peft, gguf; with peft the "
                     "base model for transformers, too",
                     CLI::IsMember({"native", "peft", "gguf"}))
      ->group("Files");
  app.add_option("--cache", settings.cache, "folder for pre-trained bases")
      ->check(examples::any_path())
      ->group("Files");
  app.add_flag("--sweep", settings.sweep, "search learning rates on the select split instead of comparing")
      ->group("Modes");
  app.add_flag("--smoke", smoke, "tiny sizes and a few steps, unless given: to see that everything works")
      ->group("Modes");

  const auto parse_and_run = [&](std::ostream& errors, const auto& work) {
    return examples::run_command(app, argc, argv, std::cout, errors, work);
  };
  return finetune::run_if_all_parse(processes, std::cerr, parse_and_run, [&] {
    if (settings.sweep) finetune::use_sweep_defaults(settings, out->count() > 0);
    std::set<std::string> names;
    finetune::override_rates(settings.rates, rates);
    for (const std::string& rate : rates)
      if (const std::string name = rate.substr(0, rate.find('=')); !names.insert(name).second)
        throw std::invalid_argument("--learning-rate: " + name + " is given twice");
    return finetune::run_program(settings, processes);
  });
}

}  // namespace

int main(int argc, char** argv) {
  return examples::run_main([&] {
    const auto started = finetune::start_processes();
    finetune::Communicator& processes = started ? *started : finetune::single_process();
    // The first speaks for all.
    if (!processes.is_first() && !std::freopen("/dev/null", "w", stdout)) return int{examples::failure};
    const bool is_command = argc > 1 && finetune::is_command(argv[1]);
    if (!is_command && argc > 1 && *argv[1] != '-') {  // the demo takes options only
      if (processes.is_first())
        std::cerr << "there is no command \"" << examples::shown_text(argv[1]) << "\"; the commands are "
                  << finetune::command_names() << "\nRun with --help for more information.\n";
      return int{examples::usage};
    }
    return is_command ? finetune::run_command(argc, argv, processes) : run_demo(argc, argv, processes);
  });
}
