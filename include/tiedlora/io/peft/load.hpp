// Adapters that PEFT saved: which of the host's modules they adapt, and their parameters.
#pragma once

#include <algorithm>         // copy_n, equal, max
#include <cmath>             // sqrt
#include <cstddef>           // size_t
#include <cstdint>           // uint64_t
#include <filesystem>        // path
#include <initializer_list>  // initializer_list
#include <span>              // span
#include <string>            // string
#include <string_view>       // string_view
#include <unordered_map>     // unordered_map
#include <utility>           // move, pair
#include <vector>            // vector

#include "../../adapter/adapter.hpp"
#include "../../adapter/aligned_array.hpp"
#include "../../adapter/initialize.hpp"
#include "../../adapter/layout.hpp"
#include "../../adapter/modules.hpp"
#include "../../adapter/name_map.hpp"
#include "../../adapter/quote.hpp"
#include "../../adapter/random.hpp"
#include "../../adapter/result.hpp"
#include "../../adapter/scheme.hpp"
#include "../../views/config.hpp"
#include "../../views/error.hpp"
#include "../finite.hpp"
#include "../safetensors/file.hpp"
#include "config.hpp"
#include "folder.hpp"
#include "match.hpp"
#include "tensors.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// How strict load_peft is.
struct PeftLoadOptions {
  /// Whether the host's weights are the residual ones that init_lora_weights = "pissa", "olora" and the like
  /// leave. If not, such adapters are refused: on the original weights they are silently wrong.
  bool base_is_residual = false;
  /// Load what can be applied, and leave out, listed in the report, what no adapter of a linear module can
  /// express: modules_to_save, trained biases, embeddings, experts as one tensor. Otherwise those are
  /// refused.
  bool partial = false;
  /// Whether the caller compares report.base_weights with its base's: whole weights of the embedding and the
  /// head are then reported there, not refused.
  bool compares_base_weights = false;
  NameMap names = {};  ///< module ↔ PEFT's name, for those that are called otherwise there
  /// Bounds how many parameters a VeRA without A and B may have generated from its key, since no bytes back
  /// them.
  Index max_seeded_numbers = Index{1} << 26;
  bool check_finite = true;  ///< whether all parameters are; costs one pass over them
};

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

