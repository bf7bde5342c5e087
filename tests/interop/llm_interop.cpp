// The C++ half of llm_interop.py.
//   llm_interop write MODEL FOLDER   adapters for the model, each as finetune saves what it trained
//   llm_interop run MODEL            from the input {"texts": [...], "adapters": [folder or null, ...]}: the
//   tokens of each
//                                    text; by adapter the mean loss of all texts and the log-probability of
//                                    every token after a text's first; and in each adapter's folder
//                                    gradients.safetensors
#include <Eigen/Core>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <finetune/data/batches.hpp>
#include <finetune/tune/base.hpp>
#include <finetune/tune/outputs.hpp>
#include <finetune/tune/tuner.hpp>
#include <iostream>
#include <list>
#include <llama/modules.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <tiedlora/io/safetensors.hpp>
#include <vector>

namespace {

using namespace finetune;
using nlohmann::json;

/// Every factor random: A as it starts, u and v normal, B so small that the model still writes English.
Adapter random_adapter(const llama::Config& config, tiedlora::Scheme scheme, Index rank, double scaling,
                       std::uint64_t seed) {
  scheme.B.init = tiedlora::init::normal(0.02);
  if (scheme.u) scheme.u->init = tiedlora::init::normal(1);
  if (scheme.v) scheme.v->init = tiedlora::init::normal(1);
  Adapter adapter(
      tiedlora::Layout(llama::modules(config, all_targets()), scheme, rank, {.scaling = scaling}));
  // Not initialize(), which refuses a scheme that changes the model before the first step.
  for (const tiedlora::FactorId id : tiedlora::all_factors)
    if (scheme.find(id))
      tiedlora::detail::fill_factor(adapter.layout(), id, seed, adapter.trainable().data());
  return adapter;
}

void write(const std::filesystem::path& path, const std::filesystem::path& folder) {
  const TuneBase base(ModelOptions{.path = path});
  save_adapter_files(folder / "lora", base, random_adapter(base.config(), tiedlora::schemes::lora(), 8, 2, 1),
                     "SmolLM2-135M");
  save_adapter_files(folder / "tl6", base,
                     random_adapter(base.config(), tiedlora::schemes::tl6(), 16, 0.5, 2), "SmolLM2-135M");
}

/// As finetune reads a {"text": ...}.
Example example_of(const TuneBase& base, const std::string& text) {
  Example example;
  if (base.tokenizer().adds_bos()) example.tokens.push_back(base.tokenizer().bos().value());
  for (const llama::Token token : base.tokenizer().encode(text, /*special=*/false))
    example.tokens.push_back(token);
  example.tokens.push_back(base.tokenizer().eos().value());
  example.counted.assign(example.tokens.size(), true);
  example.counted[0] = false;
  return example;
}

json log_probabilities(LanguageModel& model, const TuneBase& base, const Adapter* adapter,
                       const Example& example) {
  const Index vocabulary = base.config().vocabulary, count = static_cast<Index>(example.tokens.size()) - 1;
  Eigen::MatrixXf logits(vocabulary, count);
  model.logits(base.model(), adapter, example.tokens.data(), 1, count, logits.data());
  json result = json::array();
  for (Index t = 0; t < count; ++t) {
    const Eigen::ArrayXd column = logits.col(t).cast<double>();
    const double largest = column.maxCoeff();
    result.push_back(column[example.tokens[static_cast<std::size_t>(t) + 1]] - largest -
                     std::log((column - largest).exp().sum()));
  }
  return result;
}

/// Each factor's groups as tensors, "A.3" and "grad.A.3", and which group each module has.
json save_gradients(const std::filesystem::path& path, const Adapter& adapter,
                    const tiedlora::Gradients<float>& gradients) {
  using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using tiedlora::FactorId;
  const tiedlora::Layout& layout = adapter.layout();
  std::vector<tiedlora::safetensors::Entry> entries;
  std::list<RowMajor> numbers;
  const auto add = [&](const std::string& name, const auto& matrix) {
    const RowMajor& copy = numbers.emplace_back(matrix);
    entries.push_back({.name = name, .shape = {copy.rows(), copy.cols()}, .data = copy.data()});
  };
  json groups = json::object();
  for (const FactorId id : tiedlora::all_factors) {
    if (!layout.scheme().find(id)) continue;
    const std::string name = to_string(id);
    std::vector<bool> has(layout.groups(id).size());
    for (Index m = 0; m < layout.size(); ++m) {
      const Index g = layout.group_index(id, m);
      groups[name].push_back(g);
      const tiedlora::Module& module = layout.modules()[m];
      const Index features = id == FactorId::A   ? module.in_features
                             : id == FactorId::u ? 1
                                                 : module.out_features;
      if (has[static_cast<std::size_t>(g)] || features < layout.group(id, m)->features) continue;
      has[static_cast<std::size_t>(g)] = true;
      const std::string tensor = name + "." + std::to_string(g);
      if (id == FactorId::A) add(tensor, adapter.A(m)), add("grad." + tensor, gradients.A(m));
      if (id == FactorId::B) add(tensor, adapter.B(m)), add("grad." + tensor, gradients.B(m));
      if (id == FactorId::u) add(tensor, adapter.u(m)), add("grad." + tensor, gradients.u(m));
      if (id == FactorId::v) add(tensor, adapter.v(m)), add("grad." + tensor, gradients.v(m));
    }
  }
  tiedlora::safetensors::save(path, entries);
  json modules = json::array();
  for (const tiedlora::Module& module : layout.modules()) modules.push_back(module.name);
  return {{"modules", modules}, {"groups", groups}, {"scaling", layout.scaling()}};
}

void run(const std::filesystem::path& path) {
  TuneBase base(ModelOptions{.path = path});
  LanguageModel model(base.config(), base.pool());
  const json input = json::parse(std::cin);
  std::vector<Example> examples;
  json output = {{"texts", json::array()}, {"adapters", json::array()}};
  Index tokens = 0;
  for (const json& text : input.at("texts")) {
    examples.push_back(example_of(base, text.get<std::string>()));
    output["texts"].push_back(examples.back().tokens);
    tokens += static_cast<Index>(examples.back().tokens.size());
  }
  const TokenBatch batch = in_order(examples, tokens).at(0);
  const llama::Batch view = {
      .tokens = batch.tokens.data(), .targets = batch.targets.data(), .lengths = batch.lengths};
  for (const json& folder : input.at("adapters")) {
    json& result = output["adapters"].emplace_back(json::object());
    if (folder.is_null()) {
      result["loss"] = model.evaluate(base.model(), nullptr, view);
      for (const Example& example : examples)
        result["texts"].push_back(log_probabilities(model, base, nullptr, example));
      continue;
    }
    const std::filesystem::path at = folder.get<std::string>();
    const Adapter adapter = base.load_adapter(at / "adapter.safetensors");
    tiedlora::Gradients<float> gradients(adapter.layout());
    result["loss"] = model.forward(base.model(), &adapter, view);
    model.backward(base.model(), &adapter, view, nullptr, &gradients);
    result.update(save_gradients(at / "gradients.safetensors", adapter, gradients));
    for (const Example& example : examples)
      result["texts"].push_back(log_probabilities(model, base, &adapter, example));
  }
  std::cout << output << std::endl;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc == 4 && std::string_view(argv[1]) == "write")
      write(argv[2], argv[3]);
    else if (argc == 3 && std::string_view(argv[1]) == "run")
      run(argv[2]);
    else
      return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "llm_interop: %s\n", error.what());
    return 1;
  }
}
