#include "base.hpp"

#include <algorithm>    // min
#include <set>          // set
#include <stdexcept>    // runtime_error
#include <string_view>  // string_view
#include <vector>       // vector

#include <fmt/ranges.h>                 // join
#include <finetune/data/files.hpp>      // fnv1a
#include <finetune/data/text_data.hpp>  // size_text
#include <llama/adapter_map.hpp>
#include <llama/base_adapter.hpp>
#include <llama/modules.hpp>          // all_modules
#include <tiedlora/adapter/hash.hpp>  // Xxh64

#include "memory.hpp"  // available_memory

namespace finetune {

namespace {

/// Says which modules the adapter leaves as they are, of the kinds that it adapts in other layers.
void say_left_out(const std::filesystem::path& path, const llama::Config& config,
                  const tiedlora::Layout& layout) {
  const auto rank = [&](const tiedlora::Module& module) {
    const auto m = layout.modules().try_find(module.name);
    return m ? layout.rank(*m) : 0;
  };
  const tiedlora::ModuleList modules = llama::all_modules(config);
  std::set<std::string> kinds;
  for (const tiedlora::Module& module : modules)
    if (rank(module) > 0) kinds.insert(module.kind);
  std::string first;
  Index count = 0;
  for (const tiedlora::Module& module : modules)
    if (kinds.contains(module.kind) && rank(module) == 0 && count++ == 0) first = module.name;
  if (count > 0)
    fmt::print(
        "Warning: \"{}\" adapts nothing in {} of the modules whose kind it adapts in other layers: {}{}\n",
        path.string(), count, first, count > 1 ? " and others" : "");
}

std::optional<llama::Chat> chat_or_problem(const llama::BaseModel& file, const llama::Tokenizer& tokenizer,
                                           std::string& problem) {
  try {
    return file.chat(tokenizer);
  } catch (const std::runtime_error& error) {
    problem = error.what();
    return std::nullopt;
  }
}

}  // namespace

TuneBase::TuneBase(const ModelOptions& options)
    : file_(options.path),
      pool_(options.threads),
      tokenizer_(file_.tokenizer()),
      chat_(chat_or_problem(file_, tokenizer_, chat_problem_)),
      model_(file_.model()) {
  if (options.float_base) {
    const Index bytes = llama::FloatCopy::bytes(file_.model());
    if (const auto available = available_memory(); available && bytes > *available)
      throw std::runtime_error(
          fmt::format("--base-type f32: the copy takes {}, and {} are free; leave it out",
                      size_text(double(bytes)), size_text(double(*available))));
    copy_ = std::make_unique<llama::FloatCopy>(file_.model(), pool_);
    model_ = copy_->model();
  }
  if (!options.bfloat16) return;
  if (!llama::has_bfloat16_products())
    throw std::invalid_argument(
        "--products bf16: this processor has no products of bfloat16 (AVX-512 BF16), or the program was "
        "built "
        "without oneDNN; leave it out");
  llama::for_weights(model_, [](llama::Weight<float>& weight) { weight.in_bfloat16 = true; });
}

DataOptions TuneBase::with_window(DataOptions reading, Index batch_tokens) const {
  if (reading.window == 0) reading.window = std::min({default_window, batch_tokens, file_.context()});
  if (reading.window > file_.context())
    throw std::invalid_argument(
        fmt::format("--window: {} tokens are more than the {} that the model was made for", reading.window,
                    file_.context()));
  return reading;
}

Index TuneBase::weight_bytes() const {
  Index bytes = 0;
  auto model = file_.model();
  llama::for_weights(model, [&](const llama::Weight<float>& weight) {
    bytes += weight.out * llama::bytes_of(weight.type, weight.in);
  });
  return bytes;
}

std::string TuneBase::types() const {
  std::set<std::string> names;
  auto model = file_.model();
  llama::for_weights(model, [&](const llama::Weight<float>& weight) {
    names.insert(std::string(llama::info(weight.type).name));
  });
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

std::uint64_t TuneBase::fingerprint() const {
  std::uint64_t hash = fnv1a(file_.architecture());
  auto model = file_.model();
  std::vector<float> row;
  llama::for_weights(model, [&](const llama::Weight<float>& weight) {
    row.resize(static_cast<std::size_t>(weight.in));
    for (Index i = 0; i < std::min<Index>(weight.out, 4); ++i) {
      weight.copy(weight.out * i / 4, 0, weight.in, row.data());
      hash = fnv1a({reinterpret_cast<const char*>(row.data()), row.size() * sizeof(float)}, hash);
    }
    hash = fnv1a(fmt::format("{}x{}", weight.out, weight.in), hash);
  });
  const llama::Config& c = config();
  const auto numbers = [&](const float* values, Index count) {
    if (values)
      hash = fnv1a({reinterpret_cast<const char*>(values), static_cast<std::size_t>(count) * sizeof(float)},
                   hash);
  };
  for (const auto& layer : model.layers) {
    numbers(layer.attention_norm, c.width), numbers(layer.mlp_norm, c.width);
    numbers(layer.q_norm, c.head_width()), numbers(layer.k_norm, c.head_width());
    numbers(layer.qkv_bias[0], c.q_width());
    numbers(layer.qkv_bias[1], c.kv_width()), numbers(layer.qkv_bias[2], c.kv_width());
  }
  numbers(model.final_norm, c.width);
  return fnv1a(fmt::format("{} {} {} {} {} {}", c.heads, c.kv_heads, c.rope_base,
                           fmt::join(c.rope_divisors, ","), c.norm_epsilon, tokenizer_.size()),
               hash);
}

std::uint64_t TuneBase::weights_hash() const {
  tiedlora::detail::Xxh64 hash;
  auto model = file_.model();
  llama::for_weights(model, [&](const llama::Weight<float>& weight) {
    const auto* plain = reinterpret_cast<const std::byte*>(weight.numbers);
    const Index row =
        plain ? weight.in * static_cast<Index>(sizeof(float)) : bytes_of(weight.type, weight.in);
    hash.add({plain ? plain : weight.rows, static_cast<std::size_t>(weight.out * row)});
  });
  return hash.value();
}

tiedlora::Adapter<float> TuneBase::load_adapter(const std::filesystem::path& path) const {
  std::vector<std::string> notes;
  tiedlora::Adapter<float> adapter = llama::load_adapter(path, file_, notes);
  for (const std::string& note : notes) fmt::print("Note: {}\n", note);
  try {
    llama::AdapterMap(config(), adapter.layout());
  } catch (const tiedlora::Error& error) {
    throw std::runtime_error(
        fmt::format("\"{}\" does not fit \"{}\": {}", path.string(), file_.path().string(), error.what()));
  }
  say_left_out(path, config(), adapter.layout());
  return adapter;
}

}  // namespace finetune
