// The sizes of a model from its Hugging Face config.json.
#pragma once

#include <cstdint>      // uintmax_t
#include <filesystem>   // path, file_size
#include <fstream>      // ifstream
#include <span>         // as_bytes, span
#include <stdexcept>    // runtime_error
#include <string>       // string
#include <string_view>  // string_view
#include <utility>      // move
#include <vector>       // vector

#include <fmt/format.h>
#include <fmt/ranges.h>  // join
#include <nlohmann/json.hpp>
#include <tiedlora/adapter/quote.hpp>  // escaped
#include <tiedlora/io/json/json.hpp>   // try_parse_json
#include <tiedlora/io/sniff.hpp>       // sniff_bytes

#include "../paths.hpp"  // why_unreadable
#include "architectures.hpp"
#include "model.hpp"

namespace count_parameters {
namespace detail {

/// One config.json: finds the part that describes the language model, reads sizes, and names the file and the
/// key where one is wrong.
class ConfigFile {
 public:
  explicit ConfigFile(const std::filesystem::path& path) : path_(tiedlora::detail::escaped(path.string())) {
    json_ = parse(read(path));
    if (!json_.is_object()) fail("is JSON, but not an object");
    find_language_model();
  }

  const Architecture& architecture() const { return *architecture_; }
  /// Where the sizes are, of what type, and which of them are transformers' defaults.
  std::string source() const {
    std::string text = path_;
    if (!where_.empty()) text += fmt::format(" ({}, a {})", where_, architecture_->model_type);
    if (!defaults_.empty())
      text += fmt::format("; by the defaults of transformers for {}: {}", architecture_->model_type,
                          fmt::join(defaults_, ", "));
    return text;
  }

  /// The number at a key: where it is missing the default of transformers, where it is null and that may be
  /// `derived`.
  Index size(const Key& key, Index missing, bool null_is_derived = false) {
    if (!key.name) return derived;
    const nlohmann::json* const found = find(key);
    if (!found && missing > 0) defaults_.push_back(fmt::format("{} {}", key.name, missing));
    if (!found && missing != required) return missing;
    if (found && found->is_null() && (missing == derived || null_is_derived)) return derived;
    if (!found || found->is_null())
      fail(fmt::format("{} the key \"{}\", which a model of type {} needs", found ? "has null at" : "lacks",
                       full_name(key.name), architecture_->model_type));
    // Ten million is beyond every model and keeps the products of sizes far from overflow.
    constexpr Index limit = 10'000'000;
    if (!found->is_number_integer() || *found < 1 || *found > limit)
      fail(fmt::format("has \"{}\": {}, which is not a whole number from 1 to {}", full_name(key.name),
                       shown(*found), limit));
    return found->get<Index>();
  }
  bool flag(const char* key, bool missing) const {
    const auto found = part_->find(key);
    if (found == part_->end()) return missing;
    if (!found->is_boolean())
      fail(fmt::format("has \"{}\": {}, which is neither true nor false", full_name(key), shown(*found)));
    return found->get<bool>();
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw std::runtime_error(tiedlora::detail::escaped(path_ + " " + what));
  }

 private:
  std::string read(const std::filesystem::path& path) const {
    if (std::filesystem::is_directory(path))
      throw std::runtime_error(
          fmt::format("{} is a folder; --config takes the path of the config.json in it", path_));
    if (const std::string why = examples::why_unreadable(path); !why.empty())
      throw std::runtime_error(why + "; --config takes the path of a config.json");
    std::ifstream file(path, std::ios::binary);
    constexpr std::size_t most = std::size_t{16} << 20;
    std::string text(most + 1, '\0');
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(file.gcount()));
    const auto found = tiedlora::sniff_bytes(std::as_bytes(std::span(text)));
    if (found.kind != tiedlora::FileKind::json && !found.what.empty())
      fail(fmt::format("is {} (a model's config.json is expected)", found.what));
    if (text.size() > most) fail("is larger than 16 MiB: it is not a config.json");
    return text;
  }

  nlohmann::json parse(const std::string& text) const {
    auto parsed = tiedlora::try_parse_json(text);
    if (parsed) return *std::move(parsed);
    if (!parsed.error().starts_with("is not valid JSON")) fail(parsed.error());  // a name twice, or too deep
    std::string where = parsed.error();
    try {
      const nlohmann::json none = nlohmann::json::parse(text);
    } catch (const nlohmann::json::exception& error) {  // with line and column
      where = error.what();
      where = where.substr(where.find("] ") + 2);
      where = where.substr(0, where.find("; last read"));
    }
    fail(fmt::format("is not JSON: {} (JSON has no comments, trailing commas, NaN or Infinity)", where));
  }

