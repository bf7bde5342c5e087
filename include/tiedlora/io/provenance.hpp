// What a file says about its adapter besides the parameters, carried from format to format.
#pragma once

#include <string>       // string
#include <string_view>  // string_view
#include <utility>      // move, pair

#include "../adapter/quote.hpp"
#include "../adapter/result.hpp"
#include "../views/config.hpp"
#include "../views/error.hpp"
#include "json/json.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// What the source of an adapter said about the model and the task that it belongs to. None of it changes A,
/// B, u or v, but all of it is needed to use them correctly elsewhere. Empty: the source did not say.
struct Provenance {
  std::string base_model = {};        ///< name or path of the base model (PEFT's base_model_name_or_path)
  std::string revision = {};          ///< of the base model
  std::string task_type = {};         ///< PEFT's, e.g. "CAUSAL_LM"
  std::string base_model_class = {};  ///< PEFT's auto_mapping, which it writes where there is no task type
  std::string parent_library = {};    ///< likewise
  std::string architecture = {};      ///< GGUF's general.architecture, e.g. "llama"
  std::string task_name = {};         ///< GGUF's adapter.lora.task_name, which llama.cpp's server shows
  std::string prompt_prefix = {};     ///< GGUF's adapter.lora.prompt_prefix, likewise
  bool fan_in_fan_out = false;        ///< the base's weights are in × out (GPT-2's Conv1D)
  /// The modules are called as transformers' AutoModel has them, "layers.0…" for "model.layers.0…". For
  /// formats with names of their own; the exporter sets it.
  bool bare_names = false;

  bool operator==(const Provenance&) const = default;
};

namespace detail {

/// The members that are texts, by their names in files, but base_model, for which every format has a field.
inline constexpr std::pair<const char*, std::string Provenance::*> provenance_texts[] = {
    {"revision", &Provenance::revision},
    {"task_type", &Provenance::task_type},
    {"base_model_class", &Provenance::base_model_class},
    {"parent_library", &Provenance::parent_library},
    {"architecture", &Provenance::architecture},
    {"task_name", &Provenance::task_name},
    {"prompt_prefix", &Provenance::prompt_prefix},
};
inline constexpr std::pair<const char*, bool Provenance::*> provenance_flags[] = {
    {"fan_in_fan_out", &Provenance::fan_in_fan_out},
    {"bare_names", &Provenance::bare_names},
};

/// All but base_model as JSON, for formats that have no fields of their own for it (native files, GGUF);
/// empty if nothing is said. A Failure where a text is not UTF-8.
inline Result<std::string> try_provenance_text(const Provenance& source) {
  Json json = Json::object();
  for (const auto& [name, member] : provenance_texts)
    if (!(source.*member).empty()) json[name] = source.*member;
  for (const auto& [name, member] : provenance_flags)
    if (source.*member) json[name] = true;
  if (json.empty()) return std::string();
  Result<std::string> text = try_dump_json(json);
  if (!text) return Failure{"what the adapter's source said " + text.error()};
  return text;
}

/// Reads what try_provenance_text wrote. What a later version may have added is passed over: it describes,
/// and changes no parameter.
inline Status try_parse_provenance(std::string_view text, Provenance& to) {
  const Result<Json> json = try_parse_json(text);
  if (!json) return json.failure();
  if (!json->is_object()) return Failure{"is not an object"};
  for (const auto& [name, member] : provenance_texts) {
    const auto value = json->find(name);
    if (value == json->end()) continue;
    if (!value->is_string()) return Failure{message("has ", in_quotes(name), ", which is not a string")};
    to.*member = value->get<std::string>();
  }
  for (const auto& [name, member] : provenance_flags) {
    const auto value = json->find(name);
    if (value == json->end()) continue;
    if (!value->is_boolean())
      return Failure{message("has ", in_quotes(name), ", which is neither true nor false")};
    to.*member = value->get<bool>();
  }
  return success();
}

/// What a caller says goes before what the source said.
inline const std::string& first_said(const std::string& caller, const std::string& source) {
  return caller.empty() ? source : caller;
}

}  // namespace detail
TIEDLORA_END_NAMESPACE
