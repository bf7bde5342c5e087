#include "program.hpp"

#include <algorithm>     // any_of, max, min
#include <chrono>        // steady_clock
#include <cmath>         // abs
#include <cstdint>       // uint64_t
#include <filesystem>    // path
#include <istream>       // istream, getline
#include <map>           // map
#include <ostream>       // ostream
#include <stdexcept>     // invalid_argument, runtime_error
#include <string>        // string
#include <string_view>   // string_view
#include <system_error>  // error_code
#include <utility>       // move, pair
#include <vector>        // vector

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <llama/base_adapter.hpp>
#include <llama/base_model.hpp>
#include <llama/chat.hpp>
#include <llama/tokenizer.hpp>

#include "../command_line.hpp"
#include "../terminal_text.hpp"
#include "../validators.hpp"
#include "engine.hpp"
#include "generate.hpp"

namespace engine {

using llama::BaseModel;
using llama::Chat;
using llama::Order;

namespace {

struct Options {
  std::string model = {};
  std::vector<std::string> prompts = {}, adapters = {}, uses = {};
  std::string system = {}, order = {};
  bool has_system = false, raw = false, ids = false, check_finite = true;
  int tokens = 256, context = 0, threads = 1;  // a context of 0 is the default
  double temperature = 0;
  std::uint64_t seed = 1;
};

/// "NAME", or "NAME:SCALE". Throws std::invalid_argument.
std::pair<std::string, float> parse_use(const std::string& text) {
  const std::size_t colon = text.find(':');
  if (colon == text.npos) return {text, 1.0f};
  constexpr double largest = 1e6;
  const auto scale = examples::to_number(std::string_view(text).substr(colon + 1));
  if (!scale || std::abs(*scale) > largest)
    throw std::invalid_argument(
        fmt::format("--use {}: the scale after ':' is not a number from {} to {}", text, -largest, largest));
  return {text.substr(0, colon), static_cast<float>(*scale)};
}

/// The adapters of the command line by their names.
class Adapters {
 public:
  Adapters(const Options& options, const BaseModel& model, std::ostream& err)
      : set_(llama::all_modules(model.model().config)) {
    for (const std::string& text : options.adapters) {
      std::error_code error;  // a path that is too long is none
      const std::size_t equals = std::filesystem::exists(text, error) ? text.npos : text.find('=');
      const std::filesystem::path path = equals == text.npos ? text : text.substr(equals + 1);
      const std::filesystem::path named = path.has_filename() ? path : path.parent_path();  // of "folder/"
      const std::string name = equals == text.npos ? named.stem().string() : text.substr(0, equals);
      if (name.empty() || name == "none" || name.find(':') != name.npos || ids_.contains(name))
        throw std::invalid_argument(fmt::format(
            "--adapter {}: the name \"{}\" is taken, or --use cannot name it; give another with NAME=PATH",
            text, name));
      if (options.order.empty() && std::filesystem::exists(path) && llama::has_two_orders(path, model))
        throw std::invalid_argument(
            fmt::format("--adapter {}: --order must say in which order the rows of q and k are in the "
                        "weights that it was trained "
                        "on: hugging-face (trained with transformers, on its safetensors, or by finetune on "
                        "whatever file) or gguf (trained by another program on a GGUF file)",
                        text));
      const Order order = options.order == "gguf" ? Order::gguf : Order::hugging_face;
      std::vector<std::string> notes;
      auto adapter = llama::load_adapter(path, model, notes, order, options.check_finite);
      for (const std::string& note : notes) err << "note: " << note << '\n';
      const auto id = set_.try_add(std::move(adapter), {.check_finite = options.check_finite});
      if (!id) throw std::runtime_error(fmt::format("\"{}\": {}", path.string(), id.error()));
      ids_[name] = *id;
    }
  }

  tiedlora::AdapterSnapshot<float> snapshot() const { return set_.snapshot(); }
  /// The only one, or none. Not of several.
  tiedlora::AdapterId only() const { return ids_.empty() ? tiedlora::no_adapter : ids_.begin()->second; }

  /// What "NAME" or "NAME:SCALE" means.
  tiedlora::TokenAdapter use(const std::string& text) const {
    const auto [name, scale] = parse_use(text);
    tiedlora::TokenAdapter result;
    result.scale = scale;
    if (name == "none") return result;
    const auto found = ids_.find(name);
    if (found == ids_.end()) {
      std::string names = "none";
      for (const auto& [known, id] : ids_) names += ", " + known;
      throw std::invalid_argument(
          fmt::format("--use {}: there is no adapter of that name (there are: {})", text, names));
    }
    result.adapter = found->second;
    return result;
  }

