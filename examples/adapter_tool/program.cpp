#include "program.hpp"

#include <exception>   // exception
#include <filesystem>  // path
#include <ostream>     // ostream
#include <stdexcept>   // invalid_argument
#include <string>      // string

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "../command_line.hpp"
#include "../validators.hpp"
#include "adapters.hpp"
#include "look.hpp"
#include "merge.hpp"

namespace adapter_tool {
namespace {

struct ConvertOptions {
  std::string to = {};        ///< peft, native or gguf
  std::string type = "f32";   ///< of the values written
  std::string form = "lora";  ///< of PEFT folders
  std::string base_name = {};
};

template <class P>
void save_native(const Adapter<float>& adapter, const std::filesystem::path& path,
                 const tiedlora::Provenance& source) {
  const auto written = adapter.cast<P>();
  const auto require_finite = [&](auto before, auto after) {
    for (std::size_t i = 0; i < before.size(); ++i)
      if (std::isfinite(before[i]) && !std::isfinite(static_cast<float>(after[i])))
        throw std::runtime_error(
            fmt::format("the value {} is too large for the type; choose --type bf16 or f32", before[i]));
  };
  require_finite(adapter.trainable(), written.trainable());
  require_finite(adapter.frozen(), written.frozen());
  tiedlora::save_adapter(path, written, {.source = source});
}

/// What the target needs and the source does not say, or says otherwise.
void tell_doubts(const OpenAdapter& opened, const ModelOptions& model, const ConvertOptions& options,
                 std::ostream& err) {
  const tiedlora::Provenance& source = opened.source;
  if (options.to != "peft") return;
  if (opened.format != "peft" && source.task_type.empty() && source.base_model_class.empty())
    err << "note: the source does not say for which task the adapter is; task_type is written as null\n";
  const auto* architecture = tiedlora::gguf::find_architecture(source.architecture);
  if (opened.format == "gguf" && architecture && architecture->permuted && model.order == "gguf")
    err << "note: with --order gguf the rows of q and k stay as in GGUF files; for the base model as "
           "transformers has "
           "it say --order hugging-face\n";
}

void convert(const std::filesystem::path& from, const std::filesystem::path& to, const ModelOptions& model,
             const ConvertOptions& options, std::ostream& out, std::ostream& err) {
  using namespace tiedlora;
  OpenAdapter opened = open(from, model);
  for (const std::string& note : opened.notes) err << "note: " << tiedlora::detail::escaped(note) << '\n';
  tell_doubts(opened, model, options, err);
  if (!options.base_name.empty()) opened.source.base_model = options.base_name;
  opened.source.fan_in_fan_out = opened.source.fan_in_fan_out || model.fan_in_fan_out;
  const Provenance& source = opened.source;
  const bool f16 = options.type == "f16", bf16 = options.type == "bf16";
  if (options.to == "gguf") {
    const auto written = export_gguf(opened.adapter, to, naming(model, source.architecture),
                                     {.type = f16    ? gguf::Type::F16
                                              : bf16 ? gguf::Type::BF16
                                                     : gguf::Type::F32,
                                      .source = source});
    out << fmt::format("gguf: {} modules, rank {}, {} bytes\n", written.modules, written.rank, written.bytes);
  } else if (options.to == "peft") {
    const auto written = save_peft(opened.adapter, to,
                                   {.source = source,
                                    .form = options.form == "vera"       ? PeftForm::vera
                                            : options.form == "stacked"  ? PeftForm::stacked
                                            : options.form == "smallest" ? PeftForm::smallest
                                                                         : PeftForm::lora,
                                    .dtype = f16    ? safetensors::Dtype::F16
                                             : bf16 ? safetensors::Dtype::BF16
                                                    : safetensors::Dtype::F32});
    out << fmt::format("peft: rank {}, {} bytes\n", written.rank, written.bytes);
  } else {
    if (f16)
      save_native<Eigen::half>(opened.adapter, to, source);
    else if (bf16)
      save_native<Eigen::bfloat16>(opened.adapter, to, source);
    else
      save_native<float>(opened.adapter, to, source);
    out << fmt::format("native: {} bytes\n", std::filesystem::file_size(to));
  }
}

}  // namespace

int run(int argc, const char* const* argv, std::ostream& out, std::ostream& err) {
  std::string first, second, target;
  ModelOptions model;
  ConvertOptions conversion;

  CLI::App app(
      "Looks at low-rank adapters, converts, merges and compares them. An adapter is a PEFT folder, a GGUF "
      "LoRA "
      "adapter or a native tiedlora file; the kind is detected from its contents.",
      "adapter_tool");
  app.require_subcommand(1);
  const CLI::Validator count_of_heads = examples::whole_from(1, 65536), path = examples::any_path();
  const auto add_model = [&](CLI::App* command) {
    command
        ->add_option(
            "--base", model.base,
            "safetensors file or folder of the base model; VeRA folders need it, and merge. Its config.json "
            "(or a GGUF file of the model) says the architecture and heads")
        ->check(path)
        ->type_name("PATH");
    command
        ->add_option(
            "--arch", model.architecture,
            fmt::format("architecture in GGUF files, where neither the adapter nor --base says it: {}",
                        fmt::join(known_architectures(), ", ")))
        ->check(CLI::IsMember(known_architectures()))
        ->type_name("NAME");
    command
        ->add_option(
            "--order", model.order,
            "for llama in GGUF files, no default: order of the rows of q and k in the weights that the "
            "adapter was trained on, hugging-face or gguf")
        ->check(CLI::IsMember({"hugging-face", "gguf"}))
        ->type_name("ORDER");
    command
        ->add_option("--heads", model.heads,
                     "attention heads, for --order hugging-face; --base says them, too")
        ->check(count_of_heads)
        ->type_name("N");
    command->add_option("--kv-heads", model.kv_heads, "key and value heads, likewise")
        ->check(count_of_heads)
        ->type_name("N");
    command->add_flag("--fan-in-fan-out", model.fan_in_fan_out,
                      "the base's weights are in x out, as GPT-2's Conv1D; PEFT's config says it by itself");
    command->add_flag(
        "--partial", model.partial,
        "use what can be used of the adapter, and list what is left out; without it such adapters "
        "are refused");
    command->add_flag("!--no-check-finite", model.check_finite,
                      "take adapters that have NaN or infinite parameters, which are refused otherwise");
  };
  const auto add_adapter = [&](CLI::App* command, const char* name, std::string& value) {
    command->add_option(name, value, "PEFT folder, GGUF or native file")
        ->required()
        ->check(path)
        ->type_name("PATH");
  };

  CLI::App* info_command = app.add_subcommand(
      "info", "scheme, modules, ranks, counts, norms; warns of NaN and of adapters that are zero");
  add_adapter(info_command, "adapter", first);
  add_model(info_command);

  CLI::App* convert_command = app.add_subcommand("convert", "PEFT, native and GGUF into each other");
  add_adapter(convert_command, "from", first);
  convert_command->add_option("target", target, "file, or folder for PEFT")
      ->required()
      ->check(path)
      ->type_name("PATH");
  convert_command->add_option("--to", conversion.to, "peft, native or gguf")
      ->required()
      ->check(CLI::IsMember({"peft", "native", "gguf"}))
      ->type_name("FORMAT");
  convert_command->add_option("--type", conversion.type, "type of the values written: f32, f16 or bf16")
      ->check(CLI::IsMember({"f32", "f16", "bf16"}))
      ->capture_default_str()
      ->type_name("TYPE");
  convert_command
      ->add_option("--form", conversion.form,
                   "of a PEFT folder: lora (loads everywhere), vera, stacked or smallest; see docs/files.md")
      ->check(CLI::IsMember({"lora", "vera", "stacked", "smallest"}))
      ->capture_default_str()
      ->type_name("FORM");
  convert_command
      ->add_option("--base-name", conversion.base_name, "name of the base model, written into the file")
      ->type_name("NAME");
  add_model(convert_command);

  CLI::App* merge_command = app.add_subcommand(
      "merge", "adds the adapter to a base model (--base: F64, F32, F16 or BF16 safetensors)");
  add_adapter(merge_command, "adapter", first);
  merge_command->add_option("target", target, "file, or folder where the base is one")
      ->required()
      ->check(path)
      ->type_name("PATH");
  add_model(merge_command);
  merge_command->get_option("--base")->required();

  CLI::App* diff_command = app.add_subcommand(
      "diff", "two adapters as functions: relative Frobenius norm of the difference of ΔW, by module");
  add_adapter(diff_command, "first", first);
  add_adapter(diff_command, "second", second);
  add_model(diff_command);

  app.footer(
      "Examples:\n"
      "  adapter_tool info my-adapter/\n"
      "  adapter_tool convert tied.safetensors adapter.gguf --to gguf --base smollm2/ --order hugging-face\n"
      "  adapter_tool convert tied.safetensors out/ --to peft --base-name "
      "HuggingFaceTB/SmolLM2-135M-Instruct\n"
      "  adapter_tool merge my-adapter/ merged.safetensors --base model.safetensors\n"
      "  adapter_tool diff before.safetensors after/\n"
      "\n"
      "Exit codes: 0 done, 1 a file is wrong or cannot be read or written, 2 wrong usage. On 1 and 2 no "
      "target was\n"
      "written, or the old one is as it was. Only where it is stopped, or the disk fails, while it replaces "
      "a "
      "folder's\n"
      "files one after the other, that folder is left without its config (adapter_config.json; config.json "
      "and "
      "the index):\n"
      "run it again.");
  return examples::run_command(app, argc, argv, out, err, [&] {
    if (*info_command) info(first, model, out, err);
    if (*convert_command) convert(first, target, model, conversion, out, err);
    if (*merge_command) merge(first, model, target, out, err);
    if (*diff_command) diff(first, second, model, out, err);
    return success;
  });
}

}  // namespace adapter_tool
