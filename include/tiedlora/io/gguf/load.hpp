// LoRA adapters in GGUF files.
#pragma once

#include <algorithm>    // max
#include <cmath>        // isfinite
#include <cstddef>      // size_t
#include <filesystem>   // path
#include <functional>   // less
#include <map>          // map
#include <set>          // set
#include <span>         // span
#include <string>       // string, to_string
#include <string_view>  // string_view
#include <utility>      // move, pair
#include <vector>       // vector

#include "../../adapter/adapter.hpp"
#include "../../adapter/aligned_array.hpp"
#include "../../adapter/layout.hpp"
#include "../../adapter/modules.hpp"
#include "../../adapter/quote.hpp"
#include "../../adapter/result.hpp"
#include "../../adapter/scheme.hpp"
#include "../../views/config.hpp"
#include "../../views/error.hpp"
#include "../finite.hpp"
#include "../module_names.hpp"
#include "../provenance.hpp"
#include "file.hpp"
#include "naming.hpp"
#include "source.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// What became of the tensors, by their names in the file.
struct GgufReport {
  std::vector<std::string> used = {};  ///< applied
  /// Of modules that the host's list does not have, and what GgufLoadOptions::partial left out. A program
  /// that applies the rest must say so, or refuse.
  std::vector<std::string> unused = {};
  std::vector<std::string> missing = {};  ///< of the host's modules whose kind is adapted in other layers
  std::vector<std::string> notes = {};    ///< what was left out, and why, in words
};

/// How strict load_gguf is.
struct GgufLoadOptions {
  /// Load what can be applied, and leave out, listed in the report, what is not a linear module's LoRA: the
  /// embedding's, experts as one tensor. Otherwise those are refused.
  bool partial = false;
  bool check_finite = true;  ///< whether all parameters are; costs one pass over them
};

/// What load_gguf returns.
template <class P>
struct LoadedGguf {
  Adapter<P> adapter;  ///< with the parameters of the file
  GgufReport report;   ///< what became of its tensors
  Provenance source;   ///< what it says of its base model
};