 private:
  tiedlora::AdapterSet<float> set_;
  std::map<std::string, tiedlora::AdapterId> ids_;
};

/// What each prompt goes through, by --use: one for each, or one for all; without it the only adapter.
std::vector<tiedlora::TokenAdapter> uses_of(const Options& options, const Adapters& adapters,
                                            std::size_t texts) {
  std::vector<tiedlora::TokenAdapter> uses;
  for (const std::string& use : options.uses) uses.push_back(adapters.use(use));
  if (uses.empty() && options.adapters.size() > 1)
    throw std::invalid_argument(
        "several adapters: --use must name the adapter of the prompts, once for all or once for each");
  if (uses.empty()) uses.push_back({.adapter = adapters.only()});
  if (uses.size() == 1) uses.resize(texts, uses[0]);
  if (uses.size() != texts)
    throw std::invalid_argument(
        fmt::format("--use is given {} times, but there are {} prompts", uses.size(), texts));
  return uses;
}

/// Everything that lives as long as the program.
struct Session {
  Options options;
  BaseModel model;
  Tokenizer tokenizer;
  Adapters adapters;
  Engine engine;

  Session(const Options& o, std::ostream& err)
      : options(o),
        model(o.model),
        tokenizer(model.tokenizer()),
        adapters(o, model, err),
        engine(model.model(), o.threads, context_of(o, model), 64) {
    options.context = context_of(o, model);
    // Folders may have embeddings of more tokens than there are, for sizes that computers like.
    const auto tokens = static_cast<Index>(tokenizer.size());
    const Index embeddings = model.model().config.vocabulary;
    if (tokens > embeddings || (model.is_gguf() && tokens < embeddings))
      throw std::runtime_error(fmt::format(
          "\"{}\" has a tokenizer of {} tokens, but embeddings of {}: it is damaged or incomplete", o.model,
          tokens, embeddings));
  }

  static int context_of(const Options& o, const BaseModel& model) {
    constexpr Index most_by_default = 2048;  // memory grows with it
    if (o.context == 0) return static_cast<int>(std::min(most_by_default, model.context()));
    if (o.context > model.context())
      throw std::invalid_argument(fmt::format("--context {}: the model was trained for at most {} tokens",
                                              o.context, model.context()));
    return o.context;
  }

  std::vector<Token> tokens_of(const std::string& prompt) const {
    if (options.raw) {
      std::vector<Token> tokens = tokenizer.encode(prompt, true);
      const auto bos = tokenizer.bos();
      if (bos && tokenizer.adds_bos() && (tokens.empty() || tokens[0] != *bos))
        tokens.insert(tokens.begin(), *bos);
      return tokens;
    }
    const Chat chat = this->chat();
    return chat.begin(options.has_system ? options.system : chat.default_system(), prompt);
  }

  Chat chat() const {
    auto chat = model.chat(tokenizer);
    if (!chat)
      throw std::runtime_error(
          fmt::format("\"{}\" has no chat template; use --raw to continue texts", options.model));
    return *std::move(chat);
  }

  /// Throws std::invalid_argument where a prompt of `tokens` tokens leaves no room for --tokens more.
  void check_length(std::size_t tokens) const {
    if (tokens == 0) throw std::invalid_argument("a prompt is empty");
    if (tokens + static_cast<std::size_t>(options.tokens) > static_cast<std::size_t>(options.context))
      throw std::invalid_argument(
          fmt::format("a prompt of {} tokens and {} to generate do not fit the context of {}; take a larger "
                      "--context (the model has up to {}) or fewer --tokens",
                      tokens, options.tokens, options.context, model.context()));
  }
  Text text(std::vector<Token> prompt, const tiedlora::TokenAdapter& use, std::size_t number) const {
    Text text = {.tokens = {},
                 .adapter = use,
                 .temperature = options.temperature,
                 .random = llama::Random(options.seed + number),
                 .cache = KvCache(model.model().config, options.context)};
    go_on(text, std::move(prompt));
    return text;
  }
  /// Lets it grow by --tokens from these, which begin with those that it has.
  void go_on(Text& text, std::vector<Token> tokens) const {
    text.tokens = std::move(tokens);
    text.limit = text.tokens.size() + static_cast<std::size_t>(options.tokens);
    text.is_done = false;
  }
};

/// Writes texts to `out` as they grow: the first at once, each further one when those before it are done.
class Writer {
 public:
  Writer(std::ostream& out, const Tokenizer& tokenizer, std::vector<std::string> headings)
      : out_(out),
        tokenizer_(tokenizer),
        headings_(std::move(headings)),
        waiting_(headings_.size()),
        texts_(headings_.size()) {
    begin();
  }

