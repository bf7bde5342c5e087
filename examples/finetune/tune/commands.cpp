#include "commands.hpp"

#include <algorithm>  // find, max
#include <array>      // array
#include <iostream>   // cout, cerr
#include <thread>     // hardware_concurrency

#include "../../command_line.hpp"
#include "../../lists.hpp"
#include "../../paths.hpp"
#include "../../validators.hpp"
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
using examples::positive_number;
using examples::some_minutes;
using examples::utf8_text;
using examples::whole_from;

constexpr std::array<std::string_view, 4> commands = {"train", "eval", "generate", "compare"};

/// The words of two options.
struct Products {
  std::string base_type = "as-is", numbers = "f32";

  void say(ModelOptions& model) const {
    model.float_base = base_type == "f32";
    model.bfloat16 = numbers == "bf16";
  }
};

void add_model(CLI::App& app, ModelOptions& model, Products& products) {
  model.threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  app.add_option("--model", model.path, "the base: a GGUF file or a Hugging Face folder")
      ->required()
      ->check(any_path())
      ->group("Model");
  app.add_option(
         "--products", products.numbers,
         "f32, or bf16: products with the base's weights round to bfloat16, where the processor has such; "
         "they take half the time")
      ->check(CLI::IsMember({"f32", "bf16"}))
      ->group("Model");
  app.add_option("--base-type", products.base_type,
                 "as-is: weights stay mapped in the file's types; f32: a copy as floats")
      ->check(CLI::IsMember({"as-is", "f32"}))
      ->group("Model");
  app.add_option("--threads", model.threads, "")->check(examples::count_of_threads())->group("Model");
}

void add_reading(CLI::App& app, DataOptions& reading) {
  app.add_option(
         "--window", reading.window,
         "longest sequence, in tokens; longer ones lose their end [512, or what a batch or the model takes]")
      ->check(whole_from(2, 1'000'000))
      ->always_capture_default(false)
      ->group("Data");
  app.add_option("--system", reading.system, "system message for examples of question and answer")
      ->check(utf8_text())
      ->group("Data");
  app.add_flag("--loss-on-all", reading.loss_on_all, "train on questions as well, not on answers alone")
      ->group("Data");
}

void add_training_data(CLI::App& app, TrainingDataOptions& data) {
  app.add_option(
         "--data", data.paths,
         "text (files or folders), or JSONL with text, prompt and completion, messages, or instruction, "
         "input and output")
      ->required()
      ->check(any_path())
      ->group("Data");
  app.add_option("--validation", data.validation,
                 "the same, to measure with; else a part of --data is held out")
      ->check(any_path())
      ->group("Data");
  app.add_option("--held-out", data.held_out,
                 "that part; 0: nothing is measured, and the last step's adapter is kept")
      ->check(number_from(0, 0.5))
      ->group("Data");
  add_reading(app, data.reading);
  app.add_option("--batch-tokens", data.batch_tokens,
                 "a batch holds sequences of up to so many tokens in all")
      ->check(positive_count())
      ->group("Data");
}

void add_tune(CLI::App& app, TuneOptions& tune, bool one_scheme) {
  if (one_scheme) {
    app.add_option("--scheme", tune.scheme, "how the adapter is tied: lora, vera, tl5, tl6, lora_fa, …")
        ->check([](const std::string& name) {
          try {
            scheme_named(name);
            return std::string();
          } catch (const std::invalid_argument&) {
            std::string names;
            for (const auto& [known, scheme] : named_schemes()) names += (names.empty() ? "" : ", ") + known;
            return "\"" + name + "\" is none of " + names;
          }
        })
        ->group("Adapter");
    app.add_option("--rank", tune.rank, "")->check(examples::any_rank())->group("Adapter");
    app.add_option(
           "--rate", tune.rate,
           "learning rate of A and B, or where they are not trained (vera) of u and v [by scheme and rank]")
        ->check(positive_number())
        ->group("Training");
    app.add_option("--b-rate", tune.b_rate, "learning rate of B beside A, as in LoRA+ [--rate]")
        ->check(positive_number())
        ->group("Training");
    app.add_option("--uv-rate", tune.uv_rate,
                   "learning rate of u and v beside A and B [--rate, times a number by scheme]")
        ->check(positive_number())
        ->group("Training");
  }
  app.add_option("--scaling", tune.scaling, "s of y += s v∘B(u∘Ax); LoRA's alpha / rank")
      ->check(positive_number())
      ->group("Adapter");
  examples::add_list(app, "--targets", tune.targets, "adapted modules", CLI::IsMember(all_targets()))
      ->group("Adapter");
  app.add_option("--schedule", tune.schedule, "cosine, down to a tenth, or constant")
      ->check(CLI::IsMember({"cosine", "constant"}))
      ->group("Training");
  app.add_option("--warm-up", tune.warm_up, "part of the steps in which rates rise")
      ->check(number_from(0, 1))
      ->group("Training");
  app.add_option("--weight-decay", tune.weight_decay, "AdamW's, on A and B")
      ->check(number_from_zero())
      ->group("Training");
  app.add_option("--clip", tune.clip_norm, "largest gradient norm")
      ->check(positive_number())
      ->group("Training");
  app.add_option("--dropout", tune.dropout, "on the adapters' input")
      ->check(number_from(0, 0.99))
      ->group("Training");
  app.add_option("--accumulate", tune.accumulate, "batches in a step")
      ->check(positive_count())
      ->group("Training");
  app.add_option("--seed", tune.seed, "of the adapter's start and the order of the data")
      ->check(any_seed())
      ->group("Training");
  app.add_flag("--recompute", tune.recompute,
               "keep a layer's input alone, compute the rest again: less memory")
      ->group("Training");
}