/// What load_peft returns.
template <class P>
struct LoadedPeft {
  Adapter<P> adapter;  ///< with the parameters of the file
  PeftReport report;   ///< what became of its tensors
  PeftConfig config;   ///< adapter_config.json
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

/// The layout of a PEFT LoRA, after a check of every shape.
inline Result<Layout> try_peft_lora_layout(const PeftFolder& folder, const PeftMatch& match,
                                           const ModuleList& modules) {
  const PeftConfig& config = folder.config;
  const auto scaling = [&config](double alpha, Index rank) {
    const auto r = static_cast<double>(rank);
    return alpha / (config.rank_stabilized ? std::sqrt(r) : r);
  };
  const auto alphas = PeftPatterns<double>::try_make(
      "alpha_pattern", config.alpha_pattern, folder.tensors.modules.size(), characters_of(folder.tensors));
  if (!alphas) return Failure{message(peft_config_name, " ", alphas.error())};
  LayoutOptions options = {.scaling = scaling(config.alpha, config.rank)};
  for (Index m = 0; m < modules.size(); ++m) {
    const Module& module = modules[m];
    const PeftModule* tensors = match.of_module[static_cast<std::size_t>(m)];
    if (!tensors) {
      options.ranks.emplace_back(module.name, 0);
      continue;
    }
    const std::vector<Index>& inner = tensors->inner->shape;
    const bool transposed =
        inner.size() == 2 && inner[1] != module.in_features && inner[0] == module.in_features;
    const Index rank = inner.size() == 2 ? inner[transposed ? 1 : 0] : config.rank;
    if (Status same = try_shape(*tensors->inner, {rank, module.in_features}, "rank x in", module); !same)
      return same.failure();
    if (Status same = try_shape(*tensors->outer, {module.out_features, rank}, "out x rank", module); !same)
      return same.failure();
    if (rank != config.rank) options.ranks.emplace_back(module.name, rank);
    const double s = scaling(alphas->of(tensors->name, config.alpha), rank);
    if (s != options.scaling) options.scalings.emplace_back(module.name, s);
  }
  return Layout::try_make(modules, schemes::lora(), config.rank, options);
}

template <class P>
Result<Adapter<P>> try_read_peft_lora(const PeftFolder& folder, const PeftMatch& match,
                                      const ModuleList& modules) {
  const Result<Layout> layout = try_peft_lora_layout(folder, match, modules);
  if (!layout) return layout.failure();
  // Every number has its tensor: no two modules share a factor.
  auto trainable = AlignedArray<P>::for_overwrite(layout->trainable_count());
  for (Index m = 0; m < layout->size(); ++m) {
    const PeftModule* tensors = match.of_module[static_cast<std::size_t>(m)];
    if (!tensors) continue;
    const Layout::Group& A = *layout->group(FactorId::A, m);
    const auto numbers = trainable.span().subspan(static_cast<std::size_t>(A.offset));
    Status read = safetensors::try_read(*tensors->inner, numbers.first(static_cast<std::size_t>(A.count)));
    if (!read) return read.failure();
    read_transposed(*tensors->outer, trainable.data() + layout->group(FactorId::B, m)->offset);
  }
  return Adapter<P>(*layout, std::move(trainable), {});
}

/// The layout of a PEFT VeRA, after a check of every shape. Without A and B in the file they follow from the
/// key and the largest shapes, so that none of its modules may be unknown.
inline Result<Layout> try_peft_vera_layout(const PeftFolder& folder, const PeftMatch& match,
                                           const ModuleList& modules) {
  const PeftConfig& config = folder.config;
  const PeftTensors& tensors = folder.tensors;
  LayoutOptions options;
  Index largest_in = 0, largest_out = 0;
  for (Index m = 0; m < modules.size(); ++m) {
    const Module& module = modules[m];
    const PeftModule* vectors = match.of_module[static_cast<std::size_t>(m)];
    if (!vectors) {
      options.ranks.emplace_back(module.name, 0);
      continue;
    }
    if (Status same = try_shape(*vectors->inner, {config.rank}, "r", module); !same) return same.failure();
    if (Status same = try_shape(*vectors->outer, {module.out_features}, "out", module); !same)
      return same.failure();
    largest_in = std::max(largest_in, module.in_features);
    largest_out = std::max(largest_out, module.out_features);
  }
  if (!config.has_projection) {
    if (tensors.A || tensors.B)
      return Failure{
          "has save_projection = false, but the file has vera_A or vera_B; the two files do not belong "
          "together"};
    constexpr std::string_view projections =
        "does not hold A and B (save_projection = false); they are generated for the largest shapes of all "
        "modules that it adapts, but ";
    // Left out with them, a module may be one of the largest.
    for (const auto& [name, reason] : tensors.left_out)
      if (name.find(".vera_lambda_") != name.npos)
        return Failure{message(projections, in_quotes(name), " was left out: ", reason)};
    for (const std::string& name : match.report.unused)
      if (name.find(".vera_lambda_") != name.npos)
        return Failure{message(projections, in_quotes(name), " is for no module in the host's list")};
  } else {
    if (!tensors.A || !tensors.B)
      return Failure{"has save_projection = true, but no \"base_model.vera_A\" and \"base_model.vera_B\""};
    const auto fits = [&](const safetensors::Tensor& t, std::size_t rank_at, Index least) {
      return t.shape.size() == 2 && t.shape[rank_at] == config.rank && t.shape[1 - rank_at] >= least;
    };
    // Larger ones than ours are right where modules of the file are not the host's.
    for (Index m = 0; m < modules.size(); ++m) {
      if (!match.of_module[static_cast<std::size_t>(m)]) continue;
      const auto wrong = [&](const safetensors::Tensor& tensor, const std::string& wanted) {
        return Failure{message("module ", in_quotes(modules[m].name), " of ", modules[m].out_features, "x",
                               modules[m].in_features, " (out x in) needs ", in_quotes(tensor.name),
                               " of at least ", wanted, ", but it is ", shape_text(tensor),
                               "; wrong base model?")};
      };
      if (!fits(*tensors.A, 0, modules[m].in_features))
        return wrong(*tensors.A, message(config.rank, "x", modules[m].in_features));
      if (!fits(*tensors.B, 1, modules[m].out_features))
        return wrong(*tensors.B, message(modules[m].out_features, "x", config.rank));
    }
  }
  return Layout::try_make(modules, schemes::vera(config.projection_key), config.rank, options);
}

/// Copies the top left rows × columns of a matrix, whose dtype and size were checked.
template <class P>
void read_corner(const safetensors::Tensor& tensor, Index rows, Index columns, bool transposed, P* to) {
  AlignedArray<P> all;
  const bool whole = tensor.shape[0] == rows && tensor.shape[1] == columns;
  P* numbers = to;
  if (!whole) {
    all = AlignedArray<P>::for_overwrite(tensor.count());
    numbers = all.data();
  }
  if (transposed)
    read_transposed(tensor, numbers);
  else
    (void)safetensors::try_read(tensor, std::span<P>(numbers, static_cast<std::size_t>(tensor.count())));
  if (whole) return;
  const Index lines = transposed ? columns : rows, length = transposed ? rows : columns;
  for (Index line = 0; line < lines; ++line)
    std::copy_n(numbers + line * tensor.shape[transposed ? 0 : 1], length, to + line * length);
}

/// Whether VeRA's A (r×in) and B (out×r) are the bits that torch draws with that key.
template <class P>
bool is_drawn_by_torch(std::uint64_t key, const P* A, const P* B, Index rank, Index in, Index out) {
  TorchUniform next(key);
  for (Index i = 0; i < rank * in; ++i)
    if (A[i] != static_cast<P>(next(in))) return false;
  for (Index i = 0; i < out; ++i)
    for (Index k = 0; k < rank; ++k)
      if (B[k * out + i] != static_cast<P>(next(rank))) return false;
  return true;
}

template <class P>
Result<Adapter<P>> try_read_peft_vera(const PeftFolder& folder, const PeftMatch& match,
                                      const ModuleList& modules, Index max_seeded_numbers) {
  Result<Layout> layout = try_peft_vera_layout(folder, match, modules);
  if (!layout) return layout.failure();
  if (!folder.config.has_projection && layout->frozen_count() > max_seeded_numbers)
    return Failure{message("needs ", layout->frozen_count(),
                           " values generated from projection_prng_key; the limit is ", max_seeded_numbers,
                           " (PeftLoadOptions::max_seeded_numbers)")};
  const Index rank = folder.config.rank;
  const Layout::Group A = layout->groups(FactorId::A)[0], B = layout->groups(FactorId::B)[0];
  auto frozen = AlignedArray<P>::for_overwrite(layout->frozen_count());
  P *const A_numbers = frozen.data() + A.offset, *const B_numbers = frozen.data() + B.offset;
  if (!folder.config.has_projection) {
    fill_factor(*layout, FactorId::A, 0, frozen.data());
    fill_factor(*layout, FactorId::B, 0, frozen.data());
  } else {
    read_corner(*folder.tensors.A, rank, A.features, false, A_numbers);
    read_corner(*folder.tensors.B, B.features, rank, true, B_numbers);
    const std::uint64_t key = folder.config.projection_key;
    if (!is_drawn_by_torch(key, A_numbers, B_numbers, rank, A.features, B.features)) {
      // Trained elsewhere, or drawn on another machine: the key does not give these values.
      Scheme scheme = layout->scheme();
      scheme.A.init = scheme.B.init = init::given();
      layout = Layout::try_make(modules, scheme, layout->rank(), layout->options());
      if (!layout) return layout.failure();
    }
  }
  auto trainable = AlignedArray<P>::for_overwrite(layout->trainable_count());
  for (Index m = 0; m < layout->size(); ++m) {
    const PeftModule* vectors = match.of_module[static_cast<std::size_t>(m)];
    if (!vectors) continue;
    for (const auto& [id, tensor] : {std::pair(FactorId::u, vectors->inner), {FactorId::v, vectors->outer}}) {
      const Layout::Group& group = *layout->group(id, m);
      const auto numbers = trainable.span().subspan(static_cast<std::size_t>(group.offset));
      Status read = safetensors::try_read(*tensor, numbers.first(static_cast<std::size_t>(group.count)));
      if (!read) return read.failure();
    }
  }
  return Adapter<P>(*layout, std::move(trainable), std::move(frozen));
}

template <class P>
Result<LoadedPeft<P>> try_read_peft(const PeftFolder& folder, const ModuleList& modules,
                                    const PeftLoadOptions& options) {
  Result<PeftMatch> match = try_match_peft(folder, modules, options.names);
  if (!match) return match.failure();
  Result<Adapter<P>> adapter =
      folder.config.type == PeftConfig::Type::lora
          ? try_read_peft_lora<P>(folder, *match, modules)
          : try_read_peft_vera<P>(folder, *match, modules, options.max_seeded_numbers);
  if (!adapter) return adapter.failure();
  if (options.check_finite) {
    const Adapter<P>& read = *adapter;
    const Status finite = try_check_finite<P>({read.trainable(), read.frozen()}, folder.file.tensors(),
                                              ShapeOrder::slowest_first, match->report.unused);
    if (!finite) return Failure{message(in_quotes(peft_weights_name), ": ", finite.error())};
  }
  return LoadedPeft<P>{*std::move(adapter), std::move(match->report), folder.config};
}

}  // namespace detail

