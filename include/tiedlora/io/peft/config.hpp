// PEFT's adapter_config.json: read by an allow-list, since what is not understood may change the function.
#pragma once

#include <cmath>        // isfinite, sqrt
#include <cstddef>      // size_t
#include <cstdint>      // int64_t, uint64_t, uint8_t
#include <limits>       // numeric_limits
#include <optional>     // optional
#include <span>         // span
#include <string>       // string
#include <string_view>  // string_view
#include <utility>      // move, pair
#include <vector>       // vector

#include "../../adapter/quote.hpp"
#include "../../adapter/result.hpp"
#include "../../views/config.hpp"
#include "../../views/error.hpp"
#include "../json/json.hpp"
#include "../provenance.hpp"
#include "config_keys.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// Which modules an adapter_config.json names: a list of names or of their ends, a regular expression that
/// describes the whole name, or "all-linear".
struct PeftTargets {
  std::vector<std::string> names = {};  ///< or ends of names: "q_proj"
  std::string pattern = {};             ///< of Python's `re`; describes the whole name
  bool all_linear = false;              ///< "all-linear": every linear module but the head
  bool operator==(const PeftTargets&) const = default;

  /// Whether it names nothing.
  bool empty() const { return names.empty() && pattern.empty() && !all_linear; }
};

/// What an adapter_config.json says: the function that its adapter computes, and what that belongs to.
struct PeftConfig : Provenance {
  /// peft_type: the two that are read here.
  enum class Type : std::uint8_t { lora, vera };
  Type type = Type::lora;  ///< which of the two
  Index rank = 8;          ///< r

  // LoRA
  double alpha = 8;                                                ///< lora_alpha
  bool rank_stabilized = false;                                    ///< use_rslora
  std::vector<std::pair<std::string, Index>> rank_pattern = {};    ///< in the order of the file
  std::vector<std::pair<std::string, double>> alpha_pattern = {};  ///< likewise

  // VeRA
  std::uint64_t projection_key = 0;  ///< projection_prng_key
  bool has_projection = true;        ///< save_projection: A and B are in the file

  PeftTargets targets = {}, excluded = {};                  ///< target_modules, exclude_modules
  std::optional<std::vector<Index>> layers = std::nullopt;  ///< layers_to_transform
  std::vector<std::string> layers_pattern = {};             ///< under which names layers are numbered
  bool weight_tying = false;  ///< ensure_weight_tying: what adapts an embedding adapts lm_head, too

  std::vector<std::string> notes = {};  ///< what was passed over, for whoever loads the adapter

  /// What it says of the base model and the task, for the writer of another file.
  const Provenance& source() const { return *this; }
};

/// What a config may ask for without being refused.
struct PeftConfigOptions {
  /// Whether the host's base weights are the residual ones that init_lora_weights = "pissa", "olora" and the
  /// like leave. If not, such adapters are refused: on the original weights they are silently wrong.
  bool base_is_residual = false;
  /// Leave out, and say so, what no adapter can express (modules_to_save, trained biases), instead of
  /// refusing.
  bool partial = false;
  bool compares_base_weights = false;  ///< as in PeftLoadOptions
};

namespace detail {

/// Builds the Json and notes in which order the patterns of alpha_pattern and rank_pattern stand: the first
/// that matches counts, and a Json sorts its names.
class PeftConfigBuilder : public JsonBuilder {
 public:
  PeftConfigBuilder() : JsonBuilder(32) {}

  bool start_object(std::size_t size) {
    ++depth_;
    return JsonBuilder::start_object(size);
  }
  bool end_object() {
    --depth_;
    return JsonBuilder::end_object();
  }
  bool key(std::string& name) {
    if (depth_ == 1) order_ = name == "alpha_pattern" ? &alphas : name == "rank_pattern" ? &ranks : nullptr;
    if (depth_ == 2 && order_) order_->push_back(name);
    return JsonBuilder::key(name);
  }

  std::vector<std::string> alphas = {}, ranks = {};

 private:
  int depth_ = 0;
  std::vector<std::string>* order_ = nullptr;
};

/// Takes the fields out of the object. What is null counts as absent, as in PEFT.
class PeftConfigReader {
 public:
  PeftConfigReader(const Json& json, std::string& problem) : json_(json), problem_(problem) {}

