// Which of a folder's tensors are for which of the host's modules.
#pragma once

#include <algorithm>         // equal
#include <cstddef>           // size_t
#include <initializer_list>  // initializer_list
#include <string>            // string, to_string
#include <string_view>       // string_view
#include <unordered_map>     // unordered_map
#include <vector>            // vector

#include "../../adapter/modules.hpp"
#include "../../adapter/name_map.hpp"
#include "../../adapter/quote.hpp"
#include "../../adapter/result.hpp"
#include "../../views/config.hpp"
#include "../../views/error.hpp"
#include "../safetensors/file.hpp"
#include "config.hpp"
#include "folder.hpp"
#include "match.hpp"
#include "tensors.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// What became of the tensors, by their names in the file.
struct PeftReport {
  std::vector<std::string> used = {};  ///< applied
  /// Of modules that the host's list does not have, and what PeftLoadOptions::partial left out. A program
  /// that applies the rest must say so, or refuse.
  std::vector<std::string> unused = {};
  std::vector<std::string> missing = {};  ///< of modules of the host's that the config targets
  /// Copies of the base model's own weights beside an adapter (PEFT saves lm_head's with the adapter's). They
  /// were not applied: where they differ from the base's, the adapter belongs to those.
  std::vector<std::string> base_weights = {};
  std::vector<std::string> notes = {};  ///< what was passed over or left out, and why, in words
};

namespace detail {

/// Which tensors belong to which of the host's modules.
struct PeftMatch {
  std::vector<const PeftModule*> of_module = {};  ///< by module of the list; null: not adapted
  PeftReport report = {};
};

inline Result<PeftMatch> try_match_peft(const PeftFolder& folder, const ModuleList& modules,
                                        const NameMap& map) {
  PeftMatch match;
  match.of_module.resize(static_cast<std::size_t>(modules.size()));
  std::vector<std::string> names;
  std::unordered_map<std::string_view, Index> index_of;
  names.reserve(match.of_module.size());  // the views in index_of stay
  std::size_t characters = 0;
  for (const Module& module : modules) {
    names.push_back(map.to_file(module.name).value_or(module.name));
    characters += names.back().size() + 1;
    const auto [other, is_new] = index_of.try_emplace(names.back(), static_cast<Index>(names.size()) - 1);
    if (!is_new)
      return Failure{message("modules ", in_quotes(modules[other->second].name), " and ",
                             in_quotes(module.name), " map to the same PEFT name, ",
                             in_quotes(names.back()))};
  }
  PeftReport& report = match.report;
  report.notes = folder.config.notes;
  for (const auto& [name, reason] : folder.tensors.left_out) {
    report.unused.push_back(name);
    report.notes.push_back(message("left out: ", in_quotes(name), ": ", reason));
  }
  for (const safetensors::Tensor* weight : folder.tensors.base_weights)
    report.base_weights.push_back(weight->name);
  for (const PeftModule& module : folder.tensors.modules) {
    const auto found = index_of.find(module.name);
    if (found != index_of.end()) match.of_module[static_cast<std::size_t>(found->second)] = &module;
    auto& list = found != index_of.end() ? report.used : report.unused;
    list.push_back(module.inner->name);
    list.push_back(module.outer->name);
  }
  if (report.used.empty())
    return Failure{message("none of the ", folder.tensors.modules.size(),
                           " modules that it adapts (the first is ",
                           in_quotes(folder.tensors.modules.front().name), ") is among the ", modules.size(),
                           " in the host's list", names.empty() ? "" : " (the first is called ",
                           names.empty() ? "" : in_quotes(names.front()), names.empty() ? "" : ")",
                           "; wrong base model, or names that need PeftLoadOptions::names?")};
  for (const auto* shared : {folder.tensors.A, folder.tensors.B})
    if (shared) report.used.push_back(shared->name);

  const Result<PeftTargetMatcher> targeted = PeftTargetMatcher::try_make(folder.config, characters);
  if (!targeted) return match;  // a note says so
  for (std::size_t m = 0; m < names.size(); ++m) {
    if (match.of_module[m] || !(*targeted)(names[m])) continue;
    const PeftSuffixes& suffixes = peft_suffixes(folder.config.type);
    report.missing.push_back(message(peft_prefix, names[m], suffixes.inner));
    report.missing.push_back(message(peft_prefix, names[m], suffixes.outer));
  }
  return match;
}

/// A Failure unless the tensor has that shape.
inline Status try_shape(const safetensors::Tensor& tensor, std::initializer_list<Index> expected,
                        const char* meaning, const Module& module) {
  if (std::equal(tensor.shape.begin(), tensor.shape.end(), expected.begin(), expected.end()))
    return success();
  std::string wanted;
  for (const Index size : expected) wanted += (wanted.empty() ? "" : "x") + std::to_string(size);
  const bool transposed =
      std::equal(tensor.shape.rbegin(), tensor.shape.rend(), expected.begin(), expected.end());
  return Failure{
      message("module ", in_quotes(module.name), ": ", in_quotes(tensor.name), " is ", shape_text(tensor),
              ", but the host's module of ", module.out_features, "x", module.in_features,
              " (out x in) needs ", wanted, " (", meaning, "); ",
              transposed ? "stored transposed, as MLX and ONNX Runtime do?" : "wrong base model?")};
}

}  // namespace detail

TIEDLORA_END_NAMESPACE
