// Which of a base model's weights an adapter is for.
#pragma once

#include <algorithm>      // min
#include <cstddef>        // size_t
#include <filesystem>     // path
#include <map>            // map
#include <optional>       // optional
#include <ostream>        // ostream
#include <string>         // string
#include <string_view>    // string_view
#include <unordered_map>  // unordered_map
#include <utility>        // exchange
#include <vector>         // vector

#include <fmt/format.h>
#include <tiedlora/io.hpp>

#include "adapters.hpp"
#include "refuse.hpp"

namespace adapter_tool {

using tiedlora::detail::in_quotes;
using tiedlora::safetensors::Dtype;

/// The module that a tensor is the weight of, and whether it is stored in × out.
struct Target {
  Index module = -1;
  bool transposed = false;
};
/// A base file, and by the names of its tensors what is merged into each.
struct BaseFile {
  std::filesystem::path path;
  tiedlora::safetensors::File file;
  std::map<std::string, Target> targets = {};
};

/// Whether the base itself says that its weights are in × out: by the type of model, or by GPT-2's c_attn,
/// which makes q, k and v of x. Nothing if it says neither.
inline std::optional<bool> base_is_in_x_out(const BaseModel& base, const std::vector<BaseFile>& files) {
  if (const auto* known = tiedlora::gguf::find_architecture(base.architecture)) return known->fan_in_fan_out;
  for (const BaseFile& file : files)
    for (const auto& tensor : file.file.tensors())
      if (tensor.name.ends_with("attn.c_attn.weight") && tensor.shape.size() == 2 &&
          tensor.shape[1] == 3 * tensor.shape[0])
        return true;
  return std::nullopt;
}

/// Which weights are stored in × out. What the base says takes precedence over what the adapter says, as in
/// PEFT; what the command line says must agree with both.
class Storage {
 public:
  Storage(const OpenAdapter& opened, const ModelOptions& options, const std::vector<BaseFile>& files)
      : said_(options.fan_in_fan_out || opened.source.fan_in_fan_out),
        base_(base_is_in_x_out(read_base(options.base), files)) {
    if (base_ == false && options.fan_in_fan_out)
      refuse(
          "--fan-in-fan-out says that the base's weights are in x out, but models of this type store them "
          "out x in; leave it out");
  }

  /// Of a GPT-2 only the Conv1Ds of its blocks are.
  bool is_in_x_out(const tiedlora::Module& module) const {
    if (!base_) return is_said(module);
    const auto& kind = module.kind;
    return *base_ && (kind == "c_attn" || kind == "q_attn" || kind == "c_proj" || kind == "c_fc");
  }
  /// By the adapter, or the command line.
  bool is_said(const tiedlora::Module& module) const { return said_ && module.kind != "lm_head"; }

 private:
  bool said_;
  std::optional<bool> base_;
};

/// Where the tensors of a base model are, by their names and by what follows each dot in them.
class WeightIndex {
 public:
  struct Place {
    BaseFile* file = nullptr;
    const tiedlora::safetensors::Tensor* tensor = nullptr;
  };

  explicit WeightIndex(std::vector<BaseFile>& files) {
    for (BaseFile& base : files)
      for (const auto& tensor : base.file.tensors()) {
        require_short(tensor.name, "the base model has a tensor");
        by_name_[tensor.name].push_back({&base, &tensor});
        by_part_[part_of(tensor.name)].push_back({&base, &tensor});
        tiedlora::detail::any_suffix(tensor.name, [&](std::string_view suffix) {
          if (suffix.size() < tensor.name.size()) by_suffix_[suffix].push_back({&base, &tensor});
          return false;
        });
      }
  }

  /// The weight of a module: its own name, or one that has more or fewer components before it (GPT-2's "h.0…"
  /// for "transformer.h.0…"). Null if there is none.
  Place find(const tiedlora::Module& module) const {
    require_short(module.name, "the adapter has a module");
    const std::string weight = module.name + ".weight", last = module.kind + ".weight";
    std::vector<Place> found;
    const auto collect = [&found](const auto& places, const auto& name) {
      if (const auto at = places.find(name); at != places.end())
        found.insert(found.end(), at->second.begin(), at->second.end());
    };
    collect(by_name_, std::string_view(weight));
    if (found.empty()) {
      collect(by_suffix_, std::string_view(weight));
      tiedlora::detail::any_suffix(weight, [&](std::string_view suffix) {
        if (suffix.size() < weight.size() && suffix.size() > last.size()) collect(by_name_, suffix);
        return false;
      });
    }
    if (found.empty()) collect(by_part_, part_of(weight));
    if (found.size() > 1)
      refuse(fmt::format("the base model has {} tensors that could be {}: {} and {}", found.size(),
                         in_quotes(weight), in_quotes(found[0].tensor->name),
                         in_quotes(found[1].tensor->name)));
    return found.empty() ? Place() : found[0];
  }

