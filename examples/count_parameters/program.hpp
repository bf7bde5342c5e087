// The command line.
#pragma once

#include <algorithm>  // sort
#include <ostream>    // ostream
#include <set>        // set
#include <stdexcept>  // invalid_argument
#include <string>     // string
#include <vector>     // vector

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "../command_line.hpp"
#include "../lists.hpp"
#include "../paths.hpp"
#include "../validators.hpp"
#include "count.hpp"
#include "hugging_face.hpp"
#include "plot.hpp"
#include "presets.hpp"
#include "write.hpp"

namespace count_parameters {

using enum examples::ExitCode;

/// The program. Results go to `out`, everything else to `err`. Returns an ExitCode.
inline int run(int argc, const char* const* argv, std::ostream& out, std::ostream& err) {
  std::vector<std::string> models, configs, schemes = {"lora", "vera", "tl5", "tl6"}, targets = {"qkv"};
  std::vector<Index> ranks = {2, 8, 32, 128};
  Index budget = 0;
  std::string folder;
  bool as_csv = false, as_json = false, list = false;

  CLI::App app(
      "Counts what low-rank adapters cost, tied across layers and not: trainable parameters and the "
      "bytes that follow from them. Allocates nothing of what it counts.",
      "count_parameters");
  const auto add_list = [&](const std::string& name, auto& values, const std::string& text,
                            const CLI::Validator& check = {}) {
    return examples::add_list(app, name, values, text, check)->allow_extra_args(false);
  };
  add_list("--model", models, "models by name, separated by commas (default: LLaMA2-7B); see --list")
      ->type_name("NAMES");
  app.add_option("--config", configs, "a Hugging Face config.json of a further model; may be repeated")
      ->check(examples::any_path())
      ->allow_extra_args(false)
      ->type_name("PATH");
  const auto ranks_list = add_list("--ranks", ranks, "ranks", examples::whole_from(1, 1'000'000));
  ranks_list->type_name("RANKS");
  const auto schemes_list = add_list(
      "--schemes", schemes, tiedlora::schemes::names() + ": tl6 with A and B tied over each G layers");
  schemes_list->type_name("NAMES");
  const auto budget_option = app.add_option("--budget", budget,
                                            "in place of --schemes and --ranks: the recommended ones for at "
                                            "most so many trainable parameters (docs/choosing.md)");
  budget_option->check(examples::whole_from(1, 1'000'000'000'000'000))
      ->excludes(ranks_list)
      ->excludes(schemes_list)
      ->type_name("COUNT");
  add_list("--targets", targets,
           "what is adapted in each layer: qkv (fused, as in the Tied-LoRA paper), or any of q, k, v, o, "
           "gate, up, down; gate_up is fused as well")
      ->type_name("NAMES");
  const auto csv_flag = app.add_flag("--csv", as_csv, "print CSV, with exact bytes");
  app.add_flag("--json", as_json, "print JSON, with exact bytes")->excludes(csv_flag);
  app.add_option("--plot", folder, "write CSV and pictures (PNG, SVG; needs gnuplot) into this folder")
      ->check(examples::any_path())
      ->type_name("FOLDER");
  app.add_flag("--list", list, "list the models known by name, and leave");
  app.footer(
      "Examples:\n"
      "  count_parameters                                    the Tied-LoRA paper's LLaMA2-7B\n"
      "  count_parameters --model GPT-2B-001,LLaMA2-70B --ranks 8\n"
      "  count_parameters --config models/mine/config.json --targets q,k,v,o,gate,up,down\n"
      "  count_parameters --schemes lora,grouped:4,grouped:16,tl6 --plot out/counts\n"
      "  count_parameters --model SmolLM2-135M --csv > counts.csv\n"
      "  count_parameters --model Llama-3-8B --targets q,k,v --budget 500000\n"
      "\n"
      "Exit codes: 0 done, 1 a file is wrong or cannot be read or written, 2 wrong usage.");
  return examples::run_command(app, argc, argv, out, err, [&] {
    std::sort(ranks.begin(), ranks.end());
    if (list) {
      for (const Model& model : presets())
        out << fmt::format("{:<14} {} ({})\n", model.name, detail::description(model), model.source);
      return success;
    }
    if (!folder.empty()) examples::check_output_folder("--plot", folder);
    if (std::set<std::string>(configs.begin(), configs.end()).size() < configs.size())
      throw std::invalid_argument("--config: the same file is given twice");
    if (models.empty() && configs.empty()) models = {"LLaMA2-7B"};
    std::vector<Table> tables;
    const auto add_table = [&](const Model& model) {
      tables.push_back(*budget_option ? count_recommended(model, targets, budget)
                                      : count(model, targets, schemes, ranks));
    };
    for (const std::string& name : models) add_table(preset(name));
    for (const std::string& path : configs) add_table(read_hugging_face_config(path));

    if (as_csv) {
      out << to_csv(tables);
    } else if (as_json) {
      out << to_json(tables);
    } else {
      for (const Table& table : tables) {
        const std::string advice = table.is_recommended ? advice_of_other_modules(table) : "";
        const bool is_better = table.schemes.front() == "tl5";  // and so comes first
        out << (is_better ? advice : "") << to_text(table) << '\n' << (is_better ? "" : advice);
      }
      out << legend();
    }
    examples::flush(out);
    if (!folder.empty()) err << plot(tables, folder) << '\n';
    return success;
  });
}

}  // namespace count_parameters
