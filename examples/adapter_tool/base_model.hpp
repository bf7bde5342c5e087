// What a base model says about itself: its architecture and heads, from its config.json or its GGUF file.
#pragma once

#include <filesystem>  // exists, is_directory, path
#include <stdexcept>   // invalid_argument, runtime_error
#include <string>      // string
#include <utility>     // as_const

#include <fmt/format.h>
#include <tiedlora/io.hpp>
#include <tiedlora/tiedlora.hpp>

namespace adapter_tool {

using tiedlora::Index;

struct BaseModel {
  std::string where = {};         ///< the file that says so; empty: none does
  std::string model_type = {};    ///< as the file calls it
  std::string architecture = {};  ///< GGUF's name for that; empty: not one that is known
  Index heads = 0, kv_heads = 0;  ///< 0: not said
  bool ties_head = false;         ///< tie_word_embeddings: lm_head's weight is the embedding
};

inline bool is_gguf(const std::filesystem::path& path) {
  return tiedlora::sniff(path).kind == tiedlora::FileKind::gguf;
}

inline Index natural_of(const tiedlora::Json& json, const char* name) {
  const auto found = json.find(name);
  const auto* number = found == json.end() ? nullptr : found->get_ptr<const std::uint64_t*>();
  return number && *number < (1u << 20) ? static_cast<Index>(*number) : 0;
}

inline BaseModel read_config(const std::filesystem::path& path) {
  const auto quoted = tiedlora::detail::in_quotes(path.string());
  const auto file = tiedlora::detail::value_or_fail(
      tiedlora::detail::try_open_as(tiedlora::FileKind::json, path, "a model's config.json"));
  const auto bytes = file.bytes();
  auto parsed = tiedlora::try_parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  if (!parsed) throw std::runtime_error(quoted + " " + parsed.error());
  if (!parsed->is_object()) throw std::runtime_error(quoted + " is not a JSON object");
  // Models of pictures and texts keep the language model's sizes inside.
  const auto inner = parsed->find("text_config");
  const tiedlora::Json& json = inner != parsed->end() && inner->is_object() ? *inner : *parsed;
  BaseModel base{.where = path.string()};
  if (const auto type = json.find("model_type"); type != json.end() && type->is_string())
    base.model_type = type->get<std::string>();
  if (const auto* known = tiedlora::gguf::architecture_of_model(base.model_type))
    base.architecture = known->name;
  base.heads = natural_of(json, "num_attention_heads");
  base.kv_heads = natural_of(json, "num_key_value_heads");
  if (base.kv_heads == 0) base.kv_heads = base.heads;
  for (const tiedlora::Json* part : {&json, &std::as_const(*parsed)})
    if (const auto ties = part->find("tie_word_embeddings"); ties != part->end() && ties->is_boolean())
      base.ties_head = ties->get<bool>();
  return base;
}

inline BaseModel read_gguf_base(const std::filesystem::path& path) {
  const tiedlora::gguf::File file = tiedlora::gguf::open(path);
  const auto text = [&file](const std::string& key) {
    const auto* value = file.find_value(key);
    return std::string(value ? value->text().value_or("") : "");
  };
  const auto number = [&file](const std::string& key) {
    const auto* value = file.find_value(key);
    return static_cast<Index>(value ? value->natural().value_or(0) : 0);
  };
  BaseModel base{.where = path.string()};
  base.architecture = base.model_type = text("general.architecture");
  base.heads = number(base.architecture + ".attention.head_count");
  base.kv_heads = number(base.architecture + ".attention.head_count_kv");
  if (base.kv_heads == 0) base.kv_heads = base.heads;
  return base;
}

/// Of a folder as transformers saves it, a safetensors file (the config.json beside it), or a GGUF file.
inline BaseModel read_base(const std::filesystem::path& path) {
  if (path.empty()) return {};
  if (is_gguf(path)) return read_gguf_base(path);
  const std::filesystem::path config =
      (std::filesystem::is_directory(path) ? path : path.parent_path()) / "config.json";
  return std::filesystem::exists(config) ? read_config(config) : BaseModel();
}

}  // namespace adapter_tool
