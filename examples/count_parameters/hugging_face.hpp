// The sizes of a model from its Hugging Face config.json.
#pragma once

#include <filesystem>  // path
#include <fstream>     // ifstream
#include <stdexcept>   // runtime_error
#include <string>      // string
#include <vector>      // vector

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "model.hpp"

namespace count_parameters {
namespace detail {

/// How a family of models calls one of its sizes. An optional size has a default that holds for the family.
struct Key {
  const char* name = nullptr;  ///< null: the family has no such key and always takes the default
  bool optional = false;
};

/// Where the config.json of one model_type keeps the sizes.
struct Architecture {
  const char* model_type = nullptr;
  bool gated = true;
  Key layers = {"num_hidden_layers"};
  Key width = {"hidden_size"};
  Key heads = {"num_attention_heads"};
  Key key_heads = {"num_key_value_heads"};   ///< default: as many as heads
  Key head_size = {"head_dim", true};        ///< default: width / heads
  Key feed_forward = {"intermediate_size"};  ///< default: 4 × width
};

// What is optional here has, in transformers, the default above; elsewhere its default is a number that
// differs from family to family, and a file without it is refused rather than guessed at.
inline const std::vector<Architecture>& architectures() {
  constexpr Key key_heads = {"num_key_value_heads", true}, head_size = {"head_dim"}, none = {};
  static const std::vector<Architecture> all = {
      {.model_type = "llama", .key_heads = key_heads},
      {.model_type = "mistral"},
      {.model_type = "qwen2"},
      {.model_type = "qwen3", .head_size = head_size},
      {.model_type = "gemma", .head_size = head_size},
      {.model_type = "gemma2", .head_size = head_size},
      {.model_type = "gemma3_text", .head_size = head_size},
      {.model_type = "granite", .key_heads = key_heads},
      {.model_type = "olmo", .key_heads = key_heads},
      {.model_type = "olmo2", .key_heads = key_heads},
      {.model_type = "smollm3"},
      {.model_type = "gpt2",
       .gated = false,
       .layers = {"n_layer"},
       .width = {"n_embd"},
       .heads = {"n_head"},
       .key_heads = none,
       .head_size = none,
       .feed_forward = {"n_inner", true}},
      {.model_type = "opt",
       .gated = false,
       .key_heads = none,
       .head_size = none,
       .feed_forward = {"ffn_dim"}},
      {.model_type = "gpt_neox", .gated = false, .key_heads = none, .head_size = none},
      {.model_type = "bert", .gated = false, .key_heads = none, .head_size = none},
      {.model_type = "roberta", .gated = false, .key_heads = none, .head_size = none},
      {.model_type = "xlm-roberta", .gated = false, .key_heads = none, .head_size = none},
  };
  return all;
}

/// One config.json: reads sizes, and names the file and the key where one is wrong.
class ConfigFile {
 public:
  explicit ConfigFile(const std::filesystem::path& path) : path_(path.string()) {
    std::ifstream file(path);
    if (!file || std::filesystem::is_directory(path))
      throw std::runtime_error(
          fmt::format("cannot read {}; --config takes the path of a config.json", path_));
    try {
      json_ = nlohmann::json::parse(file);
    } catch (const nlohmann::json::exception& error) {
      fail(fmt::format("is not JSON: {}", error.what()));
    }
    if (!json_.is_object()) fail("is JSON, but not an object");
  }

  const Architecture& architecture() const {
    const auto type = json_.find("model_type");
    if (type == json_.end() || !type->is_string())
      fail("lacks the key \"model_type\" (a string); is it the config.json of a model?");
    std::string known;
    for (const Architecture& one : architectures()) {
      if (type->get<std::string>() == one.model_type) return one;
      known += (known.empty() ? "" : ", ") + std::string(one.model_type);
    }
    fail(fmt::format("has model_type \"{}\", which this program does not know; it knows {}{}",
                     type->get<std::string>(), known,
                     json_.contains("text_config")
                         ? ". Its text_config may be one of them: save that part as a file of its own"
                         : ""));
  }

  /// The number at a key; `otherwise` where the key is optional and missing or null.
  Index size(const Key& key, Index otherwise) const {
    if (!key.name) return otherwise;
    const auto found = json_.find(key.name);
    if (found == json_.end() || found->is_null()) {
      if (key.optional) return otherwise;
      fail(fmt::format("lacks the key \"{}\", which a model of type \"{}\" needs", key.name,
                       json_.at("model_type").get<std::string>()));
    }
    // Ten million is beyond every model and keeps the products of sizes far from overflow.
    constexpr Index limit = 10'000'000;
    if (!found->is_number_integer() || *found < 1 || *found > limit)
      fail(fmt::format("has \"{}\": {}, which is not a whole number from 1 to {}", key.name, found->dump(),
                       limit));
    return found->get<Index>();
  }

  [[noreturn]] void fail(const std::string& what) const { throw std::runtime_error(path_ + " " + what); }

 private:
  std::string path_;
  nlohmann::json json_;
};

}  // namespace detail

/// The sizes of the model described by that config.json; its name is the folder's. Throws runtime_error,
/// naming the file and the key, for a file that cannot be read, an unknown model_type and missing or
/// impossible sizes.
inline Model read_hugging_face_config(const std::filesystem::path& path) {
  const detail::ConfigFile file(path);
  const detail::Architecture& keys = file.architecture();
  const std::filesystem::path folder = path.parent_path().filename();
  Model model;
  model.name = path.filename() == "config.json" && !folder.empty() && folder != "." && folder != ".."
                   ? folder.string()
                   : path.stem().string();
  model.source = path.string();
  model.gated = keys.gated;
  model.layers = file.size(keys.layers, 0);
  model.width = file.size(keys.width, 0);
  const Index heads = file.size(keys.heads, 0);
  const Index head_size = file.size(keys.head_size, model.width / heads);
  const Index key_heads = file.size(keys.key_heads, heads);
  model.feed_forward = file.size(keys.feed_forward, 4 * model.width);
  model.query_width = heads * head_size;
  model.key_width = key_heads * head_size;

  constexpr Index most_layers = 10'000;  // each is listed, so that a wrong number would take memory
  if (model.layers > most_layers)
    file.fail(
        fmt::format("has {} layers, more than the {} that this program counts", model.layers, most_layers));
  if (!keys.head_size.name && model.query_width != model.width)
    file.fail(fmt::format("has width {}, which {} attention heads do not divide", model.width, heads));
  if (heads % key_heads != 0)
    file.fail(
        fmt::format("has {} attention heads, which {} key-value heads do not divide", heads, key_heads));
  return model;
}

}  // namespace count_parameters