void check_readable(const ModelOptions& model, const TrainingDataOptions& data) {
  examples::check_readable("--model", {model.path});
  examples::check_readable("--data", data.paths);
  examples::check_readable("--validation", data.validation);
}

int train_command(int argc, char** argv) {
  TrainOptions o;
  Products products;
  CLI::App app("Trains an adapter for a language model beside its frozen weights.", "finetune train");
  app.option_defaults()->always_capture_default();
  add_model(app, o.model, products);
  add_training_data(app, o.data);
  add_tune(app, o.tune, true);
  CLI::Option* epochs = app.add_option("--epochs", o.epochs, "passes over the data")
                            ->check(number_from(1e-6, 1e6, "a number above 0 and up to 1000000"))
                            ->group("Training");
  CLI::Option* steps = app.add_option("--steps", o.steps, "instead: so many steps")
                           ->check(positive_count())
                           ->always_capture_default(false)
                           ->excludes(epochs)
                           ->group("Training");
  app.add_option("--minutes", o.minutes, "instead: as many steps as fit into that time")
      ->check(some_minutes())
      ->always_capture_default(false)
      ->excludes(epochs)
      ->excludes(steps)
      ->group("Training");
  app.add_option("--evaluations", o.evaluations, "how often the validation loss is measured")
      ->check(positive_count())
      ->group("Training");
  app.add_option("--patience", o.patience, "end after so many evaluations without a better loss; 0: never")
      ->check(whole_from(0, 1'000'000))
      ->group("Training");
  app.add_option("--out", o.out, "folder for the adapter and all that belongs to it")
      ->required()
      ->check(any_path())
      ->group("Files");
  app.add_flag("--resume", o.resume,
               "go on from the checkpoint in OUT as if the run had not been interrupted")
      ->group("Files");
  app.add_option("--base-name", o.base_name,
                 "what the files call the base, such as HuggingFaceTB/SmolLM2-135M-Instruct [its own name]")
      ->check(utf8_text())
      ->group("Files");
  app.footer(
      "\nExample:\n  finetune train --model model.gguf --data chat.jsonl --scheme tl6 --rank 32 --out "
      "mine/\n\n"
      "Ctrl-C ends the run at the next step and keeps what was trained; --resume goes on from there, or from "
      "the "
      "last\ncheckpoint of a run that was killed. Exit status: 0 done, 1 failed, 2 wrong usage, 130 "
      "interrupted.");
  return examples::run_command(app, argc, argv, std::cout, std::cerr, [&] {
    products.say(o.model);
    check_readable(o.model, o.data);
    return train(o);
  });
}

int eval_command(int argc, char** argv) {
  EvalOptions o;
  Products products;
  CLI::App app("Measures loss and perplexity of a model, with adapters and without.", "finetune eval");
  app.option_defaults()->always_capture_default();
  add_model(app, o.model, products);
  app.add_option("--adapter", o.adapters, "native file, PEFT folder, GGUF adapter, or the folder of a run")
      ->check(any_path())
      ->group("Model");
  app.add_option("--data", o.data, "as for finetune train")->required()->check(any_path())->group("Data");
  add_reading(app, o.reading);
  app.add_option("--batch-tokens", o.batch_tokens, "")->check(positive_count())->group("Data");
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

int compare_command(int argc, char** argv) {
  CompareOptions o;
  Products products;
  CLI::App app("Finds out which scheme and rank fit a task: all begin, the better half goes on.",
               "finetune compare");
  app.option_defaults()->always_capture_default();
  add_model(app, o.model, products);
  add_training_data(app, o.data);
  add_tune(app, o.tune, false);
  examples::add_list(app, "--candidates", o.candidates,
                     "SCHEME:RANK, or SCHEME:RANK:RATE for a rate of its own")
      ->group("Adapter");
  app.add_option("--minutes", o.minutes, "for everything")->check(some_minutes())->group("Training");
  app.add_option("--out", o.out, "folder for tables, the picture and the adapters")
      ->required()
      ->check(any_path())
      ->group("Files");
  app.add_flag("--resume", o.resume, "go on where an earlier run with the same options was stopped")
      ->group("Files");
  return examples::run_command(app, argc, argv, std::cout, std::cerr, [&] {
    products.say(o.model);
    check_readable(o.model, o.data);
    return compare(o);
  });
}

}  // namespace

bool is_command(std::string_view name) {
  return std::find(commands.begin(), commands.end(), name) != commands.end();
}

int run_command(int argc, char** argv) {
  const std::string_view name = argv[1];
  const auto run = name == "train"      ? train_command
                   : name == "eval"     ? eval_command
                   : name == "generate" ? generate_command
                                        : compare_command;
  return run(argc - 1, argv + 1);
}

}  // namespace finetune
