// Token times of examples/engine, for compare.py, which alternates between it and llama.cpp:
//   engine_bench MODEL THREADS [FOLDER]
// makes random LoRA and TL6 adapters of ranks 8, 16 and 32 on all linear layers and writes the LoRAs to
// FOLDER as GGUF. Each line of the input names one ("none", "lora 8", "tl6 16"); the answer is milliseconds
// per token.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <engine/engine.hpp>
#include <exception>
#include <filesystem>
#include <iostream>
#include <llama/gguf_model.hpp>
#include <llama/modules.hpp>
#include <map>
#include <string>
#include <tiedlora/io.hpp>
#include <tiedlora/tiedlora.hpp>

namespace {

using namespace tiedlora;

constexpr Index prompt_tokens = 16, tokens = 24;  // compare.py's too

/// All factors random: a zero B would cost as much, but say nothing.
Adapter<float> random_adapter(const ModuleList& modules, const Scheme& scheme, Index rank) {
  Adapter<float> adapter(Layout(modules, scheme, rank));
  adapter.initialize(1);
  std::uint32_t state = 1;
  for (float& number : adapter.trainable()) {
    state = state * 1664525u + 1013904223u;
    number = (static_cast<float>(state >> 8) * 0x1p-24f - 0.5f) * 0.02f;
  }
  return adapter;
}

/// Milliseconds per token, one after another, following a short prompt.
double measure(engine::Engine& engine, const llama::Config& config, const AdapterSnapshot<float>& adapters,
               AdapterId id) {
  using Clock = std::chrono::steady_clock;
  engine::KvCache cache(config, engine.context());
  std::vector<engine::Row> rows;
  for (Index i = 0; i < prompt_tokens; ++i)
    rows.push_back({static_cast<std::int32_t>(500 + 37 * i), i, &cache, i + 1 == prompt_tokens});
  std::vector<TokenAdapter> uses(rows.size(), {.adapter = id});
  auto logits = engine.forward(rows, BatchPlan<float>(adapters, uses));
  const Clock::time_point start = Clock::now();
  for (Index i = 0; i < tokens; ++i) {
    const auto token = std::max_element(logits.begin(), logits.end()) - logits.begin();
    rows.assign(1, {static_cast<std::int32_t>(token), prompt_tokens + i, &cache, true});
    logits = engine.forward(rows, BatchPlan<float>(adapters, std::span(uses).first(1)));
  }
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count() /
         static_cast<double>(tokens);
}

void serve(int argc, char** argv) {
  const llama::GgufModel file(argv[1]);
  const llama::Model<float>& model = file.model();
  engine::Engine engine(model, std::stoi(argv[2]), prompt_tokens + tokens, prompt_tokens);
  AdapterSet<float> set(llama::all_modules(model.config));
  std::map<std::string, AdapterId> ids = {{"none", no_adapter}};
  for (const Index rank : {8, 16, 32}) {
    const auto lora = random_adapter(set.modules(), schemes::lora(), rank);
    if (argc > 3)
      export_gguf(lora, std::filesystem::path(argv[3]) / ("lora-" + std::to_string(rank) + ".gguf"),
                  gguf::llama({.weights = gguf::Order::gguf}));
    ids["lora " + std::to_string(rank)] = set.add(Adapter<float>(lora));
    ids["tl6 " + std::to_string(rank)] = set.add(random_adapter(set.modules(), schemes::tl6(), rank));
  }
  std::cout << kernel_isa() << std::endl;
  for (std::string line; std::getline(std::cin, line);)
    std::cout << measure(engine, model.config, set.snapshot(), ids.at(line)) << std::endl;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc != 3 && argc != 4) throw std::invalid_argument("usage: engine_bench MODEL THREADS [FOLDER]");
    serve(argc, argv);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "engine_bench: %s\n", error.what());
    return 1;
  }
}
