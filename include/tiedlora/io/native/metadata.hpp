// What a native file says about its parameters: the scheme, the modules, the ranks; as JSON.
#pragma once

#include <array>        // array
#include <cstdint>      // uint64_t
#include <limits>       // numeric_limits
#include <optional>     // optional
#include <string>       // string
#include <string_view>  // string_view
#include <utility>      // move

#include "../../adapter/layout.hpp"
#include "../../adapter/modules.hpp"
#include "../../adapter/quote.hpp"
#include "../../adapter/result.hpp"
#include "../../adapter/scheme.hpp"
#include "../../views/config.hpp"
#include "../../views/error.hpp"
#include "../json/fields.hpp"
#include "../json/json.hpp"
#include "../provenance.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// The version of native files that this library writes, and the newest that it reads.
inline constexpr int native_format_version = 1;

/// What a native file says about its parameters, and about what they belong to.
struct NativeMetadata {
  Layout layout;                                     ///< modules, scheme, ranks and scalings
  std::string base_model = {};                       ///< as given when it was saved
  std::optional<std::uint64_t> seed = std::nullopt;  ///< of Adapter::initialize
  /// By FactorId: whether a frozen factor is not in the file, because its init and the seed generate it.
  std::array<bool, 4> seeded = {};
  Provenance source = {};  ///< what the source of the adapter said; its base_model is the one above

  /// Whether that factor is not in the file.
  bool is_seeded(FactorId id) const { return seeded[static_cast<std::size_t>(id)]; }
};