namespace gguf {
namespace detail {

/// A module's two tensors, checked to fit each other.
struct LoraPair {
  const Tensor* a = nullptr;  ///< {in, r}
  const Tensor* b = nullptr;  ///< {r, out}
  Index rank = 0, in_features = 0, out_features = 0;
};
struct LoraPairs {
  /// By the base tensor's name without ".weight".
  std::map<std::string, LoraPair, std::less<>> of = {};
  std::vector<std::pair<std::string, std::string>> left_out = {};  ///< where partial: names, and why
};

/// A size of the shape; ggml leaves out those of one at the end.
inline Index size_of(const Tensor& tensor, std::size_t dimension) {
  return dimension < tensor.shape.size() ? tensor.shape[dimension] : 1;
}
inline bool is_matrix(const Tensor& tensor) {
  return tensor.count() > 0 && size_of(tensor, 2) == 1 && size_of(tensor, 3) == 1;
}
/// All sizes, two at least.
inline std::string shape_text(const Tensor& tensor) {
  std::string text = message("{", size_of(tensor, 0), ", ", size_of(tensor, 1));
  for (std::size_t i = 2; i < tensor.shape.size(); ++i) text += ", " + std::to_string(tensor.shape[i]);
  return text + "}";
}

/// The scaling's numerator; 0: the scaling is 1. A Failure for what is not a LoRA adapter of that
/// architecture.
inline Result<double> try_alpha(const File& file, std::string_view architecture) {
  const auto text = [&file](std::string_view key) {
    const Value* value = file.find_value(key);
    return value ? value->text().value_or("?") : std::string_view();
  };
  if (text("general.type") != "adapter") {
    const std::string_view type = text("general.type"), made_for = text("general.architecture");
    const char* kind = made_for == "controlvector"                  ? "a control vector"
                       : type == "mmproj" || made_for == "clip"     ? "the vision or audio part of a model"
                       : type == "imatrix" || made_for == "imatrix" ? "an importance matrix"
                       : type.empty() || type == "model"            ? "a whole model"
                                                                    : nullptr;
    return Failure{message("is not an adapter but ", kind ? kind : "of general.type ",
                           kind ? "" : in_quotes(type), "; a LoRA has general.type \"adapter\"")};
  }
  if (text("adapter.type") != "lora")
    return Failure{message("is not a LoRA: its adapter.type is ",
                           file.find_value("adapter.type") ? in_quotes(text("adapter.type")) : "missing")};
  if (Status whole = check_whole(file); !whole) return whole.failure();
  if (file.find_value("adapter.alora.invocation_tokens"))
    return Failure{"is an aLoRA, which acts only on tokens after its invocation; that is not supported"};
  if (!architecture.empty() && text("general.architecture") != architecture)
    return Failure{message("is for a model of architecture ", in_quotes(text("general.architecture")),
                           ", but the naming given is for ", in_quotes(architecture))};
  const Value* alpha = file.find_value("adapter.lora.alpha");
  if (!alpha) return 0.0;
  const double value = alpha->number().value_or(0);
  if (alpha->type != ValueType::f32 || !std::isfinite(value))
    return Failure{"has an adapter.lora.alpha that is not a finite f32"};
  return value;
}

/// Why a pair is not a linear module's, to be read after the file's name; empty if it is one.
inline std::string wrong_pair(std::string_view name, const LoraPair& pair) {
  if (!pair.a || !pair.b)
    return message("has ", pair.a ? "lora_a but no lora_b" : "lora_b but no lora_a", " for ",
                   in_quotes(name));
  const Tensor &a = *pair.a, &b = *pair.b;
  const std::string both = message("has tensors ", in_quotes(a.name), " of ", shape_text(a), " and ",
                                   in_quotes(b.name), " of ", shape_text(b));
  if (a.count() > 0 && b.count() > 0 && size_of(a, 2) > 1 && size_of(b, 2) > 1)
    return message(both,
                   ", which adapt several experts at once ({in, rank, experts} and {rank, out, experts}); "
                   "adapters of experts are not supported");
  if (!is_matrix(a) || !is_matrix(b) || size_of(b, 0) != size_of(a, 1))
    return message(both, ", which do not fit each other; {in, rank} and {rank, out} are expected");
  return {};
}

/// The file's pairs. What is not a linear module's is a Failure, or left out.
inline Result<LoraPairs> try_pairs(const File& file, bool partial) {
  constexpr std::string_view suffix_a = ".weight.lora_a", suffix_b = ".weight.lora_b";
  LoraPairs pairs;
  for (const Tensor& tensor : file.tensors()) {
    const bool is_a = tensor.name.ends_with(suffix_a), is_b = tensor.name.ends_with(suffix_b);
    const std::string name(is_a || is_b ? tensor.name.substr(0, tensor.name.size() - suffix_a.size()) : "");
    const char* reason = !is_a && !is_b         ? "is not the lora_a or lora_b of a weight and would be lost"
                         : name == "token_embd" ? "adapts the embedding; only linear modules are supported"
                                                : nullptr;
    if (reason) {
      if (!partial) return Failure{message("has a tensor ", in_quotes(tensor.name), ", which ", reason)};
      pairs.left_out.emplace_back(tensor.name, reason);
      continue;
    }
    if (tensor.type != Type::F32 && tensor.type != Type::F16 && tensor.type != Type::BF16 &&
        tensor.type != Type::Q8_0)
      return Failure{message("tensor ", in_quotes(tensor.name), " is of type ", to_string(tensor.type), " (",
                             static_cast<std::uint32_t>(tensor.type),
                             "); F32, F16, BF16 and Q8_0 can be read")};
    (is_a ? pairs.of[name].a : pairs.of[name].b) = &tensor;
  }
  for (auto entry = pairs.of.begin(); entry != pairs.of.end();) {
    LoraPair& pair = entry->second;
    if (const std::string reason = wrong_pair(entry->first, pair); !reason.empty()) {
      if (!partial) return Failure{reason};
      for (const Tensor* tensor : {pair.a, pair.b})
        if (tensor) pairs.left_out.emplace_back(tensor->name, reason);
      entry = pairs.of.erase(entry);
      continue;
    }
    pair.rank = size_of(*pair.a, 1);
    pair.in_features = size_of(*pair.a, 0);
    pair.out_features = size_of(*pair.b, 1);
    ++entry;
  }
  return pairs;
}

/// Which of the file's pairs belong to which of the host's modules.
struct Match {
  std::vector<const LoraPair*> of_module = {};  ///< by module; null: not adapted
  GgufReport report = {};
};

inline Result<Match> try_match(const LoraPairs& pairs, const ModuleList& modules, const Naming& naming) {
  Match match;
  std::map<std::string, Index, std::less<>> module_of;
  std::set<std::string_view> kinds;
  for (Index m = 0; m < modules.size(); ++m) {
    const Module& module = modules[m];
    match.of_module.push_back(nullptr);
    const auto name = naming.to_file(module.name);
    if (!name) continue;
    const auto [other, is_new] = module_of.try_emplace(*name, m);
    if (!is_new)
      return Failure{message("modules ", in_quotes(modules[other->second].name), " and ",
                             in_quotes(module.name), " map to the same GGUF name, ", in_quotes(*name))};
    const auto found = pairs.of.find(*name);
    if (found == pairs.of.end()) continue;
    const LoraPair& pair = found->second;
    if (pair.in_features != module.in_features || pair.out_features != module.out_features)
      return Failure{message("module ", in_quotes(module.name), " is ", module.out_features, "x",
                             module.in_features, " (out x in), but ", in_quotes(pair.a->name), " and ",
                             in_quotes(pair.b->name), " are for ", pair.out_features, "x", pair.in_features,
                             "; wrong base model?")};
    match.of_module.back() = &pair;
    kinds.insert(module.kind);
  }
  for (const auto& [name, pair] : pairs.of) {
    auto& list = module_of.contains(name) ? match.report.used : match.report.unused;
    list.emplace_back(pair.a->name);
    list.emplace_back(pair.b->name);
  }
  for (const auto& [name, reason] : pairs.left_out) {
    match.report.unused.push_back(name);
    match.report.notes.push_back(message("left out: ", in_quotes(name), ": ", reason));
  }
  if (match.report.used.empty())
    return Failure{
        message("none of the ", pairs.of.size(), " modules that it adapts",
                pairs.of.empty() ? "" : message(" (the first is ", in_quotes(pairs.of.begin()->first), ")"),
                " is among the ", modules.size(), " in the host's list",
                module_of.empty() ? ", none of which the naming knows"
                                  : message(" (such as ", in_quotes(module_of.begin()->first), ")"),
                "; wrong base model or naming?")};
  for (const auto& [name, m] : module_of) {
    if (match.of_module[static_cast<std::size_t>(m)] || !kinds.contains(modules[m].kind)) continue;
    match.report.missing.push_back(name + ".weight.lora_a");
    match.report.missing.push_back(name + ".weight.lora_b");
  }
  return match;
}

/// Plain LoRA with each module's own rank and alpha / rank.
inline Result<Layout> try_lora_layout(const Match& match, const ModuleList& modules, double alpha) {
  const auto scaling = [alpha](Index rank) { return alpha == 0 ? 1.0 : alpha / static_cast<double>(rank); };
  Index largest = 0;
  for (const LoraPair* pair : match.of_module) largest = std::max(largest, pair ? pair->rank : 0);
  LayoutOptions options{.scaling = scaling(largest)};
  for (Index m = 0; m < modules.size(); ++m) {
    const LoraPair* pair = match.of_module[static_cast<std::size_t>(m)];
    const Index rank = pair ? pair->rank : 0;
    if (rank != largest) options.ranks.emplace_back(modules[m].name, rank);
    if (pair && rank != largest) options.scalings.emplace_back(modules[m].name, scaling(rank));
  }
  return Layout::try_make(modules, schemes::lora(), largest, options);
}

template <class P>
Result<LoadedGguf<P>> try_read_lora(const File& file, const ModuleList& modules, const Naming& naming,
                                    const GgufLoadOptions& options) {
  const auto alpha = try_alpha(file, naming.architecture);
  if (!alpha) return alpha.failure();
  auto source = try_source(file);
  if (!source) return source.failure();
  const auto pairs = try_pairs(file, options.partial);
  if (!pairs) return pairs.failure();
  auto match = try_match(*pairs, modules, naming);
  if (!match) return match.failure();
  const auto layout = try_lora_layout(*match, modules, *alpha);
  if (!layout) return layout.failure();
  auto trainable = AlignedArray<P>::for_overwrite(layout->trainable_count());
  std::vector<P> rows;
  for (Index m = 0; m < layout->size(); ++m) {
    const LoraPair* pair = match->of_module[static_cast<std::size_t>(m)];
    if (!pair) continue;
    const Index rank = pair->rank, out = pair->out_features;
    const auto heads = try_heads(naming, naming.to_file(modules[m].name).value_or(modules[m].name), out);
    if (!heads) return heads.failure();
    const Layout::Group &A = *layout->group(FactorId::A, m), &B = *layout->group(FactorId::B, m);
    const auto numbers = trainable.span().subspan(static_cast<std::size_t>(A.offset));
    Status read = try_read(*pair->a, numbers.first(static_cast<std::size_t>(A.count)));
    if (!read) return read.failure();
    rows.resize(static_cast<std::size_t>(B.count));
    read = try_read(*pair->b, std::span<P>(rows));
    if (!read) return read.failure();
    for (Index i = 0; i < out; ++i)
      for (Index k = 0; k < rank; ++k)
        trainable.data()[B.offset + k * out + hugging_face_row(i, out, *heads)] =
            rows[static_cast<std::size_t>(i * rank + k)];
  }
  if (options.check_finite) {
    const Status finite = try_check_finite<P>({std::as_const(trainable).span()}, file.tensors(),
                                              ShapeOrder::fastest_first, match->report.unused);
    if (!finite) return finite.failure();
  }
  return LoadedGguf<P>{Adapter<P>(*layout, std::move(trainable), AlignedArray<P>()), std::move(match->report),
                       *std::move(source)};
}

/// The modules that the tensors tell of, under the names that they had.
inline Result<ModuleList> try_infer_modules(const LoraPairs& pairs, const Naming& naming,
                                            const Provenance& source) {
  std::vector<Module> found;
  for (const auto& [name, pair] : pairs.of) {
    auto module_name = naming.to_module(name, source.bare_names);
    if (!module_name)
      return Failure{message("adapts ", in_quotes(name), ", for which the naming of \"", naming.architecture,
                             "\" has no rule; add one to Naming::names")};
    Module module = module_of_name(*std::move(module_name));
    module.in_features = pair.in_features;
    module.out_features = pair.out_features;
    found.push_back(std::move(module));
  }
  std::sort(found.begin(), found.end(),
            [](const Module& a, const Module& b) { return natural_less(a.name, b.name); });
  return try_list_of(std::move(found));
}

}  // namespace detail
}  // namespace gguf

