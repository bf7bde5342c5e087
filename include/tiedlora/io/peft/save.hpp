// Adapters of any scheme as folders that PEFT loads: plain LoRA, or VeRA with the projections in the file.
#pragma once

#include <algorithm>    // max, min, sort
#include <cmath>        // round
#include <cstddef>      // size_t
#include <cstdint>      // uint8_t, uint64_t, uintmax_t
#include <filesystem>   // path
#include <optional>     // optional
#include <string>       // string
#include <string_view>  // string_view
#include <utility>      // move, pair
#include <vector>       // vector

#include "../../adapter/adapter.hpp"
#include "../../adapter/layout.hpp"
#include "../../adapter/name_map.hpp"
#include "../../adapter/random.hpp"
#include "../../adapter/result.hpp"
#include "../../adapter/scheme.hpp"
#include "../../views/config.hpp"
#include "../../views/error.hpp"
#include "../../views/scalar.hpp"
#include "../json/json.hpp"
#include "../provenance.hpp"
#include "../safetensors/file.hpp"
#include "load.hpp"
#include "write.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// The form in which PEFT gets an adapter; all compute the same function.
enum class PeftForm : std::uint8_t {
  lora,     ///< each module its own A and B (to_lora): loads everywhere
  vera,     ///< one A and B for the model: only of schemes that tie both over all modules
  stacked,  ///< VeRA in which the different pairs of A and B stand in blocks, k of them in k times the rank;
            ///< trained further in PEFT, where only u and v are, it is tied no more
  smallest  ///< vera where it is possible and takes fewer bytes, else lora
};

/// Where the scaling s goes.
enum class PeftScale : std::uint8_t {
  baked,      ///< s is multiplied into B; lora_alpha = r. Programs that read less of the config agree.
  lora_alpha  ///< s stays in lora_alpha and alpha_pattern, so that A and B keep their bits
};

/// What save_peft writes, and how.
struct PeftSaveOptions {
  std::string base_model = {};  ///< base_model_name_or_path
  std::string task_type = {};   ///< e.g. "CAUSAL_LM"
  Provenance source = {};  ///< what a source said (LoadedPeft::config.source()); the caller's word goes first
  PeftForm form = PeftForm::lora;                      ///< the form in which PEFT gets it
  PeftScale scale = PeftScale::baked;                  ///< of form lora; VeRA has no alpha: v takes s
  safetensors::Dtype dtype = safetensors::Dtype::F32;  ///< what is written
  bool save_projection = true;  ///< of form vera; false: A and B are left out, which their init must give
  bool fan_in_fan_out = false;  ///< the base's weights are in × out (GPT-2's Conv1D)
  NameMap names = {};           ///< module ↔ PEFT's name, for those that are called otherwise there
};

/// What was written.
struct SavedPeft {
  PeftForm form = PeftForm::lora;  ///< what `smallest` came to
  Index rank = 0;                  ///< the largest
  std::uintmax_t bytes = 0;        ///< of both files
};

