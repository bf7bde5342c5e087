// Adapters that PEFT saved: which of the host's modules they adapt, and their parameters.
#pragma once

#include <filesystem>  // path
#include <utility>     // move

#include "../../adapter/adapter.hpp"
#include "../../adapter/modules.hpp"
#include "../../adapter/name_map.hpp"
#include "../../adapter/quote.hpp"
#include "../../adapter/result.hpp"
#include "../../views/config.hpp"
#include "../../views/error.hpp"
#include "../finite.hpp"
#include "../safetensors/file.hpp"
#include "config.hpp"
#include "folder.hpp"
#include "host_modules.hpp"
#include "read_lora.hpp"
#include "read_vera.hpp"

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

/// What load_peft returns.
template <class P>
struct LoadedPeft {
  Adapter<P> adapter;  ///< with the parameters of the file
  PeftReport report;   ///< what became of its tensors
  PeftConfig config;   ///< adapter_config.json
};

namespace detail {

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
