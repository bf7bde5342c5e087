// train_step_bench: times steps of fine-tuning adapters on a frozen transformer, and steps without one.
//
// The variants take turns step by step, so that another program's load hits all of them alike. Prints a JSON
// object, which compare.py compares with PyTorch's.
#include <sys/resource.h>  // getrusage

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include <llama/float_copy.hpp>
#include <llama/gemm.hpp>

#include "../../../examples/validators.hpp"
#include "baselines/limits.hpp"
#include "random_base.hpp"
#include "train_step.hpp"

namespace {

#ifdef __clang__
const char* const compiler = __VERSION__;
#else
const char* const compiler = "GCC " __VERSION__;
#endif

using Json = nlohmann::ordered_json;
using train_step::Index;
using train_step::Problem;

struct Settings {
  Problem problem;
  std::string model = "toy", base = "f32", products = "f32";
  std::vector<std::string> variants = {"none", "lora", "tl6"};
  int threads = 2;
  int rounds = 10, warm_up = 2;
  std::string export_folder;
};

std::optional<tiedlora::Scheme> scheme_of(const std::string& variant) {
  if (variant == "none") return std::nullopt;
  if (variant == "lora") return tiedlora::schemes::lora();
  if (variant == "vera") return tiedlora::schemes::vera();
  if (variant == "tl5") return tiedlora::schemes::tl5();
  return tiedlora::schemes::tl6();
}

double seconds_of(const auto& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// Weights, tokens and targets for another program to compute the same loss from.
void export_problem(const std::string& folder, const llama::Weights<float>& weights,
                    const train_step::Text& text) {
  const auto write = [&](const char* name, const auto& values) {
    std::ofstream file(folder + "/" + name, std::ios::binary);
    file.write(reinterpret_cast<const char*>(values.data()),
               static_cast<std::streamsize>(values.size() * sizeof(*values.data())));
    if (!file) throw std::runtime_error("cannot write " + folder + "/" + name);
  };
  write("weights.f32", weights.values());
  write("tokens.i32", text.tokens);
  write("targets.i32", text.targets);
  Json entries = Json::array();
  for (const llama::WeightEntry& entry : weights.entries())
    entries.push_back({{"name", entry.name}, {"rows", entry.rows}, {"cols", entry.cols}});
  std::ofstream(folder + "/entries.json") << entries.dump(1) << '\n';
}

/// Where the frozen weights are: plain floats, or in the type of a file.
class Base {
 public:
  Base(const llama::Config& config, const std::string& type, bool bfloat16) {
    if (type == "f32") {
      floats_.emplace(config).initialize(1);
      model_ = floats_->model();
    } else {
      using enum llama::NumberType;
      model_ = quantised_.emplace(config, type == "q8_0" ? Q8_0 : Q4_1).model();
    }
    llama::for_weights(model_, [&](llama::Weight<float>& weight) { weight.in_bfloat16 = bfloat16; });
  }
  const llama::Model<float>& model() const { return model_; }
  const llama::Weights<float>& floats() const {
    if (!floats_) throw std::runtime_error("--export writes weights of --base f32 only");
    return *floats_;
  }

 private:
  std::optional<llama::Weights<float>> floats_;
  std::optional<train_step::RandomBase> quantised_;
  llama::Model<float> model_;
};

#ifdef LLAMA_PROFILE
/// FLOP/s of one core while all cores of the pool are busy.
double peak(llama::ThreadPool& pool) {
  constexpr std::size_t calls = 400000;
  std::vector<double> rounds;
  for (int round = 0; round < 9; ++round)
    rounds.push_back(seconds_of([&] { pool.parallel([](int, int) { bench::multiply_add_loop(calls); }); }));
  std::nth_element(rounds.begin(), rounds.begin() + 4, rounds.end());
  return bench::multiply_add_flops(calls) / rounds[4];
}

/// Seconds of a step by part, summed over threads.
Json profile(llama::ThreadPool& pool, train_step::TrainStep& step, int rounds) {
  using llama::Stopwatch;
  std::vector<Stopwatch::Seconds> threads(static_cast<std::size_t>(pool.size()));
  const auto take = [&] {
    pool.parallel([&](int ith, int) { threads[static_cast<std::size_t>(ith)] = Stopwatch::mine().take(); });
  };
  take();
  for (int round = 0; round < rounds; ++round) step.run();
  take();
  Json result;
  for (std::size_t part = 0; part < llama::part_names.size(); ++part) {
    double sum = 0;
    for (const Stopwatch::Seconds& seconds : threads) sum += seconds[part] / rounds;
    result[std::string(llama::part_names[part])] = sum;
  }
  return result;
}
#endif

Json measure(const Settings& settings) {
  const Problem& problem = settings.problem;
  llama::ThreadPool pool(settings.threads);
  const Base base(problem.config, settings.base, settings.products == "bf16");
  const train_step::Text text(problem);
  if (!settings.export_folder.empty()) export_problem(settings.export_folder, base.floats(), text);

  struct Variant {
    std::string name;
    std::unique_ptr<train_step::TrainStep> step;
    Json seconds = Json::array();
    double first_loss = 0;
  };
  std::vector<Variant> variants;
  for (const std::string& name : settings.variants)
    variants.push_back(
        {name, std::make_unique<train_step::TrainStep>(problem, scheme_of(name), base.model(), text, pool)});

  for (Variant& variant : variants) {  // the first step of each allocates
    variant.first_loss = variant.step->run();
    for (int step = 1; step < settings.warm_up; ++step) variant.step->run();
  }
  for (int round = 0; round < settings.rounds; ++round)
    for (Variant& variant : variants) variant.seconds.push_back(seconds_of([&] { variant.step->run(); }));

  Json profiles;
#ifdef LLAMA_PROFILE
  for (Variant& variant : variants) profiles[variant.name] = profile(pool, *variant.step, settings.rounds);
#endif

  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  Json result = {{"kernels", tiedlora::kernel_isa()},
                 {"compiler", compiler},
                 {"threads", settings.threads},
                 {"peak_rss_bytes", std::int64_t{usage.ru_maxrss} * 1024}};
#ifdef LLAMA_PROFILE
  result["peak_flops"] = peak(pool);
#endif
  for (Variant& variant : variants) {
    const train_step::TrainStep& step = *variant.step;
    result["variants"][variant.name] = {{"seconds", std::move(variant.seconds)},
                                        {"loss", variant.first_loss},
                                        {"activation_bytes", step.activation_bytes()},
                                        {"trained", step.trained_count()},
                                        {"frozen", step.frozen_count()}};
    if (!profiles.is_null()) result["variants"][variant.name]["profile"] = profiles[variant.name];
  }
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  Problem& problem = settings.problem;
  CLI::App app("Times steps of fine-tuning adapters on a frozen transformer, and steps without one.",
               "train_step_bench");
  app.option_defaults()->always_capture_default();
  const auto names = CLI::IsMember({"none", "lora", "vera", "tl5", "tl6"});
  app.add_option("--variants", settings.variants, "adapters to train; none: a step without")
      ->delimiter(',')
      ->check(names);
  app.add_option("--model", settings.model, "toy (width 128) or 135m (the sizes of SmolLM2-135M)")
      ->check(CLI::IsMember({"toy", "135m"}));
  Index layers = 0;
  bool recompute = false;
  app.add_option("--layers", layers, "0: the model's")->check(examples::whole_from(0, 1000));
  app.add_option("--rank", problem.rank)->check(examples::any_rank());
  app.add_option("--base", settings.base, "type of the frozen weights")
      ->check(CLI::IsMember({"f32", "q8_0", "q4_1"}));
  app.add_option("--products", settings.products, "operands of products with the frozen weights")
      ->check(CLI::IsMember({"f32", "bf16"}));
  app.add_flag("--recompute", recompute, "keep only the layers' inputs and recompute the rest");
  app.add_option("--targets", problem.targets, "adapted modules; all: the seven of a layer")->delimiter(',');
  app.add_option("--sequences", problem.sequences)->check(examples::whole_from(1, 65536));
  app.add_option("--length", problem.length, "tokens of a sequence")->check(examples::whole_from(1, 65536));
  app.add_option("--threads", settings.threads)->check(examples::count_of_threads());
  app.add_option("--rounds", settings.rounds, "steps of each variant that are timed")
      ->check(examples::whole_from(0, 1'000'000));
  app.add_option("--warm-up", settings.warm_up, "steps of each variant before: at least one")
      ->check(examples::positive_count());
  app.add_option("--export", settings.export_folder, "folder for the weights and the text");
  CLI11_PARSE(app, argc, argv);

  if (settings.model == "135m")
    problem.config = {.vocabulary = 49152,
                      .width = 576,
                      .layers = 30,
                      .heads = 9,
                      .kv_heads = 3,
                      .feed_forward = 1536,
                      .rope_base = 100000};
  if (settings.products == "bf16" && !llama::has_bfloat16_products()) {
    std::fputs("train_step_bench: --products bf16 needs oneDNN and a processor with AVX512_BF16 or AMX\n",
               stderr);
    return 1;
  }
  if (layers > 0) problem.config.layers = layers;
  if (recompute) problem.keep = llama::Keep::inputs;
  if (problem.targets == std::vector<std::string>{"all"})
    problem.targets = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};
  try {
    std::puts(measure(settings).dump().c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "train_step_bench: %s\n", error.what());
    return 1;
  }
  return 0;
}