namespace detail {

/// A regular expression of Python's that describes this text and nothing else.
inline std::string exact_pattern(std::string_view text) {
  std::string pattern = "^";
  for (const char c : text) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    if (!plain && static_cast<unsigned char>(c) < 128) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

/// What of the config does not depend on the form.
inline Json peft_config_json(const char* type, std::vector<std::string> targets,
                             const PeftSaveOptions& options) {
  std::sort(targets.begin(), targets.end());
  const Provenance& source = options.source;
  const auto text_or_null = [](const std::string& text) { return text.empty() ? Json() : Json(text); };
  Json mapping;
  if (!source.base_model_class.empty() || !source.parent_library.empty())
    mapping = {{"base_model_class", text_or_null(source.base_model_class)},
               {"parent_library", text_or_null(source.parent_library)}};
  return {{"peft_type", type},
          {"base_model_name_or_path", text_or_null(first_said(options.base_model, source.base_model))},
          {"revision", text_or_null(source.revision)},
          {"task_type", text_or_null(first_said(options.task_type, source.task_type))},
          {"auto_mapping", std::move(mapping)},
          {"inference_mode", true},
          {"target_modules", std::move(targets)},
          {"fan_in_fan_out", options.fan_in_fan_out || source.fan_in_fan_out},
          {"bias", "none"}};
}

/// lora_alpha for a scaling: a whole number where that gives the same scaling, as PEFT divides it by the
/// rank.
inline Json lora_alpha_json(double scaling, Index rank) {
  const auto r = static_cast<double>(rank);
  const double whole = std::round(scaling * r);
  if (std::abs(whole) < 1e15 && whole / r == scaling) return static_cast<std::int64_t>(whole);
  return scaling * r;
}

/// The module's row of names and the largest rank.
template <class Source>
struct PeftModules {
  std::vector<std::pair<Index, std::string>> names = {};  ///< adapted modules, by PEFT's name
  Index largest_rank = 0;

  static Result<PeftModules> try_make(const Source& adapter, const NameMap& map) {
    PeftModules result;
    const Layout& layout = adapter.layout();
    for (Index m = 0; m < layout.size(); ++m) {
      if (layout.rank(m) == 0) continue;
      const std::string& name = layout.modules()[m].name;
      result.names.emplace_back(m, map.to_file(name).value_or(name));
      result.largest_rank = std::max(result.largest_rank, layout.rank(m));
    }
    if (result.names.empty()) return Failure{"the adapter adapts no module: all ranks are 0"};
    return result;
  }
  std::vector<std::string> targets() const {
    std::vector<std::string> result;
    for (const auto& [m, name] : names) result.push_back(name);
    return result;
  }
};

template <class Source>
Result<SavedPeft> try_save_peft_lora(const Source& adapter, const PeftModules<Source>& modules,
                                     const std::filesystem::path& folder, const PeftSaveOptions& options) {
  using Acc = accumulator_t<typename Source::Scalar>;
  const Layout& layout = adapter.layout();
  const Index r = modules.largest_rank;
  const bool baked = options.scale == PeftScale::baked;
  const Index first = modules.names.front().first;
  const Json alpha = baked ? Json(r) : lora_alpha_json(layout.scaling(first), layout.rank(first));
  Json ranks = Json::object(), alphas = Json::object();
  std::vector<PeftEntry<Acc>> tensors;
  for (const auto& [m, name] : modules.names) {
    const Factors<const typename Source::Scalar> f = adapter.factors(m);
    if (f.rank != r) ranks[exact_pattern(name)] = f.rank;
    if (!baked && lora_alpha_json(layout.scaling(m), f.rank) != alpha)
      alphas[exact_pattern(name)] = lora_alpha_json(layout.scaling(m), f.rank);
    // Where ranks differ, consumers scale by alpha / rank with the one alpha = r.
    const Acc c = baked ? static_cast<Acc>(f.rank == r ? layout.scaling(m)
                                                       : layout.scaling(m) * static_cast<double>(f.rank) /
                                                             static_cast<double>(r))
                        : Acc(1);
    const std::string prefix = std::string(peft_prefix) + name;
    tensors.push_back({prefix + std::string(peft_lora_suffixes.inner), {f.rank, f.in_features}, [f](Acc* to) {
                         for (Index k = 0; k < f.rank; ++k)
                           for (Index j = 0; j < f.in_features; ++j)
                             *to++ = static_cast<Acc>(f.A[k * f.a_stride + j]);
                       }});
    tensors.push_back(
        {prefix + std::string(peft_lora_suffixes.outer), {f.out_features, f.rank}, [f, c](Acc* to) {
           for (Index k = 0; k < f.rank; ++k) {
             const Acc cu = f.u ? c * static_cast<Acc>(f.u[k]) : c;
             for (Index i = 0; i < f.out_features; ++i) {
               const Acc b = cu * static_cast<Acc>(f.B[k * f.b_stride + i]);
               to[i * f.rank + k] = f.v ? b * static_cast<Acc>(f.v[i]) : b;
             }
           }
         }});
  }
  Json config = peft_config_json("LORA", modules.targets(), options);
  config.update({{"r", r},
                 {"lora_alpha", alpha},
                 {"rank_pattern", std::move(ranks)},
                 {"alpha_pattern", std::move(alphas)},
                 {"lora_dropout", 0.0},
                 {"use_rslora", false},
                 {"init_lora_weights", true},
                 {"modules_to_save", nullptr}});
  const auto bytes = try_write_peft_folder(folder, config, std::move(tensors), options.dtype);
  if (!bytes) return bytes.failure();
  return SavedPeft{PeftForm::lora, r, *bytes};
}

/// The different pairs of A and B in an adapter, and where each begins in the ranks of the stacked matrices.
struct PeftBlocks {
  struct Block {
    Index A = 0, B = 0;  ///< the indices of their groups
    Index module = 0;    ///< one of its modules
    Index begin = 0;     ///< its first rank
  };
  std::vector<Block> blocks = {};
  std::vector<std::size_t> of_module = {};  ///< by adapted module
  Index rank = 0, in = 0, out = 0;          ///< of the stacked matrices

  template <class Source>
  explicit PeftBlocks(const Layout& layout, const PeftModules<Source>& modules) {
    for (const auto& [m, name] : modules.names) {
      const Index A = layout.group_index(FactorId::A, m), B = layout.group_index(FactorId::B, m);
      std::size_t block = 0;
      while (block < blocks.size() && !(blocks[block].A == A && blocks[block].B == B)) ++block;
      if (block == blocks.size()) {
        blocks.push_back({A, B, m, rank});
        rank += layout.rank(m);
      }
      of_module.push_back(block);
      in = std::max(in, layout.modules()[m].in_features);
      out = std::max(out, layout.modules()[m].out_features);
    }
  }
};

/// The key that draws the adapter's A and B in torch, if one does.
template <class Source>
std::optional<std::uint64_t> torch_key(const Source& adapter, const PeftBlocks& blocks) {
  const Scheme& scheme = adapter.layout().scheme();
  if (scheme.A.init.kind != Init::Kind::torch_vera || scheme.A.init != scheme.B.init) return std::nullopt;
  const auto f = adapter.factors(blocks.blocks.front().module);
  TorchUniform next(scheme.A.init.key);
  for (Index k = 0; k < f.rank; ++k)
    for (Index j = 0; j < blocks.in; ++j)
      if (static_cast<float>(f.A[k * f.a_stride + j]) != next(blocks.in)) return std::nullopt;
  for (Index i = 0; i < blocks.out; ++i)
    for (Index k = 0; k < f.rank; ++k)
      if (static_cast<float>(f.B[k * f.b_stride + i]) != next(f.rank)) return std::nullopt;
  return scheme.A.init.key;
}

template <class Source>
Result<SavedPeft> try_save_peft_vera(const Source& adapter, const PeftModules<Source>& modules,
                                     const PeftBlocks& blocks, const std::filesystem::path& folder,
                                     const PeftSaveOptions& options) {
  using Acc = accumulator_t<typename Source::Scalar>;
  const Layout& layout = adapter.layout();
  const std::optional<std::uint64_t> key =
      blocks.blocks.size() == 1 ? torch_key(adapter, blocks) : std::nullopt;
  if (!options.save_projection && !key)
    return Failure{
        "A and B can be left out (save_projection = false) only if they are what torch draws with the key of "
        "init::torch_vera; these are not"};
  std::vector<PeftEntry<Acc>> tensors;
  std::size_t next = 0;
  for (const auto& [m, name] : modules.names) {
    const auto f = adapter.factors(m);
    const Index begin = blocks.blocks[blocks.of_module[next++]].begin;
    const std::string prefix = std::string(peft_prefix) + name;
    tensors.push_back({prefix + std::string(peft_vera_suffixes.inner), {blocks.rank}, [f, begin](Acc* to) {
                         for (Index k = 0; k < f.rank; ++k)
                           to[begin + k] = f.u ? static_cast<Acc>(f.u[k]) : Acc(1);
                       }});
    tensors.push_back({prefix + std::string(peft_vera_suffixes.outer), {f.out_features}, [f](Acc* to) {
                         for (Index i = 0; i < f.out_features; ++i)
                           to[i] = f.v ? f.scaling * static_cast<Acc>(f.v[i]) : f.scaling;
                       }});
  }
  if (options.save_projection) {
    tensors.push_back({"base_model.vera_A", {blocks.rank, blocks.in}, [&](Acc* to) {
                         for (const PeftBlocks::Block& block : blocks.blocks) {
                           const auto f = adapter.factors(block.module);
                           const Index features = layout.group(FactorId::A, block.module)->features;
                           for (Index k = 0; k < f.rank; ++k)
                             for (Index j = 0; j < features; ++j)
                               to[(block.begin + k) * blocks.in + j] =
                                   static_cast<Acc>(f.A[k * f.a_stride + j]);
                         }
                       }});
    tensors.push_back({"base_model.vera_B", {blocks.out, blocks.rank}, [&](Acc* to) {
                         for (const PeftBlocks::Block& block : blocks.blocks) {
                           const auto f = adapter.factors(block.module);
                           const Index features = layout.group(FactorId::B, block.module)->features;
                           for (Index k = 0; k < f.rank; ++k)
                             for (Index i = 0; i < features; ++i)
                               to[i * blocks.rank + block.begin + k] =
                                   static_cast<Acc>(f.B[k * f.b_stride + i]);
                         }
                       }});
  }
  Json config = peft_config_json("VERA", modules.targets(), options);
  config.update({{"r", blocks.rank},
                 {"projection_prng_key", key.value_or(0)},
                 {"save_projection", options.save_projection},
                 {"vera_dropout", 0.0},
                 {"d_initial", 0.1},
                 {"init_weights", true},
                 {"modules_to_save", nullptr}});
  const auto bytes = try_write_peft_folder(folder, config, std::move(tensors), options.dtype);
  if (!bytes) return bytes.failure();
  return SavedPeft{blocks.blocks.size() == 1 ? PeftForm::vera : PeftForm::stacked, blocks.rank, *bytes};
}

/// In the form asked for. A reason reads as if after the folder's name.
template <class Source>
Result<SavedPeft> try_save_peft_form(const Source& adapter, const std::filesystem::path& folder,
                                     const PeftSaveOptions& options) {
  const auto modules = PeftModules<Source>::try_make(adapter, options.names);
  if (!modules) return modules.failure();
  if (options.form == PeftForm::lora) return try_save_peft_lora(adapter, *modules, folder, options);

  const Layout& layout = adapter.layout();
  const PeftBlocks blocks(layout, *modules);
  if (options.form == PeftForm::smallest) {
    Index lora = 0, vera = options.save_projection ? blocks.rank * (blocks.in + blocks.out) : 0;
    for (const auto& [m, name] : modules->names) {
      const Module& module = layout.modules()[m];
      lora += layout.rank(m) * (module.in_features + module.out_features);
      vera += blocks.rank + module.out_features;
    }
    if (blocks.blocks.size() > 1 || vera >= lora)
      return try_save_peft_lora(adapter, *modules, folder, options);
  }
  if (options.form == PeftForm::vera && blocks.blocks.size() > 1)
    return Failure{message("the adapter has ", blocks.blocks.size(),
                           " different pairs of A and B, and a VeRA has one for the whole model: save it as "
                           "PeftForm::lora, or as PeftForm::stacked at rank ",
                           blocks.rank)};
  return try_save_peft_vera(adapter, *modules, blocks, folder, options);
}

}  // namespace detail

/// Writes an adapter (Adapter, AdapterView) of any scheme as a folder that PEFT's from_pretrained loads, and
/// says what it wrote. Both files are on the disk before either is replaced; a program that is killed in
/// between leaves a folder without a config, which every reader refuses. VeRA folders need PEFT 0.21 or
/// later: up to 0.20.0 it silently dropped the A and B in the file.
///
/// A Failure, naming the folder, if the adapter adapts no module, the form or dtype is not possible, or a
/// file cannot be written.
template <class Source>
Result<SavedPeft> try_save_peft(const Source& adapter, const std::filesystem::path& folder,
                                const PeftSaveOptions& options = {}) {
  Result<SavedPeft> saved = detail::try_save_peft_form(adapter, folder, options);
  if (!saved) return Failure{detail::message(detail::in_quotes(detail::utf8(folder)), ": ", saved.error())};
  return saved;
}
template <class Source>
SavedPeft save_peft(const Source& adapter, const std::filesystem::path& folder,
                    const PeftSaveOptions& options = {}) {
  return detail::value_or_fail(try_save_peft(adapter, folder, options));
}

TIEDLORA_END_NAMESPACE