  void write(std::size_t text, Token token) {
    const std::string piece = tokenizer_.decode(token);
    const std::string shown = is_terminal_ ? texts_[text].add(piece) : piece;
    if (text == current_)
      out_ << shown << std::flush;
    else
      waiting_[text] += shown;
  }
  void move_on(const std::vector<Text>& texts) {
    while (current_ < texts.size() && texts[current_].is_done) {
      out_ << texts_[current_].end() << '\n';
      ++current_;
      begin();
    }
    examples::flush(out_);
  }

 private:
  void begin() {
    if (current_ < waiting_.size()) out_ << headings_[current_] << waiting_[current_];
  }
  std::ostream& out_;
  const Tokenizer& tokenizer_;
  std::vector<std::string> headings_, waiting_;
  std::vector<examples::TerminalText> texts_;
  std::size_t current_ = 0;
  bool is_terminal_ = examples::is_terminal(out_);  // elsewhere the text is kept as it is
};

/// All texts to their ends.
void write_texts(Session& session, std::vector<Text>& texts, std::vector<std::string> headings,
                 std::ostream& out, std::ostream& err) {
  using Clock = std::chrono::steady_clock;
  const auto seconds_since = [](Clock::time_point begin) {
    return std::chrono::duration<double>(Clock::now() - begin).count();
  };
  const auto snapshot = session.adapters.snapshot();
  Writer writer(out, session.tokenizer, std::move(headings));
  const Clock::time_point start = Clock::now();
  Clock::time_point last = start;
  std::size_t to_read = 0, read = 0, written = 0;
  for (const Text& text : texts) to_read += text.tokens.size() - text.computed;
  const auto is_open = [](const Text& text) { return !text.is_done; };
  double reading = 0;
  while (std::any_of(texts.begin(), texts.end(), is_open)) {
    const std::size_t before = written;
    step(session.engine, session.tokenizer, snapshot, texts, [&](std::size_t i, Token token) {
      writer.write(i, token);
      ++written;
    });
    writer.move_on(texts);
    if (written > before) {
      if (before == 0) reading = seconds_since(start);
      continue;
    }
    read += static_cast<std::size_t>(session.engine.max_rows());
    if (seconds_since(last) < 2) continue;
    last = Clock::now();
    err << fmt::format("reading: {} of {} tokens, {:.0f} s left\n", read, to_read,
                       seconds_since(start) * static_cast<double>(to_read - read) / static_cast<double>(read))
        << std::flush;
  }
  const double writing = seconds_since(start) - reading;
  err << fmt::format("{} tokens read in {:.2f} s, {} written in {:.2f} s ({:.1f} a second)\n", to_read,
                     reading, written, writing, static_cast<double>(written) / std::max(writing, 1e-9));
}

/// Lines of `in` are messages of one conversation, each answered.
void converse(Session& session, std::istream& in, std::ostream& out, std::ostream& err) {
  if (session.options.raw)
    throw std::invalid_argument("--raw needs --prompt: lines of the input are a conversation");
  const Chat chat = session.chat();
  const auto use = uses_of(session.options, session.adapters, 1)[0];
  std::vector<Text> texts;
  err << "> " << std::flush;
  for (std::string line; std::getline(in, line); err << "> " << std::flush) {
    if (line.empty()) continue;
    try {
      llama::check_utf8(line);  // here, where its bytes count from the line's beginning
      std::vector<Token> tokens;
      if (texts.empty()) {
        tokens = session.tokens_of(line);
      } else {
        tokens = texts[0].tokens;
        if (!session.tokenizer.is_end(tokens.back())) tokens.push_back(chat.end_of_turn());
        const std::vector<Token> next = chat.next(line);
        tokens.insert(tokens.end(), next.begin(), next.end());
      }
      session.check_length(tokens.size());
      if (texts.empty())
        texts.push_back(session.text(std::move(tokens), use, 0));
      else
        session.go_on(texts[0], std::move(tokens));
    } catch (const std::invalid_argument& error) {  // of this line alone
      err << examples::shown_error(error) << "; this line was left out\n";
      continue;
    }
    write_texts(session, texts, {""}, out, err);
  }
  err << '\n';
}

void answer(Session& session, std::ostream& out, std::ostream& err) {
  const Options& options = session.options;
  const auto uses = uses_of(options, session.adapters, options.prompts.size());
  std::vector<Text> texts;
  std::vector<std::string> headings;
  for (std::size_t i = 0; i < options.prompts.size(); ++i) {
    std::vector<Token> tokens = session.tokens_of(options.prompts[i]);
    session.check_length(tokens.size());
    texts.push_back(session.text(std::move(tokens), uses[i], i));
    headings.push_back(options.prompts.size() == 1 ? "" : fmt::format("== {}\n", options.prompts[i]));
  }
  write_texts(session, texts, std::move(headings), out, err);
}

}  // namespace

int run(int argc, const char* const* argv, std::istream& in, std::ostream& out, std::ostream& err) {
  Options options;
  CLI::App app("Runs a model of the Llama family, with any number of low-rank adapters at once.", "engine");
  app.add_option("model", options.model,
                 "GGUF file or Hugging Face folder: Llama, Mistral, Qwen 2 or Qwen 3, in any type")
      ->required()
      ->check(examples::any_path())
      ->type_name("MODEL");
  app.add_option("--prompt", options.prompts,
                 "what to answer; several are answered in one batch. Without it lines of the input are a "
                 "conversation")
      ->check(examples::utf8_text())
      ->type_name("TEXT")
      ->allow_extra_args(false);
  app.add_option("--adapter", options.adapters,
                 "an adapter, any number of them: GGUF, a native file or a PEFT folder; its name for --use "
                 "is the file's unless given")
      ->type_name("[NAME=]PATH")
      ->allow_extra_args(false);
  app.add_option("--use", options.uses,
                 "the adapter of a prompt, with a scale if wanted: once for all prompts or once for each; "
                 "\"none\" is none")
      ->type_name("NAME[:SCALE]")
      ->allow_extra_args(false);
  app.add_option("--order", options.order,
                 "of native files and PEFT folders, no default: order of the rows of q and k in the weights "
                 "that the adapter was trained on")
      ->check(CLI::IsMember({"hugging-face", "gguf"}))
      ->type_name("hugging-face|gguf");
  app.add_flag("!--no-check-finite", options.check_finite,
               "take adapters that have NaN or infinite parameters, which are refused otherwise");
  CLI::Option* system =
      app.add_option("--system", options.system, "system message instead of the model's own; \"\" for none")
          ->check(examples::utf8_text())
          ->type_name("TEXT");
  app.add_flag(
      "--raw", options.raw,
      "prompts are texts to continue, not messages of a chat; names of control tokens in them count");
  app.add_option("--tokens", options.tokens, "the most to write")
      ->check(examples::whole_from(1, 1 << 20))
      ->capture_default_str()
      ->type_name("N");
  app.add_option(
         "--context", options.context,
         "the most tokens that a text can have [2048, or what the model was trained for if that is less]")
      ->check(examples::whole_from(2, 1 << 20))
      ->type_name("N");
  app.add_option("--threads", options.threads, "threads")
      ->check(examples::count_of_threads())
      ->capture_default_str()
      ->type_name("N");
  app.add_option("--temperature", options.temperature, "0: always the likeliest token")
      ->check(examples::number_from(0, 100))
      ->capture_default_str()
      ->type_name("T");
  app.add_option("--seed", options.seed, "of the random choices; prompt number i has seed + i")
      ->check(examples::any_seed())
      ->capture_default_str()
      ->type_name("N");
  app.footer(
      "Examples:\n"
      "  engine model.gguf\n"
      "  engine model.gguf --prompt \"Why is the sky blue?\" --adapter a.gguf\n"
      "  engine model.gguf --adapter a.safetensors --adapter b.gguf --order gguf \\\n"
      "    --prompt \"Hello\" --use a --prompt \"Hello\" --use b:0.5 --prompt \"Hello\" --use none\n"
      "\n"
      "Exit codes: 0 done, 1 a file is wrong or cannot be read, 2 wrong usage.");
  return examples::run_command(app, argc, argv, out, err, [&] {
    options.has_system = system->count() > 0;
    for (const std::string& use : options.uses) parse_use(use);
    Session session(options, err);
    if (options.prompts.empty())
      converse(session, in, out, err);
    else
      answer(session, out, err);
    return success;
  });
}

}  // namespace engine
