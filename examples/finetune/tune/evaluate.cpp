#include "evaluate.hpp"

#include <algorithm>   // max, min
#include <cmath>       // exp
#include <filesystem>  // exists
#include <optional>    // optional
#include <stdexcept>   // invalid_argument, runtime_error

#include <fmt/format.h>
#include <finetune/data/batches.hpp>  // in_order
#include <finetune/data/files.hpp>    // read_file
#include <finetune/data/shown.hpp>    // escaped
#include <llama/generate.hpp>
#include <nlohmann/json.hpp>

#include "../../standard_output.hpp"
#include "../../terminal_text.hpp"
#include "base.hpp"
#include "tuner.hpp"  // mean_loss

namespace finetune {

namespace {

/// The adapter of a run's folder, or the file or PEFT folder that the path is.
std::filesystem::path adapter_at(const std::filesystem::path& path) {
  const std::filesystem::path of_run = path / "adapter.safetensors";
  return std::filesystem::exists(of_run) ? of_run : path;
}

/// All of them, before anything is computed that one that cannot be read would waste.
std::vector<Adapter> load_adapters(const TuneBase& base, const std::vector<std::filesystem::path>& paths) {
  std::vector<Adapter> adapters;
  for (const std::filesystem::path& path : paths) adapters.push_back(base.load_adapter(adapter_at(path)));
  return adapters;
}

/// The longest window with which the adapters' runs measured; 0 where none is the folder of a run.
Index window_of_runs(const std::vector<std::filesystem::path>& paths) {
  Index window = 0;
  for (const std::filesystem::path& path : paths) {
    if (adapter_at(path) == path || !std::filesystem::exists(path / "run.json")) continue;
    const auto run = nlohmann::json::parse(read_file(path / "run.json"), nullptr, /*allow_exceptions=*/false);
    const nlohmann::json::json_pointer at("/data/window");
    const nlohmann::json own = run.contains(at) ? run[at] : nlohmann::json();
    if (!own.is_number_integer() || own.get<Index>() < 2)
      throw std::runtime_error(fmt::format("\"{}\" is damaged: it has no data.window; give --window",
                                           (path / "run.json").string()));
    window = std::max(window, own.get<Index>());
  }
  return window;
}

std::vector<llama::Token> prompt_tokens(const TuneBase& base, const GenerateOptions& options,
                                        const std::string& prompt) {
  if (!options.raw && !base.chat_problem().empty()) throw std::runtime_error(base.chat_problem());
  // As training asks: Encoder::conversation.
  if (base.chat() && !options.raw)
    return base.chat()->begin(options.has_system ? options.system : base.chat()->default_system(), prompt,
                              /*clock=*/false);
  if (!options.system.empty())
    throw std::invalid_argument(
        "--system: without a chat template there is no place for a system message; put the text into "
        "--prompt");
  std::vector<llama::Token> tokens = base.tokenizer().encode(prompt, /*special=*/false);
  const std::optional<llama::Token> bos = base.tokenizer().bos();
  if (base.tokenizer().adds_bos() && bos) tokens.insert(tokens.begin(), *bos);
  return tokens;
}

std::string answer(TuneBase& base, LanguageModel& model, const Adapter* adapter,
                   const GenerateOptions& options, const std::vector<llama::Token>& prompt) {
  const auto is_end = [&](llama::Token token) { return base.tokenizer().is_end(token); };
  const Index known = std::min(base.config().vocabulary, static_cast<Index>(base.tokenizer().size()));
  return base.tokenizer().decode(llama::generate(model, base.model(), adapter, prompt, options.tokens,
                                                 options.temperature, options.seed, known, is_end));
}

}  // namespace

void evaluate(const EvalOptions& options) {
  TuneBase base(options.model);
  const std::vector<Adapter> adapters = load_adapters(base, options.adapters);
  DataOptions reading = options.reading;
  if (reading.window == 0) reading.window = window_of_runs(options.adapters);
  Index batch_tokens = options.batch_tokens > 0 ? options.batch_tokens : default_batch_tokens;
  reading = base.with_window(reading, batch_tokens);
  if (options.batch_tokens == 0) batch_tokens = std::max(batch_tokens, reading.window);
  const Dataset data = read_data(options.data, base.tokenizer(), base.chat(), reading, base.chat_problem());
  fmt::print("{}", data.report.text());
  const std::vector<TokenBatch> batches = in_order(data.examples, batch_tokens);
  LanguageModel model(base.config(), base.pool());
  fmt::print("{:<40} {:>12} {:>12}\n", "", "nats/token", "perplexity");
  const auto measure = [&](const std::string& name, const Adapter* adapter) {
    const double loss = mean_loss(model, base.model(), adapter, batches);
    fmt::print("{:<40} {:>12.5f} {:>12.4f}\n", escaped(name), loss, std::exp(loss));
    examples::flush(std::cout);
  };
  if (!options.no_base) measure("base", nullptr);
  for (std::size_t i = 0; i < adapters.size(); ++i) measure(options.adapters[i].string(), &adapters[i]);
}

void generate(const GenerateOptions& options) {
  TuneBase base(options.model);
  LanguageModel model(base.config(), base.pool());
  const std::vector<Adapter> adapters = load_adapters(base, options.adapters);
  for (const std::string& prompt : options.prompts) {
    const std::vector<llama::Token> tokens = prompt_tokens(base, options, prompt);
    if (tokens.empty()) throw std::invalid_argument("--prompt: the text is empty");
    const Index context = base.file().context();
    if (static_cast<Index>(tokens.size()) + options.tokens > context)
      throw std::invalid_argument(fmt::format(
          "--tokens: a prompt of {} tokens and an answer of {} do not fit into the model's context "
          "of {}",
          tokens.size(), options.tokens, context));
    fmt::print("== {}\n", prompt);
    const auto say = [&](const std::string& name, const Adapter* adapter) {
      const std::string text = answer(base, model, adapter, options, tokens);
      fmt::print("-- {}\n{}\n", escaped(name),
                 examples::is_terminal(std::cout) ? examples::TerminalText::of(text) : text);
      examples::flush(std::cout);
    };
    say("base", nullptr);
    for (std::size_t i = 0; i < adapters.size(); ++i) say(options.adapters[i].string(), &adapters[i]);
  }
}

}  // namespace finetune
