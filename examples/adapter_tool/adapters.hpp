// Adapters in any of the formats, told apart by what they are.
#pragma once

#include <filesystem>   // path
#include <stdexcept>    // runtime_error
#include <string>       // string
#include <string_view>  // string_view
#include <utility>      // move
#include <vector>       // vector

#include <fmt/format.h>
#include <tiedlora/io.hpp>
#include <tiedlora/tiedlora.hpp>

#include "../adapter_format.hpp"
#include "../whole_adapter.hpp"
#include "architecture.hpp"
#include "base_weights.hpp"

namespace adapter_tool {

using tiedlora::Adapter;

struct OpenAdapter {
  Adapter<float> adapter;
  std::string format = {};  ///< "peft", "gguf" or "native"
  tiedlora::Provenance source = {};
  std::vector<std::string> notes = {};  ///< what was passed over or left out, in words
};

/// Whether the base's weights can be compared: a GGUF file's are quantised, and a folder may hold the config
/// alone.
inline bool has_base_weights(const ModelOptions& options) {
  return !options.base.empty() && !is_gguf(options.base) &&
         static_cast<bool>(tiedlora::detail::try_model_files(options.base));
}

/// The adapter's copies of the base's own weights: they must be the base's, or the adapter belongs to others.
inline void check_base_weights(const std::filesystem::path& path, const std::vector<std::string>& copies,
                               const ModelOptions& options, std::vector<std::string>& notes) {
  using tiedlora::detail::in_quotes;
  if (copies.empty()) return;
  if (!has_base_weights(options)) {
    for (const std::string& copy : copies)
      notes.push_back(examples::not_compared(copy) + " (--base with its safetensors does)");
    return;
  }
  const auto changed = changed_weights(path / "adapter_model.safetensors", copies, options.base);
  if (!changed.empty() && !options.partial)
    throw std::runtime_error(
        in_quotes(path.string()) +
        " also holds a whole weight of the base model that differs from the base's: " + changed.front() +
        ". It was trained or resized, or this is the wrong base model; --partial leaves it out");
  for (const std::string& text : changed) notes.push_back("left out: " + text);
}

/// A note on modules that the config targets and the base has, but for which the file has no tensors: PEFT
/// leaves those at zero, and warns.
inline void tell_missing(const std::filesystem::path& path, const ModelOptions& options,
                         std::vector<std::string>& notes) {
  using namespace tiedlora;
  if (options.base.empty() || is_gguf(options.base)) return;
  const auto modules = try_model_modules(options.base, {.fan_in_fan_out = options.fan_in_fan_out});
  const auto folder =
      detail::try_open_peft(path, {.partial = options.partial, .compares_base_weights = true});
  if (!modules || !folder) return;
  const auto matched = detail::try_match_peft(*folder, *modules, {});
  if (!matched) notes.push_back("the base model is another one: " + matched.error());
  if (!matched || matched->report.missing.empty()) return;
  notes.push_back(
      detail::message("the config targets ", matched->report.missing.size() / 2,
                      " more modules of the base model, for which the file has no tensors: it lacks ",
                      detail::in_quotes(matched->report.missing.front()),
                      matched->report.missing.size() > 2 ? " and others" : ""));
}

/// Reads GGUF's names for the modules where transformers' are not known: enough to look.
inline tiedlora::LoadedGguf<float> look_at_gguf(const std::filesystem::path& path,
                                                const std::string& architecture,
                                                const tiedlora::GgufLoadOptions& load) {
  using namespace tiedlora;
  // Norms and counts do not depend on the order of rows.
  if (const auto* known = gguf::find_architecture(architecture))
    if (auto loaded = try_load_gguf<float>(path, naming_of(*known, {.weights = gguf::Order::gguf}), load))
      return *std::move(loaded);
  return load_gguf<float>(path, gguf::as_in_file(), load);
}

inline OpenAdapter open(const std::filesystem::path& path, const ModelOptions& options,
                        bool look_only = false) {
  using namespace tiedlora;
  if (!options.base.empty() && !std::filesystem::exists(options.base))
    throw std::runtime_error("--base: there is no " + tiedlora::detail::in_quotes(options.base));
  const examples::AdapterFormat format = examples::format_of(path);
  constexpr const char* advice = "--partial applies the rest without them";
  if (format == examples::AdapterFormat::peft) {
    const auto list = [&] {
      if (options.base.empty())
        throw std::runtime_error(
            tiedlora::detail::in_quotes(path.string()) +
            " is a VeRA adapter, whose tensors do not give the shapes of the modules: give the base model "
            "with --base");
      return model_modules(options.base, {.fan_in_fan_out = options.fan_in_fan_out});
    };
    auto loaded = examples::load_whole_peft(path, list,
                                            {.partial = options.partial,
                                             .compares_base_weights = has_base_weights(options),
                                             .check_finite = options.check_finite},
                                            advice);
    check_base_weights(path, loaded.report.base_weights, options, loaded.report.notes);
    tell_missing(path, options, loaded.report.notes);
    return {std::move(loaded.adapter), "peft", loaded.config.source(), std::move(loaded.report.notes)};
  }
  if (format == examples::AdapterFormat::gguf) {
    const gguf::File file = gguf::open(path);
    if (const auto alpha = gguf::detail::try_alpha(file, ""); !alpha)  // before anything is asked for
      throw std::runtime_error(detail::in_quotes(path.string()) + " " + alpha.error());
    const auto source = gguf::try_source(file);
    if (!source) throw std::runtime_error(detail::in_quotes(path.string()) + " " + source.error());
    const std::string& own = source->architecture;
    const GgufLoadOptions load = {.partial = options.partial, .check_finite = options.check_finite};
    auto loaded =
        look_only ? look_at_gguf(path, own, load) : load_gguf<float>(path, naming(options, own), load);
    if (!options.partial) examples::require_whole(path, loaded.report.unused, advice);
    return {std::move(loaded.adapter), "gguf", std::move(loaded.source), std::move(loaded.report.notes)};
  }
  NativeFile file = open_native(path);
  auto adapter = read_adapter<float>(file, {.check_finite = options.check_finite});
  return {std::move(adapter), "native", std::move(file.metadata.source), {}};
}

}  // namespace adapter_tool
