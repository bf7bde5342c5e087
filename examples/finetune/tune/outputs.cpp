#include "outputs.hpp"

#include <algorithm>  // copy
#include <cmath>      // exp, isfinite

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <finetune/data/encoder.hpp>    // instruction_prompt
#include <finetune/data/files.hpp>      // write_atomically, CsvTable
#include <finetune/data/text_data.hpp>  // size_text
#include <finetune/report/json_number.hpp>
#include <finetune/report/plots.hpp>  // draw, shell_quoted
#include <llama/base_adapter.hpp>     // gguf_naming
#include <llama/gemm.hpp>             // product_kernels
#include <nlohmann/json.hpp>
#include <tiedlora/io/gguf/export.hpp>
#include <tiedlora/io/native.hpp>
#include <tiedlora/io/peft/save.hpp>

#include "tuner.hpp"  // rates_of

namespace finetune {

namespace {

using OrderedJson = nlohmann::ordered_json;

/// Paths need not be UTF-8, JSON must be.
std::string json_text(const OrderedJson& json, int indent = -1) {
  return json.dump(indent, ' ', false, OrderedJson::error_handler_t::replace);
}

std::vector<std::string> strings(const std::vector<std::filesystem::path>& paths) {
  std::vector<std::string> all;
  for (const std::filesystem::path& path : paths) all.push_back(path.string());
  return all;
}

std::string tiedlora_version() {
  return fmt::format("{}.{}.{}", TIEDLORA_VERSION_MAJOR, TIEDLORA_VERSION_MINOR, TIEDLORA_VERSION_PATCH);
}

OrderedJson record_json(const TuneBase& base, const TuneRecord& record) {
  const TrainOptions& o = record.options;
  const Rates rates = rates_of(o.tune, base.config());
  OrderedJson log = OrderedJson::array();
  for (const Logged& row : record.training.log)
    log.push_back({{"step", row.step},
                   {"training_loss", json_number(row.train_loss)},
                   {"validation_loss", json_number(row.select_loss)},
                   {"rate_factor", json_number(row.rate_factor)},
                   {"gradient_norm", json_number(row.gradient_norm)},
                   {"seconds", json_number(row.seconds)}});
  return {{"base",
           {{"path", o.model.path.string()},
            {"name", record.base_name},
            {"architecture", base.file().architecture()},
            {"types", base.types()},
            {"fingerprint", fmt::format("{:016x}", base.fingerprint())},
            {"as_floats", o.model.float_base},
            {"bfloat16_products", o.model.bfloat16}}},
          {"data",
           {{"paths", strings(o.data.paths)},
            {"validation", strings(o.data.validation)},
            {"held_out", record.held_out},
            {"hash", fmt::format("{:016x}", record.data.hash)},
            {"examples", record.data.examples},
            {"training_examples", record.training_examples},
            {"validation_examples", record.validation_examples},
            {"tokens", record.data.tokens},
            {"counted_tokens", record.data.counted},
            {"window", o.data.reading.window},
            {"loss_on_all", o.data.reading.loss_on_all},
            {"system", o.data.reading.system},
            {"batch_tokens", o.data.batch_tokens}}},
          {"adapter",
           {{"scheme", o.tune.scheme},
            {"rank", o.tune.rank},
            {"scaling", o.tune.scaling},
            {"targets", o.tune.targets},
            {"layers", o.tune.layers},
            {"trained_numbers", record.trained},
            {"frozen_numbers", record.frozen}}},
          {"training",
           {{"rate", rates.rate},
            {"b_rate", rates.rate * rates.b_multiple},
            {"uv_rate", rates.rate * rates.uv_multiple},
            {"schedule", o.tune.schedule},
            {"warm_up", o.tune.warm_up},
            {"weight_decay", o.tune.weight_decay},
            {"clip_norm", o.tune.clip_norm},
            {"dropout", o.tune.dropout},
            {"accumulate", o.tune.accumulate},
            {"seed", o.tune.seed},
            {"recompute", o.tune.recompute},
            {"processes", record.processes},
            {"threads", o.model.threads},
            {"fast_reduce", o.tune.fast_reduce},
            {"version", tiedlora_version()},
            {"kernels", std::string(tiedlora::kernel_isa())},
            {"products", llama::product_kernels()},
            {"minutes", o.minutes},
            {"planned_steps", record.planned_steps},
            {"evaluations", record.evaluations},
            {"patience", o.patience},
            {"steps", record.training.steps},
            {"best_step", record.training.best_step},
            {"seconds_per_step", record.training.seconds_per_step},
            {"seconds", record.seconds},
            {"estimated_bytes", record.estimated_bytes},
            {"peak_bytes", record.peak_bytes}}},
          {"validation_loss_before", json_number(record.loss_before)},
          {"validation_loss", json_number(record.loss_after)},
          {"log", log}};
}

std::string loss_line(double nats) {
  return std::isfinite(nats) ? fmt::format("{:.4f} nats a token (perplexity {:.3f})", nats, std::exp(nats))
                             : "not measured";
}

std::string card(const std::filesystem::path& folder, const TuneBase& base, const TuneRecord& record) {
  const TrainOptions& o = record.options;
  const bool is_gguf = base.file().is_gguf();
  // Others open the folder, not its config.json.
  const std::string path = is_gguf ? o.model.path.string() : base.file().folder().string();
  const std::string model = shell_quoted(path);
  const std::string here = shell_quoted(folder.string());
  const auto in_folder = [&](const char* name) { return shell_quoted((folder / name).string()); };
  const std::string gguf_base = is_gguf ? model : shell_quoted(base.file().folder_name() + ".gguf");
  const bool is_raw = base.chat() == nullptr;  // there is no template to put a prompt into
  std::string text = fmt::format(
      "# Adapter for {}\n\n"
      "A {} adapter of rank {} on {}: {} trainable parameters.\n\n"
      "| | |\n|---|---|\n"
      "| base | {} ({}, {}) |\n"
      "| data | {}; {} examples, {} tokens, {} counted; hash {:016x} |\n"
      "| validation | {}, {} examples |\n"
      "| validation loss before | {} |\n"
      "| validation loss after | {} |\n"
      "| steps | {}, the best at {} |\n\n"
      "{}"
      "Everything that made this run is in `run.json`; the losses are in `metrics.csv`.\n\n",
      record.base_name, o.tune.scheme, o.tune.rank, fmt::join(o.tune.targets, ", "), record.trained,
      record.base_name, base.file().architecture(), base.types(), fmt::join(strings(o.data.paths), ", "),
      record.data.examples, record.data.tokens, record.data.counted, record.data.hash, record.held_out,
      record.validation_examples, loss_line(record.loss_before), loss_line(record.loss_after),
      record.training.steps, record.training.best_step, record.has_picture ? "![loss](loss.png)\n\n" : "");
  text += "## Run it\n\nllama.cpp:\n\n```sh\n";
  if (!is_gguf)
    text +=
        fmt::format("python convert_hf_to_gguf.py {} --outfile {} # once, of llama.cpp\n", model, gguf_base);
  text += fmt::format("llama-cli -m {} --lora {}\n```\n\n", gguf_base, in_folder("adapter.gguf"));
  text += fmt::format(
      "transformers and PEFT{}:\n\n```python\n"
      "from peft import PeftModel\n"
      "from transformers import AutoModelForCausalLM\n\n"
      "model = AutoModelForCausalLM.from_pretrained({})\n"
      "model = PeftModel.from_pretrained(model, {})\n```\n\n",
      is_gguf ? ", with the name or folder of the model that the GGUF file was made of" : "",
      json_text(is_gguf ? record.base_name : path), json_text((folder / "peft").string()));
  text += fmt::format(
      "This library's engine:\n\n```sh\n"
      "engine {} --adapter {}{} --prompt 'Hello'\n```\n\n"
      "Loss, and text before and after:\n\n```sh\n"
      "finetune eval --model {} --adapter {} --data DATA\n"
      "finetune generate --model {} --adapter {}{} --prompt 'Hello'\n```\n",
      model, in_folder("adapter.gguf"), is_raw ? " --raw" : "", model, here, model, here,
      is_raw ? " --raw" : "");
  if (record.data.in_alpacas_words > 0)
    text += fmt::format(
        "\nThe base has no chat template, so the instructions that it learned from stood in these words, "
        "which the programs do not add. Ask in them:\n\n```\n{}```\n",
        instruction_prompt("...", ""));
  return text;
}

}  // namespace

void save_adapter_files(const std::filesystem::path& folder, const TuneBase& base, const Adapter& adapter,
                        const std::string& base_name) {
  std::filesystem::create_directories(folder);
  tiedlora::save_adapter(folder / "adapter.safetensors", adapter, {.base_model = base_name});
  tiedlora::save_peft(adapter, folder / "peft", {.base_model = base_name, .task_type = "CAUSAL_LM"});
  tiedlora::export_gguf(adapter, folder / "adapter.gguf", llama::gguf_naming(base.file()),
                        {.base_model = base_name});
}

std::string save_metrics(const std::filesystem::path& folder, const TrainingResult& training) {
  CsvTable table({"step", "training_loss", "validation_loss", "rate_factor", "gradient_norm", "seconds"});
  for (const Logged& row : training.log)
    table.add({std::to_string(row.step), csv_number(row.train_loss), csv_number(row.select_loss),
               csv_number(row.rate_factor), csv_number(row.gradient_norm), csv_number(row.seconds)});
  table.save(folder / "metrics.csv");
  return draw(folder, "loss",
              plot_script("loss", "metrics.csv", 800, 480,
                          "  set xlabel 'steps'\n  set ylabel 'loss, nats a token'\n  set key top right\n"
                          "  plot data skip 1 using 1:2 with linespoints lw 2 pt 7 ps 0.6 lc rgb '#56B4E9' "
                          "title 'training', \\\n"
                          "    data skip 1 using 1:3 with linespoints lw 2 pt 13 ps 0.8 lc rgb '#D55E00' "
                          "title 'validation'\n"));
}

void save_record(const std::filesystem::path& folder, const TuneBase& base, const TuneRecord& record) {
  write_atomically(folder / "run.json", json_text(record_json(base, record), 2) + '\n');
  write_atomically(folder / "README.md", card(folder, base, record));
}

}  // namespace finetune