/// Loads a GGUF LoRA adapter (F32, F16, BF16 or Q8_0) for the host's modules: those that it does not adapt
/// get rank 0. The naming says in which order the rows of the host's weights are, so that q and k are
/// permuted back where they must be. A Failure, naming the file and the tensor or module, for damaged files,
/// other architectures and kinds of adapters, tensors that are not part of a LoRA, shapes that differ from
/// the host's, and if no module matches.
template <class P>
Result<LoadedGguf<P>> try_load_gguf(const std::filesystem::path& path, const ModuleList& modules,
                                    const gguf::Naming& naming, const GgufLoadOptions& options = {}) {
  const Result<gguf::File> file = gguf::try_open(path);
  if (!file) return file.failure();
  Result<LoadedGguf<P>> loaded = gguf::detail::try_read_lora<P>(*file, modules, naming, options);
  if (!loaded) return Failure{detail::message(detail::in_quotes(detail::utf8(path)), " ", loaded.error())};
  return loaded;
}
template <class P>
LoadedGguf<P> load_gguf(const std::filesystem::path& path, const ModuleList& modules,
                        const gguf::Naming& naming, const GgufLoadOptions& options = {}) {
  return detail::value_or_fail(try_load_gguf<P>(path, modules, naming, options));
}

/// The same without a module list, for programs that have no model: the modules follow from the tensors,
/// their names from the naming, and the layout has exactly these.
template <class P>
Result<LoadedGguf<P>> try_load_gguf(const std::filesystem::path& path, const gguf::Naming& naming,
                                    const GgufLoadOptions& options = {}) {
  const auto named = [&path](const std::string& reason) {
    return Failure{detail::message(detail::in_quotes(detail::utf8(path)), " ", reason)};
  };
  const Result<gguf::File> file = gguf::try_open(path);
  if (!file) return file.failure();
  const auto alpha = gguf::detail::try_alpha(*file, naming.architecture);
  if (!alpha) return named(alpha.error());
  const auto pairs = gguf::detail::try_pairs(*file, options.partial);
  if (!pairs) return named(pairs.error());
  const auto source = gguf::try_source(*file);
  if (!source) return named(source.error());
  const auto modules = gguf::detail::try_infer_modules(*pairs, naming, *source);
  if (!modules) return named(modules.error());
  Result<LoadedGguf<P>> loaded = gguf::detail::try_read_lora<P>(*file, *modules, naming, options);
  if (!loaded) return named(loaded.error());
  return loaded;
}
template <class P>
LoadedGguf<P> load_gguf(const std::filesystem::path& path, const gguf::Naming& naming,
                        const GgufLoadOptions& options = {}) {
  return detail::value_or_fail(try_load_gguf<P>(path, naming, options));
}

TIEDLORA_END_NAMESPACE
