// The C++ half of peft_interop.py:
//   peft_interop apply FOLDER MODULES INPUTS OUTPUT [conv1d]  what the adapter in FOLDER adds, by module
//   peft_interop write MODEL OUTPUT                           adapters of our own in every form, and their ΔW
#include <cstdio>
#include <filesystem>
#include <list>
#include <string>
#include <string_view>
#include <tiedlora/io.hpp>
#include <tiedlora/tiedlora.hpp>
#include <vector>

#include "support/kernel_instances.hpp"

namespace {

using namespace tiedlora;

/// Tensors to write, with their values.
struct Output {
  std::vector<safetensors::Entry> entries = {};
  std::list<std::vector<float>> numbers = {};

  float* add(const std::string& name, Index rows, Index columns) {
    auto& values = numbers.emplace_back(static_cast<std::size_t>(rows * columns));
    entries.push_back({.name = name, .shape = {rows, columns}, .data = values.data()});
    return values.data();
  }
};

/// INPUTS has "x.WIDTH" (tokens, in); OUTPUT gets every adapted module's name (tokens, out).
int apply(const std::filesystem::path& folder, const ModuleList& modules, const std::filesystem::path& inputs,
          const std::filesystem::path& output) {
  const auto loaded = load_peft<float>(folder, modules);
  if (!loaded.report.unused.empty() || !loaded.report.missing.empty() || !loaded.report.notes.empty()) {
    std::fprintf(stderr, "%zu tensors unused, %zu missing %s\n", loaded.report.unused.size(),
                 loaded.report.missing.size(),
                 loaded.report.notes.empty() ? "" : loaded.report.notes[0].c_str());
    return 1;
  }
  const auto file = safetensors::open(inputs);
  Output result;
  for (Index m = 0; m < modules.size(); ++m) {
    const Module& module = modules[m];
    if (loaded.adapter.layout().rank(m) == 0) continue;
    const safetensors::Tensor& x = *file.find("x." + std::to_string(module.in_features));
    std::vector<float> numbers(static_cast<std::size_t>(x.count()));
    (void)safetensors::try_read(x, std::span(numbers));
    const Index tokens = x.shape[0], rank = loaded.adapter.layout().rank(m);
    std::vector<float> h(static_cast<std::size_t>(tokens * rank));
    forward(loaded.adapter.factors(m),
            Tokens<const float>{numbers.data(), module.in_features, tokens, module.in_features},
            Tokens<float>{result.add(module.name, tokens, module.out_features), module.out_features, tokens,
                          module.out_features},
            Tokens<float>{h.data(), rank, tokens, rank});
  }
  safetensors::save(output, result.entries);
  return 0;
}

/// q, k, v and gate, up of a layer read one x each: what the file does not tell.
ModuleList with_inputs(const ModuleList& found) {
  ModuleList modules;
  for (Module module : found) {
    if (module.layer < 0) continue;
    const auto is = [&](std::string_view kind) { return module.kind == kind; };
    module.input = is("q_proj") || is("k_proj") || is("v_proj") ? "attention"
                   : is("gate_proj") || is("up_proj")           ? "mlp"
                                                                : module.kind;
    modules.add(module);
  }
  return modules;
}

int write(const std::filesystem::path& model, const std::filesystem::path& output) {
  const ModuleList modules = with_inputs(model_modules(model));
  Scheme one_pair = schemes::vera();
  one_pair.A.trained = one_pair.B.trained = true;
  LayoutOptions uneven = {.scaling = 0.75};
  for (const Module& module : modules)
    if (module.kind == "down_proj") {
      uneven.ranks.emplace_back(module.name, module.layer == 1 ? 0 : 5);
      uneven.scalings.emplace_back(module.name, 1.5);
    }
  const PeftSaveOptions any = {.base_model = {}, .task_type = "CAUSAL_LM"};
  const auto save = [&](const char* name, const Scheme& scheme, const LayoutOptions& options,
                        const std::vector<std::pair<const char*, PeftSaveOptions>>& forms) {
    Adapter<float> adapter(Layout(modules, scheme, 3, options));
    std::uint64_t i = 0;
    for (float& x : adapter.trainable()) x = 0.4f * static_cast<float>(tiedlora::detail::uniform(9, i++));
    if (adapter.layout().frozen_count() > 0) {
      const auto trained = std::vector<float>(adapter.trainable().begin(), adapter.trainable().end());
      adapter.initialize(1);
      std::copy(trained.begin(), trained.end(), adapter.trainable().begin());
    }
    Output delta;
    for (Index m = 0; m < modules.size(); ++m) {
      const Module& module = modules[m];
      float* const w = delta.add(module.name, module.out_features, module.in_features);
      merge(adapter.factors(m),
            Weight<float>{w, module.out_features, module.in_features, module.in_features, 1});
    }
    safetensors::save(output / (std::string(name) + ".delta.safetensors"), delta.entries);
    for (const auto& [form, form_options] : forms) {
      const auto saved = save_peft(adapter, output / (std::string(name) + "." + form), form_options);
      std::printf("wrote %s.%s: %ju bytes, rank %td\n", name, form, saved.bytes, saved.rank);
    }
  };
  const auto with = [&any](auto change) {
    PeftSaveOptions options = any;
    change(options);
    return options;
  };
  const auto baked = any;
  const auto alpha = with([](auto& o) { o.scale = PeftScale::lora_alpha; });
  const auto stacked = with([](auto& o) { o.form = PeftForm::stacked; });
  const auto smallest = with([](auto& o) { o.form = PeftForm::smallest; });
  const auto vera = with([](auto& o) { o.form = PeftForm::vera; });
  const auto seeded = with([](auto& o) { o.form = PeftForm::vera, o.save_projection = false; });
  const auto half = with([](auto& o) { o.dtype = safetensors::Dtype::F16; });
  const auto bfloat16 = with([](auto& o) { o.dtype = safetensors::Dtype::BF16; });

  save("lora", schemes::lora(), {.scaling = 1.25},
       {{"baked", baked}, {"alpha", alpha}, {"f16", half}, {"bf16", bfloat16}, {"stacked", stacked}});
  save("uneven", schemes::lora(), uneven, {{"baked", baked}, {"alpha", alpha}, {"stacked", stacked}});
  save("tl5", schemes::tl5(), {.scaling = 0.5}, {{"baked", baked}, {"alpha", alpha}, {"stacked", stacked}});
  save("tl6", schemes::tl6(), {.scaling = 2},
       {{"baked", baked}, {"smallest", smallest}, {"stacked", stacked}});
  save("grouped", schemes::grouped(2), {}, {{"baked", baked}, {"stacked", stacked}});
  save("one_pair", one_pair, {.scaling = 1.5}, {{"baked", baked}, {"smallest", smallest}});
  save("vera", schemes::vera(4321), {.scaling = 1}, {{"baked", baked}, {"vera", vera}, {"seeded", seeded}});
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (words.size() >= 5 && words[0] == "apply")
    return apply(words[1], model_modules(words[2], {.fan_in_fan_out = words.size() == 6}), words[3],
                 words[4]);
  if (words.size() == 3 && words[0] == "write") return write(words[1], words[2]);
  std::fprintf(stderr, "called by peft_interop.py\n");
  return 2;
}