namespace detail {
inline constexpr std::string_view across_names[] = {"module", "kind", "input", "model"};
inline constexpr std::string_view init_names[] = {"constant", "kaiming", "normal", "torch_vera", "given"};

inline Json factor_to_json(const Factor& factor) {
  const Init& init = factor.init;
  Json json = {{"across", across_names[static_cast<std::size_t>(factor.tying.modules)]},
               {"trained", factor.trained},
               {"init",
                {{"kind", init_names[static_cast<std::size_t>(init.kind)]},
                 {"value", init.value},
                 {"key", init.key}}}};
  if (factor.tying.layers == all_layers)
    json["layers"] = "all";
  else
    json["layers"] = factor.tying.layers;
  return json;
}

inline Json module_to_json(const Layout& layout, Index m) {
  const Module& module = layout.modules()[m];
  Json json = {{"name", module.name},
               {"layer", module.layer},
               {"kind", module.kind},
               {"in_features", module.in_features},
               {"out_features", module.out_features}};
  if (!module.input.empty()) json["input"] = module.input;
  if (layout.rank(m) != layout.rank()) json["rank"] = layout.rank(m);
  if (layout.scaling(m) != layout.scaling()) json["scaling"] = layout.scaling(m);
  return json;
}

/// The value of the key "tiedlora" in the file's __metadata__. A Failure where names are not UTF-8 or an init
/// has a number that is not finite.
inline Result<std::string> try_native_metadata_text(const NativeMetadata& metadata) {
  const Layout& layout = metadata.layout;
  Json scheme = Json::object();
  Json seeded = Json::array();
  for (const FactorId id : all_factors) {
    if (const Factor* factor = layout.scheme().find(id)) scheme[to_string(id)] = factor_to_json(*factor);
    if (metadata.is_seeded(id)) seeded.push_back(to_string(id));
  }
  Json modules = Json::array();
  for (Index m = 0; m < layout.size(); ++m) modules.push_back(module_to_json(layout, m));
  Json json = {{"format_version", native_format_version},
               {"base_model", metadata.base_model},
               {"scheme", std::move(scheme)},
               {"rank", layout.rank()},
               {"scaling", layout.scaling()},
               {"seeded", std::move(seeded)},
               {"modules", std::move(modules)}};
  if (metadata.seed) json["seed"] = *metadata.seed;
  Result<std::string> text = try_dump_json(json);
  if (!text) return Failure{"the adapter's scheme, base model or a module's name " + text.error()};
  return text;
}

inline Factor factor_from_json(const Json& json, const std::string& where, std::string& problem) {
  Factor factor;
  JsonFields fields(json, where, problem);
  const Json* layers = fields.value("layers");
  if (layers && layers->is_string() && *layers == "all")
    factor.tying.layers = all_layers;
  else
    factor.tying.layers = static_cast<Index>(fields.integer("layers", 1));
  factor.tying.modules = static_cast<Across>(fields.one_of("across", across_names));
  factor.trained = fields.boolean("trained");
  if (const Json* init = fields.value("init")) {
    JsonFields parts(*init, where + ".init", problem);
    factor.init.kind = static_cast<Init::Kind>(parts.one_of("kind", init_names));
    factor.init.value = parts.number("value");
    factor.init.key = parts.natural("key");
    parts.finish();
  }
  fields.finish();
  return factor;
}

inline Scheme scheme_from_json(const Json& json, std::string& problem) {
  Scheme scheme;
  JsonFields fields(json, "scheme", problem);
  const auto read = [&](const char* name) {
    const Json* factor = fields.value(name);
    return factor ? factor_from_json(*factor, std::string("scheme.") + name, problem) : Factor();
  };
  scheme.A = read("A");
  scheme.B = read("B");
  if (fields.has("u")) scheme.u = read("u");
  if (fields.has("v")) scheme.v = read("v");
  fields.finish();
  return scheme;
}

/// Adds the module that the JSON describes and its exceptions from the layout's rank and scaling.
inline void module_from_json(const Json& json, ModuleList& modules, LayoutOptions& options,
                             std::string& problem) {
  JsonFields fields(json, message("modules[", modules.size(), "]"), problem);
  Module module;
  module.name = fields.text("name");
  module.layer = static_cast<int>(fields.integer("layer", -1, std::numeric_limits<int>::max()));
  module.kind = fields.text("kind");
  if (fields.has("input")) module.input = fields.text("input");
  module.in_features = static_cast<Index>(fields.integer("in_features", 1));
  module.out_features = static_cast<Index>(fields.integer("out_features", 1));
  if (fields.has("rank")) options.ranks.emplace_back(module.name, fields.integer("rank", 0));
  if (fields.has("scaling")) options.scalings.emplace_back(module.name, fields.number("scaling"));
  fields.finish();
  if (!problem.empty()) return;
  const Result<Index> added = modules.try_add(std::move(module));
  if (!added) problem = added.error();
}

/// Which factors the file says are seeded; refused if nothing can generate them.
inline void seeded_from_json(JsonFields& fields, NativeMetadata& metadata, std::string& problem) {
  for (const Json& name : fields.array("seeded")) {
    const Factor* factor = nullptr;
    FactorId factor_id = FactorId::A;
    for (const FactorId id : all_factors)
      if (name == to_string(id)) {
        factor = metadata.layout.scheme().find(id);
        factor_id = id;
      }
    const auto kind = factor ? factor->init.kind : Init::Kind::given;
    const bool known =
        factor && !factor->trained && kind != Init::Kind::given &&
        (metadata.seed || kind == Init::Kind::torch_vera || kind == Init::Kind::constant) &&
        (kind != Init::Kind::torch_vera || factor_id == FactorId::A || factor_id == FactorId::B);
    if (!known) {
      problem = "names a factor in \"seeded\" that is not frozen or cannot be generated from a seed";
      return;
    }
    metadata.seeded[static_cast<std::size_t>(factor_id)] = true;
  }
}

/// Reads what try_native_metadata_text wrote. Messages read as if after "FILE: its metadata ".
inline Result<NativeMetadata> try_parse_native_metadata(std::string_view text) {
  const Result<Json> json = try_parse_json(text);
  if (!json) return json.failure();
  std::string problem;
  {
    // Before all else: a later version may have changed everything else.
    const Json* version =
        json->is_object() && json->contains("format_version") ? &(*json)["format_version"] : nullptr;
    if (version && version->is_number_unsigned() && version->get<std::uint64_t>() > native_format_version)
      return Failure{message("is of format version ", version->get<std::uint64_t>(),
                             ", but this version of tiedlora reads only up to version ",
                             native_format_version, "; use a newer one")};
  }
  JsonFields fields(*json, "\"tiedlora\"", problem);
  fields.integer("format_version", 1, native_format_version);
  ModuleList modules;
  LayoutOptions options;
  Scheme scheme;
  if (const Json* value = fields.value("scheme")) scheme = scheme_from_json(*value, problem);
  const auto rank = static_cast<Index>(fields.integer("rank", 0));
  options.scaling = fields.number("scaling");
  for (const Json& module : fields.array("modules")) {
    module_from_json(module, modules, options, problem);
    if (!problem.empty()) break;
  }
  if (!problem.empty()) return Failure{problem};
  Result<Layout> layout = Layout::try_make(modules, scheme, rank, options);
  if (!layout) return layout.failure();
  NativeMetadata metadata{.layout = *std::move(layout)};
  metadata.base_model = metadata.source.base_model = fields.text("base_model");
  if (fields.has("seed")) metadata.seed = fields.natural("seed");
  seeded_from_json(fields, metadata, problem);
  fields.finish();
  if (!problem.empty()) return Failure{problem};
  return metadata;
}

}  // namespace detail
TIEDLORA_END_NAMESPACE