  const Json* find(const char* name) const {
    const auto found = json_.find(name);
    return found == json_.end() || found->is_null() ? nullptr : &*found;
  }
  void wrong(std::string_view name, std::string_view what) {
    if (problem_.empty()) problem_ = message("has ", in_quotes(name), ", which ", what);
  }
  void read(const char* name, std::string& to) {
    const Json* value = find(name);
    if (!value) return;
    if (const auto* text = value->get_ptr<const std::string*>())
      to = *text;
    else
      wrong(name, "is not a string");
  }
  void read(const char* name, bool& to) {
    const Json* value = find(name);
    if (!value) return;
    if (const auto* flag = value->get_ptr<const bool*>())
      to = *flag;
    else
      wrong(name, "is neither true nor false");
  }
  void read(const char* name, double& to) {
    const Json* value = find(name);
    if (value && !(value->is_number() && std::isfinite(to = value->get<double>())))
      wrong(name, "is not a number");
  }
  /// PEFT cannot compute with these where they are null, and its default is not what was meant.
  void refuse_null(const char* name) {
    const auto found = json_.find(name);
    if (found != json_.end() && found->is_null()) wrong(name, "is null; PEFT cannot load that either");
  }
  /// {"base_model_class": …, "parent_library": …} and what other tools add, which says nothing of the model.
  void read_auto_mapping(Provenance& to) {
    const Json* value = find("auto_mapping");
    if (!value || !value->is_object()) return;
    PeftConfigReader members(*value, problem_);
    members.read("base_model_class", to.base_model_class);
    members.read("parent_library", to.parent_library);
  }
  void read_rank(std::string_view name, const Json& value, Index& to) {
    // Larger ones than any file's are refused, so that products with sizes do not overflow.
    constexpr std::uint64_t most = std::numeric_limits<std::int32_t>::max();
    const auto* natural = value.get_ptr<const std::uint64_t*>();
    if (natural && *natural >= 1 && *natural <= most)
      to = static_cast<Index>(*natural);
    else
      wrong(name, message("is not a rank from 1 to ", most));
  }
  /// A list of texts, or a single one.
  void read(const char* name, std::vector<std::string>& to) {
    const Json* value = find(name);
    if (!value) return;
    if (value->is_string()) return to.push_back(value->get<std::string>());
    if (!value->is_array()) return wrong(name, "is not a list of strings");
    for (const Json& element : *value) {
      if (!element.is_string()) return wrong(name, "is not a list of strings");
      to.push_back(element.get<std::string>());
    }
  }
  void read(const char* name, PeftTargets& to) {
    const Json* value = find(name);
    if (!value) return;
    if (!value->is_string()) return read(name, to.names);
    to.pattern = value->get<std::string>();
    std::string lower = to.pattern;
    for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    to.all_linear = lower == "all-linear";
    if (to.all_linear) to.pattern.clear();
  }
  /// A list of layers, or a single one. An empty list is none, as in PEFT.
  void read(const char* name, std::optional<std::vector<Index>>& to) {
    const Json* value = find(name);
    if (!value) return;
    std::vector<Index> layers;
    const auto add = [&](const Json& layer) {
      if (!layer.is_number_integer()) return wrong(name, "is neither a layer number nor a list of them");
      layers.push_back(static_cast<Index>(layer.get<std::int64_t>()));
    };
    if (value->is_array())
      for (const Json& layer : *value) add(layer);
    else
      add(*value);
    if (!layers.empty()) to = std::move(layers);
  }
  /// Names of modules, or patterns for them, with a value each; in that order.
  template <class Read>
  void read_patterns(const char* name, std::span<const std::string> order, Read read) {
    const Json* value = find(name);
    if (!value) return;
    if (!value->is_object()) return wrong(name, "is not an object");
    for (const std::string& key : order) read(key, (*value)[key]);
  }

