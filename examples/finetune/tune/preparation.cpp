#include "preparation.hpp"

#include <filesystem>  // exists
#include <stdexcept>   // invalid_argument, runtime_error
#include <utility>     // move

#include <fmt/format.h>
#include <finetune/data/shown.hpp>             // escaped
#include <finetune/data/text_data.hpp>         // size_text
#include <finetune/distributed/agreement.hpp>  // check_same_run

#include "../../paths.hpp"
#include "run_folder.hpp"
#include "run_key.hpp"

namespace finetune {

namespace {

std::unique_ptr<FolderLock> begin_folder(const TrainOptions& o, const Communicator& processes) {
  check_rates(o.tune);
  check_batches(o.tune.accumulate, processes, "--batch-tokens", o.data.batch_tokens);
  if (o.patience > 0 && !has_validation(o.data))
    throw std::invalid_argument(
        "--patience: with --held-out 0 there is no loss to wait for; leave --patience out, or give "
        "--validation FILE or a --held-out above 0");
  std::unique_ptr<FolderLock> lock;
  if (!processes.is_first()) return lock;
  examples::check_output_folder("--out", o.out);
  if (std::filesystem::exists(o.out)) lock = std::make_unique<FolderLock>(o.out);
  check_folder(o.out, FolderOf::train, o.resume);
  return lock;
}
void say_base(const TuneBase& base, const std::string& name) {
  const llama::Config& c = base.config();
  fmt::print("Base: {} ({}; {} layers, width {}, vocabulary {}; {})\n", escaped(name),
             base.file().architecture(), c.layers, c.width, c.vocabulary, base.types());
}

TuneData read_examples(const TuneBase& base, TrainingDataOptions& data) {
  data.reading = base.with_window(data.reading, data.batch_tokens);
  return read_tune_data(base, data);
}

/// `here`: processes on this machine, of which each needs as much.
void check_memory(const MemoryEstimate& estimate, const TrainOptions& o, int here) {
  const auto available = available_memory();
  fmt::print("Memory: {}{}\n", estimate.text(),
             available ? fmt::format("; {} are free", size_text(double(*available))) : std::string());
  if (available && here * estimate.needed() > *available)
    throw std::runtime_error(fmt::format(
        "the run needs about {} besides the model{}, and {} are free; take {}a smaller --batch-tokens "
        "(now {}) with --accumulate{}",
        size_text(double(estimate.needed())),
        here > 1 ? fmt::format(" in each of {} processes on this machine", here) : std::string(),
        size_text(double(*available)), o.tune.recompute ? "" : "--recompute, ", o.data.batch_tokens,
        o.model.float_base ? ", or leave out --base-type f32" : ""));
}

void say_adapter(const TuneOptions& tune, const llama::Config& config, const tiedlora::Layout& layout) {
  const Rates rates = rates_of(tune, config);
  const tiedlora::Index in_lora =
      tiedlora::Layout(layout.modules(), tiedlora::schemes::lora(), tune.rank).trainable_count();
  fmt::print("Adapter: {} of rank {} on {} modules, {} trainable parameters{}; rate {:g}{}{}\n", tune.scheme,
             tune.rank, layout.size(), layout.trainable_count(),
             tune.scheme == "lora" ? std::string() : fmt::format(" ({} in LoRA of that rank)", in_lora),
             rates.rate, tune.b_rate ? fmt::format(" for A, {:g} for B", *tune.b_rate) : std::string(),
             has_uv_rate(scheme_named(tune.scheme))
                 ? fmt::format("{}, {:g} for u and v", tune.b_rate ? "" : " for A and B",
                               rates.rate * rates.uv_multiple)
                 : std::string());
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

}  // namespace

Preparation::Preparation(TrainOptions& o, const Communicator& processes)
    : lock(begin_folder(o, processes)),
      base(o.model),
      base_name(o.base_name.empty() ? base.file().name() : o.base_name),
      layout((say_base(base, base_name), layout_of(o.tune, base.config()))),
      data(read_examples(base, o.data)),
      memory(estimate_memory(base, o.data, o.tune, layout, o.resume, processes.size())),
      model(base.config(), base.pool(), o.tune.recompute ? llama::Keep::inputs : llama::Keep::every_layer),
      batches(std::move(data.train), o.data.batch_tokens, o.tune.seed) {
  check_memory(memory, o, processes.on_this_machine());
  say_adapter(o.tune, base.config(), layout);
  if (!lock && processes.is_first())
    lock = std::make_unique<FolderLock>(o.out);  // nothing was written until here
  if (o.model.bfloat16) say_accuracy(model, base, data.validation);
}

nlohmann::ordered_json agreed_key(const TrainOptions& o, const Preparation& run, Communicator& processes) {
  nlohmann::ordered_json key = run_key(o.model, run.base, o.data, run.data, o.tune);
  key["patience"] = o.patience;
  if (processes.size() == 1) return key;
  if (o.tune.fast_reduce) key["fast_reduce"] = processes.size();
  nlohmann::ordered_json all = key;
  all["weights"] = fmt::format("{:016x}", run.base.weights_hash());
  all["length"] = fmt::format("{} steps, {} epochs, {} minutes, {} evaluations", o.steps, o.epochs, o.minutes,
                              o.evaluations);
  check_same_run(processes, all);
  return key;
}

}  // namespace finetune