  /// Models that see or hear keep the sizes of their language model in an object of its own.
  void find_language_model() {
    part_ = &json_;
    std::string type = type_of(json_, "");
    for (int depth = 0; depth < 3; ++depth) {
      architecture_ = find_architecture(type);
      const auto nested = nested_in(*part_);
      // Some types have had their sizes at the top in older files.
      const bool is_here = architecture_ && (!nested || find(architecture_->keys.width));
      if (is_here || !nested) break;
      const nlohmann::json& inner = part_->at(nested);
      where_ += (where_.empty() ? "" : ".") + std::string(nested);
      if (!inner.is_object()) fail(fmt::format("has \"{}\", which is not an object", where_));
      const char* const otherwise = inner_type(type);
      type = type_of(inner, otherwise ? otherwise : "");
      part_ = &inner;
    }
    architecture_ = find_architecture(type);
    if (type.empty())
      fail(json_.contains("peft_type")
               ? "is the configuration of an adapter; --config takes that of its base model"
               : fmt::format("lacks the key \"{}\" (a string); is it the config.json of a model?",
                             full_name("model_type")));
    if (const char* const reason = why_not_counted(type))
      fail(fmt::format("has {} {}: {}", full_name("model_type"), quoted(type), reason));
    if (!architecture_) {
      std::vector<std::string> known;
      for (const Architecture& one : architectures()) known.emplace_back(one.model_type);
      fail(fmt::format("has {} {}, which this program does not know; it knows {}", full_name("model_type"),
                       quoted(type), fmt::join(known, ", ")));
    }
    // A whole file always has these; without them it is a fragment. Parts hold what differs from defaults.
    if (where_.empty())
      for (const Key& key : {architecture_->keys.width, architecture_->keys.layers})
        if (!find(key))
          fail(fmt::format("lacks the key \"{}\", which a model of type {} needs", key.name, type));
  }

  /// Under either of its names; null where it is missing.
  const nlohmann::json* find(const Key& key) const {
    const nlohmann::json* result = nullptr;
    for (const char* name : {key.name, key.alias}) {
      const auto found = name ? part_->find(name) : part_->end();
      if (found == part_->end()) continue;
      if (result && *result != *found)
        fail(fmt::format("has \"{}\": {} and \"{}\": {}, which should be the same", full_name(key.name),
                         shown(*result), full_name(key.alias), shown(*found)));
      result = &*found;
    }
    return result;
  }
  std::string type_of(const nlohmann::json& part, const std::string& otherwise) const {
    const auto type = part.find("model_type");
    if (type == part.end()) return otherwise;
    if (!type->is_string())
      fail(fmt::format("has \"{}\": {}, which is not a string", full_name("model_type"), shown(*type)));
    return type->get<std::string>();
  }
  static const char* nested_in(const nlohmann::json& part) {
    for (const char* name : {"text_config", "llm_config", "language_config", "thinker_config"})
      if (part.contains(name)) return name;
    return nullptr;
  }
  std::string full_name(const char* key) const { return where_.empty() ? key : where_ + "." + key; }
  // JSON's escapes keep control characters of a file from the terminal.
  static std::string shown(const nlohmann::json& value) {
    const std::string text = value.dump();
    return text.size() <= 60 ? text : text.substr(0, 60) + "...";
  }
  static std::string quoted(const std::string& text) { return shown(nlohmann::json(text)); }

  std::string path_, where_;
  nlohmann::json json_;
  const nlohmann::json* part_ = nullptr;  // the object with the sizes
  const Architecture* architecture_ = nullptr;
  std::vector<std::string> defaults_;
};

}  // namespace detail

/// The sizes of the model described by that config.json; its name is the folder's. Throws runtime_error,
/// naming the file and the key, for a file that cannot be read, an unknown model_type and missing or
/// impossible sizes.
inline Model read_hugging_face_config(const std::filesystem::path& path) {
  detail::ConfigFile file(path);
  const detail::Architecture& type = file.architecture();
  const detail::Defaults& defaults = type.defaults;
  const std::filesystem::path folder = path.parent_path().filename();
  Model model;
  const bool is_named_by_folder =
      path.filename() == "config.json" && !folder.empty() && folder != "." && folder != "..";
  model.name = tiedlora::detail::escaped(is_named_by_folder ? folder.string() : path.stem().string());
  model.gated = type.gated;
  model.fused_attention = type.fused_attention;
  model.fused_feed_forward = type.fused_feed_forward;
  model.layers = file.size(type.keys.layers, defaults.layers);
  model.width = file.size(type.keys.width, defaults.width);
  const Index heads = file.size(type.keys.heads, defaults.heads);
  const Index own_head_size = file.size(type.keys.head_size, defaults.head_size, type.null_head_size);
  if (own_head_size == detail::derived && model.width % heads != 0)
    file.fail(
        fmt::format("has width {}, which is not a multiple of its {} attention heads", model.width, heads));
  const Index head_size = own_head_size == detail::derived ? model.width / heads : own_head_size;
  const bool says_key_heads =
      !type.has_multi_query && (!type.is_falcon || file.flag("new_decoder_architecture", false));
  Index key_heads = says_key_heads ? file.size(type.keys.key_heads, defaults.key_heads, type.null_key_heads)
                                   : Index{file.flag("multi_query", true)};
  if (key_heads == detail::derived) key_heads = heads;
  model.query_width = heads * head_size;
  model.key_width = key_heads * head_size;
  if (type.experts) {
    model.why_no_feed_forward = fmt::format("holds experts ({}), which are not counted here", type.experts);
  } else {
    model.feed_forward = file.size(type.keys.feed_forward, defaults.feed_forward);
    if (model.feed_forward == detail::derived) model.feed_forward = 4 * model.width;
  }
  model.source = file.source();

  constexpr Index most_layers = 10'000;  // each is listed, so that a wrong number would take memory
  if (model.layers > most_layers)
    file.fail(
        fmt::format("has {} layers, more than the {} that this program counts", model.layers, most_layers));
  if (heads % key_heads != 0)
    file.fail(fmt::format("has {} attention heads, which is not a multiple of its {} key-value heads", heads,
                          key_heads));
  return model;
}

}  // namespace count_parameters
