#include "commands.hpp"

#include <algorithm>  // find
#include <array>      // array
#include <iostream>   // cout, cerr
#include <ostream>    // ostream

#include <fmt/format.h>
#include <finetune/distributed/agreement.hpp>  // all_or_none, run_on_all

#include "../../command_line.hpp"
#include "../../lists.hpp"
#include "../../paths.hpp"
#include "../../validators.hpp"
#include "command_options.hpp"
#include "compare.hpp"
#include "evaluate.hpp"
#include "train.hpp"

namespace finetune {

namespace {

using examples::any_path;
using examples::any_seed;
using examples::number_from;
using examples::number_from_zero;
using examples::positive_count;
using examples::some_minutes;
using examples::utf8_text;
using examples::whole_from;

constexpr std::array<std::string_view, 4> commands = {"train", "eval", "generate", "compare"};

void check_readable(const ModelOptions& model, const TrainingDataOptions& data) {
  examples::check_readable("--model", {model.path});
  examples::check_readable("--data", data.paths);
  examples::check_readable("--validation", data.validation);
}

int train_command(int argc, char** argv, Communicator& processes) {
  TrainOptions o;
  Products products;
  CLI::App app("Trains an adapter for a language model beside its frozen weights.", "finetune train");
  app.option_defaults()->always_capture_default();
  add_model(app, o.model, products, processes);
  add_training_data(app, o.data);
  add_tune(app, o.tune, true);
  CLI::Option* epochs = app.add_option("--epochs", o.epochs, "passes over the data")
                            ->check(number_from(1e-6, 1e6, "a number above 0 and up to 1000000"))
                            ->group("Training");
  CLI::Option* steps = app.add_option("--steps", o.steps, "number of steps, instead of --epochs")
                           ->check(positive_count())
                           ->always_capture_default(false)
                           ->excludes(epochs)
                           ->group("Training");
  app.add_option("--minutes", o.minutes, "as many steps as fit into that time, instead of --epochs")
      ->check(some_minutes())
      ->always_capture_default(false)
      ->excludes(epochs)
      ->excludes(steps)
      ->group("Training");
  app.add_option("--evaluations", o.evaluations, "how often the validation loss is measured")
      ->check(positive_count())
      ->group("Training");
  app.add_option("--patience", o.patience, "end after this many evaluations without a better loss; 0: never")
      ->check(whole_from(0, 1'000'000))
      ->group("Training");
  app.add_option("--out", o.out, "folder for the adapter and all that belongs to it")
      ->required()
      ->check(any_path())
      ->group("Files");
  app.add_flag("--resume", o.resume,
               "continue from the checkpoint in OUT as if the run had not been interrupted")
      ->group("Files");
  app.add_option("--base-name", o.base_name,
                 "what the files call the base, such as HuggingFaceTB/SmolLM2-135M-Instruct [its own name]")
      ->check(utf8_text())
      ->group("Files");
  app.footer(
      "\nExample:\n  finetune train --model model.gguf --data chat.jsonl --scheme lora --rank 8 --out "
      "mine/\n\n"
      "Ctrl-C ends the run at the next step and keeps what was trained; --resume continues from there, or "
      "from the last\ncheckpoint of a run that was killed. Exit status: 0 done, 1 failed, 2 wrong usage, 130 "
      "interrupted.\n"
      "mpirun -n 4 finetune train --accumulate 4 … divides the batches of each step among processes.");
  const auto parse_and_run = [&](std::ostream& errors, const auto& work) {
    return examples::run_command(app, argc, argv, std::cout, errors, work);
  };
  return run_if_all_parse(processes, std::cerr, parse_and_run, [&] {
    products.say(o.model);
    all_or_none(processes, [&] { check_readable(o.model, o.data); });
    return train(o, processes);
  });
}

int eval_command(int argc, char** argv) {
  EvalOptions o;
  Products products;
  CLI::App app("Measures loss and perplexity of a model, with adapters and without.", "finetune eval");
  app.option_defaults()->always_capture_default();
  add_model(app, o.model, products);
  CLI::Option* adapters = app.add_option("--adapter", o.adapters,
                                         "native file, PEFT folder, GGUF adapter, or the folder of a run")
                              ->check(any_path())
                              ->group("Model");
  app.add_flag("--no-base", o.no_base, "measure the adapters alone")->needs(adapters)->group("Model");
  app.add_option("--data", o.data, "as for finetune train")->required()->check(any_path())->group("Data");
  add_reading(app, o.reading);
  app.add_option("--batch-tokens", o.batch_tokens,
                 "most tokens in a batch [1024, or the window where that is longer]")
      ->check(positive_count())
      ->always_capture_default(false)
      ->group("Data");
  return examples::run_command(app, argc, argv, std::cout, std::cerr, [&] {
    products.say(o.model);
    examples::check_readable("--model", {o.model.path});
    examples::check_readable("--adapter", o.adapters);
    examples::check_readable("--data", o.data);
    evaluate(o);
    return 0;
  });
}

int generate_command(int argc, char** argv) {
  GenerateOptions o;
  Products products;
  CLI::App app("Says what a model answers, and what adapters make of it.", "finetune generate");
  app.option_defaults()->always_capture_default();
  add_model(app, o.model, products);
  app.add_option("--adapter", o.adapters, "native file, PEFT folder, GGUF adapter, or the folder of a run")
      ->check(any_path())
      ->group("Model");
  app.add_option("--prompt", o.prompts, "")
      ->required()
      ->check(utf8_text())
      ->allow_extra_args(false)
      ->group("Text");
  const CLI::Option* system =
      app.add_option("--system", o.system, "system message; \"\" for none [the chat template's own]")
          ->always_capture_default(false)
          ->check(utf8_text())
          ->group("Text");
  app.add_flag("--raw", o.raw, "the prompt as it is, without the chat template")->group("Text");
  app.add_option("--tokens", o.tokens, "of an answer at most")->check(positive_count())->group("Text");
  app.add_option("--temperature", o.temperature, "0: always the most likely token")
      ->check(number_from_zero())
      ->group("Text");
  app.add_option("--seed", o.seed, "")->check(any_seed())->group("Text");
  return examples::run_command(app, argc, argv, std::cout, std::cerr, [&] {
    products.say(o.model);
    examples::check_readable("--model", {o.model.path});
    examples::check_readable("--adapter", o.adapters);
    o.has_system = system->count() > 0;
    generate(o);
    return 0;
  });
}

int compare_command(int argc, char** argv, Communicator& processes) {
  CompareOptions o;
  Products products;
  CLI::App app("Finds out which scheme and rank fit a task: all begin, the better half continues.",
               "finetune compare");
  app.option_defaults()->always_capture_default();
  add_model(app, o.model, products, processes);
  add_training_data(app, o.data);
  add_tune(app, o.tune, false);
  examples::add_list(
      app, "--candidates", o.candidates,
      "SCHEME:RANK, SCHEME:RANK:RATE for a rate of its own, or SCHEME:RANK:RATE:B_RATE for one of B "
      "beside it; @v_proj+q_proj at its end for targets of its own")
      ->group("Adapter");
  app.add_option("--minutes", o.minutes, "for everything")->check(some_minutes())->group("Training");
  app.add_option("--out", o.out, "folder for tables, the picture and the adapters")
      ->required()
      ->check(any_path())
      ->group("Files");
  app.add_flag("--resume", o.resume, "continue where an earlier run with the same options was stopped")
      ->group("Files");
  app.footer("\nmpirun -n 4 finetune compare … divides the candidates among processes.");
  const auto parse_and_run = [&](std::ostream& errors, const auto& work) {
    return examples::run_command(app, argc, argv, std::cout, errors, work);
  };
  return run_if_all_parse(processes, std::cerr, parse_and_run, [&] {
    products.say(o.model);
    all_or_none(processes, [&] { check_readable(o.model, o.data); });
    return compare(o, processes);
  });
}

}  // namespace

bool is_command(std::string_view name) {
  return std::find(commands.begin(), commands.end(), name) != commands.end();
}

std::string command_names() { return fmt::format("{}", fmt::join(commands, ", ")); }

int run_command(int argc, char** argv, Communicator& processes) {
  const std::string_view name = argv[1];
  if (name == "train") return train_command(argc - 1, argv + 1, processes);
  if (name == "compare") return compare_command(argc - 1, argv + 1, processes);
  if (processes.size() > 1) {
    if (processes.is_first())
      fmt::print(stderr, "finetune {} runs in one process; start it without mpirun\n", name);
    return examples::usage;
  }
  return name == "eval" ? eval_command(argc - 1, argv + 1) : generate_command(argc - 1, argv + 1);
}

}  // namespace finetune
