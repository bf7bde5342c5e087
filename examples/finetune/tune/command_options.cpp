#include "command_options.hpp"

#include <stdexcept>  // invalid_argument

#include <finetune/settings.hpp>  // named_schemes, scheme_named

#include "../../lists.hpp"
#include "../../validators.hpp"

namespace finetune {

using examples::any_path;
using examples::any_seed;
using examples::number_from;
using examples::number_from_zero;
using examples::positive_count;
using examples::positive_number;
using examples::utf8_text;
using examples::whole_from;

void add_model(CLI::App& app, ModelOptions& model, Products& products, const Communicator& processes) {
  model.threads = processes.cores();
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
  app.add_option("--threads", model.threads, "the results do not depend on them")
      ->check(examples::count_of_threads())
      ->group("Model");
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
                 "share of --data held out for validation; 0: nothing is measured, and the last step's "
                 "adapter is kept")
      ->check(number_from(0, 0.5))
      ->group("Data");
  add_reading(app, data.reading);
  app.add_option("--batch-tokens", data.batch_tokens, "most tokens in a batch, all its sequences together")
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
            return "\"" + name + "\" is not one of " + names;
          }
        })
        ->group("Adapter");
    app.add_option("--rank", tune.rank, "rows of A, columns of B: larger learns more and costs more")
        ->check(examples::any_rank())
        ->group("Adapter");
    app.add_option("--rate", tune.rate,
                   "learning rate of A and B, or where they are not trained (vera) of u and v [by scheme, "
                   "rank and width]")
        ->check(positive_number())
        ->group("Training");
    app.add_option("--b-rate", tune.b_rate, "learning rate of B beside A, as in LoRA+ [--rate]")
        ->check(positive_number())
        ->group("Training");
    app.add_option("--uv-rate", tune.uv_rate,
                   "learning rate of u and v beside A and B [--rate, times a number by scheme]")
        ->check(positive_number())
        ->group("Training");
    app.add_flag("--fast-reduce", tune.fast_reduce,
                 "sum gradients in MPI's order; the bits then depend on the number of processes")
        ->group("Training");
  }
  app.add_option("--scaling", tune.scaling, "s of y += s v∘B(u∘Ax); LoRA's alpha / rank")
      ->check(positive_number())
      ->group("Adapter");
  examples::add_list(app, "--targets", tune.targets, "adapted modules", CLI::IsMember(all_targets()))
      ->group("Adapter");
  examples::add_list(app, "--layers", tune.layers, "adapted layers, from 0: 20,21,22 [all]",
                     whole_from(0, 1'000'000))
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
  app.add_option("--accumulate", tune.accumulate, "batches in a step; the processes of mpirun share them")
      ->check(positive_count())
      ->group("Training");
  app.add_option("--seed", tune.seed, "of the adapter's start and the order of the data")
      ->check(any_seed())
      ->group("Training");
  app.add_flag("--recompute", tune.recompute,
               "keep a layer's input alone, compute the rest again: less memory")
      ->group("Training");
}

}  // namespace finetune