 private:
  static void require_short(std::string_view name, const char* whose) {
    constexpr std::size_t longest = tiedlora::detail::longest_module_name;
    if (name.size() > longest)
      refuse(fmt::format("{} whose name has {} bytes; at most {} are read: {}", whose, name.size(), longest,
                         in_quotes(name)));
  }

  // The name without the components that stand for the whole model or its language model, whose order differs
  // from version to version of transformers: "model.language_model.layers.0…",
  // "language_model.model.layers.0…".
  static std::string part_of(std::string_view name) {
    std::string part;
    while (!name.empty()) {
      const std::size_t end = std::min(name.find('.'), name.size());
      const std::string_view component = name.substr(0, end);
      if (component != "model" && component != "language_model")
        part += (part.empty() ? "" : ".") + std::string(component);
      name.remove_prefix(std::min(end + 1, name.size()));
    }
    return part;
  }

  std::unordered_map<std::string_view, std::vector<Place>> by_name_, by_suffix_;
  std::unordered_map<std::string, std::vector<Place>> by_part_;
};

/// Finds each adapted module's weight. Tells on `err` where names differ. Returns the modules for which the
/// base has none, where `partial`.
inline std::vector<std::string> match(const Adapter<float>& adapter, std::vector<BaseFile>& files,
                                      const Storage& storage, bool partial, std::ostream& err) {
  std::vector<std::string> left_out;
  bool told = false, told_storage = false;
  const WeightIndex weights(files);
  std::size_t matched = 0;
  for (Index m = 0; m < adapter.layout().size(); ++m) {
    if (adapter.layout().rank(m) == 0) continue;
    const tiedlora::Module& module = adapter.layout().modules()[m];
    const auto [found_in, found] = weights.find(module);
    if (!found) {
      left_out.push_back(module.name);
      continue;
    }
    const std::vector<Index> shape = {module.out_features, module.in_features};
    const std::vector<Index> swapped = {module.in_features, module.out_features};
    const bool transposed = storage.is_in_x_out(module);
    if (found->dtype == Dtype::other)
      refuse(fmt::format("{} is of type {}; only F64, F32, F16 and BF16 can be merged into{}",
                         in_quotes(found->name), found->dtype_name,
                         found->shape == shape || found->shape == swapped
                             ? ""
                             : ": is the base model quantised? Give the model that it was made from"));
    if (found->shape != (transposed ? swapped : shape))
      refuse(fmt::format("{} is {}, but the adapter is for {}x{} (out x in){}", in_quotes(found->name),
                         fmt::join(found->shape, "x"), module.out_features, module.in_features,
                         transposed ? ", stored in x out (fan_in_fan_out); wrong base model?"
                         : found->shape == swapped
                             ? "; is it a Conv1D, as in GPT-2? Then give --fan-in-fan-out"
                             : "; wrong base model?"));
    if (!found_in->targets.emplace(found->name, Target{m, transposed}).second)
      refuse(fmt::format("two modules of the adapter match the base model's {}", in_quotes(found->name)));
    ++matched;
    // Except for a Conv1D, PEFT itself silently overrules the adapter.
    if (transposed != storage.is_said(module) && (transposed || module.out_features == module.in_features) &&
        !std::exchange(told_storage, true))
      err << fmt::format(
          "note: {} is stored {}, whatever the adapter says; merged accordingly, and others likewise\n",
          in_quotes(found->name), transposed ? "in x out (GPT-2's Conv1D)" : "out x in");
    if (found->name == module.name + ".weight" || std::exchange(told, true)) continue;
    err << fmt::format("note: the adapter's {} is taken for the base model's {}, and others likewise\n",
                       in_quotes(module.name), in_quotes(found->name));
  }
  if (left_out.empty() || (partial && matched > 0)) return left_out;
  const bool head = left_out.front() == "lm_head" || left_out.front().ends_with(".lm_head");
  bool is_quantised = false;
  for (const BaseFile& base : files)
    for (const auto& tensor : base.file.tensors())
      is_quantised =
          is_quantised || tensor.name.ends_with(".qweight") || tensor.name.ends_with(".weight_packed");
  refuse(fmt::format(
      "the base model has no {}{}", in_quotes(left_out.front() + ".weight"),
      is_quantised ? ": it is quantised (.qweight, .weight_packed); give the model that it was made from"
      : head && matched > 0
          ? ": is it tied to the embedding? The adapter is lm_head's alone; save the base with "
            "tie_word_embeddings = false and a weight of its own, or leave lm_head out with --partial"
      : matched > 0 ? "; wrong base model? (--partial leaves out such modules)"
                    : "; wrong base model?"));
}

}  // namespace adapter_tool