 private:
  const Json& json_;
  std::string& problem_;
};

/// A problem where the init changed the base's weights before training, unless the host has those.
inline void check_peft_init(const Json& value, const PeftConfigOptions& options, std::string& problem) {
  if (!problem.empty() || value.is_null() || value.is_boolean()) return;
  const auto* text = value.get_ptr<const std::string*>();
  std::string init = text ? *text : std::string();
  for (char& c : init) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  for (const std::string_view exact : {"gaussian", "orthogonal", "eva", "mica"})
    if (init == exact) return;
  for (const std::string_view residual : {"pissa", "olora", "corda", "loftq", "lora_ga"})
    if (init.starts_with(residual)) {
      if (!options.base_is_residual)
        problem = message(
            "has init_lora_weights = ", in_quotes(init),
            ", which changed the base model's weights before training: on the original weights this adapter "
            "is wrong. Convert it with PEFT's save_pretrained(path_initial_model_for_weight_conversion=...), "
            "or load it with base_is_residual = true onto the weights that PEFT left");
      return;
    }
  problem = message("has an unknown init_lora_weights ", text ? in_quotes(init) : std::string());
}

/// Reads an adapter_config.json. Messages read as if after its name.
inline Result<PeftConfig> try_parse_peft_config(std::string_view text,
                                                const PeftConfigOptions& options = {}) {
  PeftConfigBuilder builder;
  if (!Json::sax_parse(text.begin(), text.end(), &builder)) return Failure{builder.problem()};
  const Json json = builder.take();
  if (!json.is_object()) return Failure{"is not a JSON object"};

  std::string problem, type;
  PeftConfigReader reader(json, problem);
  reader.read("peft_type", type);
  if (problem.empty() && type.empty() &&
      (json.contains("lora_parameters") || json.contains("fine_tune_type")))
    return Failure{
        "is MLX's (it has \"lora_parameters\" or \"fine_tune_type\", but no \"peft_type\"), which stores A "
        "and B transposed under other names; convert the adapter to PEFT's format first, or fuse it with "
        "mlx_lm.fuse"};
  if (problem.empty() && type.empty())
    return Failure{"has no \"peft_type\"; is it the config of a model instead of an adapter?"};
  PeftConfig config;
  if (type == "VERA") {
    config.type = PeftConfig::Type::vera;
    config.rank = 256;
  } else if (problem.empty() && type != "LORA") {
    return Failure{message("has peft_type ", in_quotes(type), "; LORA and VERA can be read")};
  }

  for (const auto& [name, value] : json.items()) {
    const PeftRule* rule = find_peft_rule(config.type == PeftConfig::Type::lora, name);
    if (!rule && !is_harmless(name, value))
      return Failure{
          message("sets ", in_quotes(name),
                  ", which this version of tiedlora does not know and which may change what the adapter "
                  "computes. If it is only a comment, remove it from the file")};
    if (!rule)
      config.notes.push_back(message(in_quotes(name),
                                     " is not known to this version of tiedlora and was ignored: it is ",
                                     is_off(value) ? "off" : "a comment or another tool's version"));
    if (!rule || is_off(value)) continue;
    if (rule->key == PeftKey::tensor && options.partial)
      config.notes.push_back(message("left out: ", in_quotes(name), ": ", rule->reason));
    else if (rule->key == PeftKey::off || rule->key == PeftKey::tensor)
      return Failure{message("sets ", in_quotes(name), ", which is not supported: ", rule->reason)};
  }
  reader.read("base_model_name_or_path", config.base_model);
  reader.read("revision", config.revision);
  reader.read("task_type", config.task_type);
  reader.read("fan_in_fan_out", config.fan_in_fan_out);
  reader.read_auto_mapping(config);
  reader.refuse_null("r");
  if (const Json* rank = reader.find("r")) reader.read_rank("r", *rank, config.rank);
  reader.read("target_modules", config.targets);
  reader.read("exclude_modules", config.excluded);
  reader.read("layers_to_transform", config.layers);
  reader.read("layers_pattern", config.layers_pattern);
  if (config.type == PeftConfig::Type::lora) {
    reader.refuse_null("lora_alpha");
    reader.read("lora_alpha", config.alpha);
    reader.read("use_rslora", config.rank_stabilized);
    reader.read("ensure_weight_tying", config.weight_tying);
    reader.read_patterns("rank_pattern", builder.ranks, [&](const std::string& key, const Json& value) {
      Index rank = 0;
      reader.read_rank("rank_pattern", value, rank);
      config.rank_pattern.emplace_back(key, rank);
    });
    reader.read_patterns("alpha_pattern", builder.alphas, [&](const std::string& key, const Json& value) {
      const double alpha = value.is_number() ? value.get<double>() : std::numeric_limits<double>::infinity();
      if (!std::isfinite(alpha)) reader.wrong("alpha_pattern", "has a value that is not a number");
      config.alpha_pattern.emplace_back(key, alpha);
    });
    if (const Json* init = reader.find("init_lora_weights")) check_peft_init(*init, options, problem);
  } else {
    reader.refuse_null("projection_prng_key");
    reader.read("save_projection", config.has_projection);
    if (const Json* key = reader.find("projection_prng_key")) {
      // torch takes negative ones modulo 2^64.
      if (!key->is_number_integer())
        reader.wrong("projection_prng_key", "is not an integer");
      else if (const auto* natural = key->get_ptr<const std::uint64_t*>())
        config.projection_key = *natural;
      else
        config.projection_key = static_cast<std::uint64_t>(key->get<std::int64_t>());
    }
  }
  if (!problem.empty()) return Failure{problem};
  return config;
}

}  // namespace detail
TIEDLORA_END_NAMESPACE
