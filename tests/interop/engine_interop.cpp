// The C++ half of engine_interop.py.
//   engine_interop write FOLDER   adapters for SmolLM2-135M, each as a native file and as GGUF for llama.cpp
//   engine_interop run MODEL      from the input {"texts": [...], "jobs": [{"adapter", "order", "prompt",
//                                 "answer"}]}: the tokens of each text and, for every token of each answer,
//                                 the ten best [token, log-probability] at its place
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <engine/engine.hpp>
#include <filesystem>
#include <iostream>
#include <llama/base_adapter.hpp>
#include <llama/base_model.hpp>
#include <nlohmann/json.hpp>
#include <numeric>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tiedlora/io.hpp>
#include <tiedlora/tiedlora.hpp>

#include "smollm2.hpp"

namespace {

using namespace tiedlora;
using nlohmann::json;

/// Every factor random: A as it starts, u and v around one, B so small that the model still writes English.
Adapter<float> trained(const Scheme& scheme, Index rank, std::uint64_t seed) {
  Scheme random = scheme;
  random.B.init = init::normal(0.04);
  if (random.u) random.u->init = init::normal(1);
  if (random.v) random.v->init = init::normal(1);
  const Layout layout(smollm2(), random, rank, {.scaling = 2});
  AlignedArray<float> trainable(layout.trainable_count()), frozen(layout.frozen_count());
  for (const FactorId id : all_factors)
    if (layout.scheme().find(id))
      tiedlora::detail::fill_factor(layout, id, seed,
                                    layout.is_trained(id) ? trainable.data() : frozen.data());
  return Adapter<float>(layout, std::move(trainable), std::move(frozen));
}

void write(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  const auto save = [&folder](const char* name, const Adapter<float>& adapter, gguf::Order order) {
    save_adapter(folder / (std::string(name) + ".safetensors"), adapter);
    export_gguf(adapter, folder / (std::string(name) + ".gguf"),
                gguf::llama({.heads = 9, .kv_heads = 3, .weights = order}));
  };
  save("lora", trained(schemes::lora(), 32, 1), gguf::Order::gguf);
  save("tied", trained(schemes::tied_lora(), 16, 2), gguf::Order::gguf);
  save("tied_hugging_face", trained(schemes::tied_lora(), 16, 3), gguf::Order::hugging_face);
  save("vera_hugging_face", trained(schemes::vera(), 16, 4), gguf::Order::hugging_face);
}

json best_of(std::span<const float> logits) {
  const float largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit - largest));
  std::vector<int> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::partial_sort(order.begin(), order.begin() + 10, order.end(), [&](int a, int b) {
    return logits[static_cast<std::size_t>(a)] > logits[static_cast<std::size_t>(b)];
  });
  json best = json::array();
  for (const int token : std::span(order).first(10))
    best.push_back({token, logits[static_cast<std::size_t>(token)] - largest - std::log(sum)});
  return best;
}

/// The prompt in batches, then the answer token by token, as one would write it.
json score(engine::Engine& engine, const llama::BaseModel& model, const json& job) {
  const auto prompt = job.at("prompt").get<std::vector<int>>(),
             answer = job.at("answer").get<std::vector<int>>();
  AdapterSet<float> set(llama::all_modules(model.model().config));
  AdapterId adapter = no_adapter;
  if (!job.at("adapter").is_null()) {
    const auto order = job.value("order", "gguf") == "gguf" ? gguf::Order::gguf : gguf::Order::hugging_face;
    std::vector<std::string> notes;
    adapter = set.add(llama::load_adapter(job.at("adapter").get<std::string>(), model, notes, order));
    if (!notes.empty()) throw std::runtime_error(notes.front());  // these files lose nothing
  }
  engine::KvCache cache(model.model().config, engine.context());
  json result = json::array();
  Index position = 0;
  const auto forward = [&](std::span<const int> tokens) {
    std::vector<engine::Row> rows;
    for (const int token : tokens) rows.push_back({token, position++, &cache, false});
    rows.back().wants_logits = true;
    const std::vector<TokenAdapter> uses(rows.size(), {.adapter = adapter});
    return engine.forward(rows, BatchPlan<float>(set.snapshot(), uses));
  };
  for (std::size_t i = 0; i < prompt.size(); i += 64) {
    const auto logits = forward(std::span(prompt).subspan(i, std::min<std::size_t>(64, prompt.size() - i)));
    if (i + 64 >= prompt.size()) result.push_back(best_of(logits));
  }
  for (std::size_t i = 0; i + 1 < answer.size(); ++i)
    result.push_back(best_of(forward(std::span(answer).subspan(i, 1))));
  return result;
}

void run(const char* path) {
  const llama::BaseModel model(path);
  const llama::Tokenizer tokenizer = model.tokenizer();
  engine::Engine engine(model.model(), 1, 512, 64);
  const json input = json::parse(std::cin);
  json output = {{"texts", json::array()}, {"jobs", json::array()}};
  for (const json& text : input.at("texts"))
    output["texts"].push_back(tokenizer.encode(text.get<std::string>(), true));
  for (const json& job : input.at("jobs")) output["jobs"].push_back(score(engine, model, job));
  std::cout << output << std::endl;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::string_view(argv[1]) == "write")
    write(argv[2]);
  else if (argc == 3 && std::string_view(argv[1]) == "run")
    run(argv[2]);
  else
    return 2;
}