/// Loads a folder that PEFT's save_pretrained wrote (peft_type LORA or VERA) for the host's modules: those
/// that it does not adapt get rank 0. Ranks follow from the tensors, the scaling from lora_alpha, use_rslora
/// and alpha_pattern. VeRA's A and B are frozen; where the file does not hold them they are drawn as torch
/// does.
///
/// A Failure, naming the file and the tensor, module or key, if the config or a tensor means something that
/// this library does not compute, if no module matches, or if a shape differs from the host's.
template <class P>
Result<LoadedPeft<P>> try_load_peft(const std::filesystem::path& folder, const ModuleList& modules,
                                    const PeftLoadOptions& options = {}) {
  const Result<detail::PeftFolder> open =
      detail::try_open_peft(folder, {.base_is_residual = options.base_is_residual,
                                     .partial = options.partial,
                                     .compares_base_weights = options.compares_base_weights});
  if (!open) return open.failure();
  Result<LoadedPeft<P>> loaded = detail::try_read_peft<P>(*open, modules, options);
  if (!loaded) return Failure{detail::message(detail::in_quotes(detail::utf8(folder)), ": ", loaded.error())};
  return loaded;
}
template <class P>
LoadedPeft<P> load_peft(const std::filesystem::path& folder, const ModuleList& modules,
                        const PeftLoadOptions& options = {}) {
  return detail::value_or_fail(try_load_peft<P>(folder, modules, options));
}

/// The same without a module list, for programs that have no model: the modules follow from a LoRA's own
/// tensors, and the layout has exactly these.
template <class P>
Result<LoadedPeft<P>> try_load_peft(const std::filesystem::path& folder,
                                    const PeftLoadOptions& options = {}) {
  const Result<detail::PeftFolder> open =
      detail::try_open_peft(folder, {.base_is_residual = options.base_is_residual,
                                     .partial = options.partial,
                                     .compares_base_weights = options.compares_base_weights});
  if (!open) return open.failure();
  const Result<ModuleList> modules = detail::try_infer_modules(*open);
  if (!modules)
    return Failure{detail::message(detail::in_quotes(detail::utf8(folder)), " ", modules.error())};
  PeftLoadOptions inferred = options;
  inferred.names = {};  // the list has PEFT's own names
  Result<LoadedPeft<P>> loaded = detail::try_read_peft<P>(*open, *modules, inferred);
  if (!loaded) return Failure{detail::message(detail::in_quotes(detail::utf8(folder)), ": ", loaded.error())};
  return loaded;
}
template <class P>
LoadedPeft<P> load_peft(const std::filesystem::path& folder, const PeftLoadOptions& options = {}) {
  return detail::value_or_fail(try_load_peft<P>(folder, options));
}

TIEDLORA_END_NAMESPACE
