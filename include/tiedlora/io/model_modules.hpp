// The modules of a base model, from the headers of its safetensors files: no weight is read.
#pragma once

#include <algorithm>    // sort
#include <cstddef>      // size_t
#include <filesystem>   // is_directory, path
#include <map>          // map
#include <set>          // set
#include <string>       // string
#include <string_view>  // string_view
#include <utility>      // move, pair, swap
#include <vector>       // vector

#include "../adapter/modules.hpp"
#include "../adapter/quote.hpp"
#include "../adapter/result.hpp"
#include "../views/config.hpp"
#include "../views/error.hpp"
#include "file.hpp"
#include "json/json.hpp"
#include "module_names.hpp"
#include "safetensors/file.hpp"
#include "sniff.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// What the files of a model do not say.
struct ModelModulesOptions {
  /// The weights are in × out, as those of GPT-2's Conv1D (PEFT's fan_in_fan_out). The file does not tell.
  bool fan_in_fan_out = false;
};

namespace detail {
/// What a folder without a model's safetensors is, and what to do; empty where nothing is known.
inline std::string without_safetensors(const std::filesystem::path& folder) {
  std::error_code ignored;
  const auto has = [&](const char* name) { return std::filesystem::exists(folder / name, ignored); };
  if (has("adapter_config.json")) return ": it is the folder of an adapter; give that of the base model";
  if (has("pytorch_model.bin") || has("pytorch_model.bin.index.json"))
    return ": its weights are Python pickles, which can run code when they are read; save the model with "
           "transformers' save_pretrained, which writes safetensors";
  if (has("snapshots"))
    return ": it is a folder of the Hugging Face cache; give one of the folders in its snapshots/";
  return {};
}

/// The files of a model: the one given, or those of a folder as transformers writes it.
inline Result<std::vector<std::filesystem::path>> try_model_files(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(path, ignored)) {
    if (path.filename() == "model.safetensors.index.json")
      return Failure{message(in_quotes(utf8(path)), " lists the files of a model; give its folder, ",
                             in_quotes(utf8(path.parent_path().empty() ? "." : path.parent_path())))};
    return std::vector{path};
  }
  if (std::filesystem::exists(path / "model.safetensors", ignored))
    return std::vector{path / "model.safetensors"};
  const std::filesystem::path index = path / "model.safetensors.index.json";
  if (!std::filesystem::exists(index, ignored))
    return Failure{message(in_quotes(utf8(path)),
                           " has neither model.safetensors nor model.safetensors.index.json",
                           without_safetensors(path))};
  const Result<MappedFile> file = try_open_as(FileKind::json, index, "JSON");
  if (!file) return file.failure();
  const auto bytes = file->bytes();
  const Result<Json> json =
      try_parse_json(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  if (!json) return Failure{message(in_quotes(utf8(index)), " ", json.error())};
  const auto map = json->is_object() ? json->find("weight_map") : json->end();
  std::set<std::string> names;
  bool valid = json->is_object() && map != json->end() && map->is_object();
  if (valid)
    for (const auto& [tensor, name] : map->items()) {
      // A plain name: an index must not lead out of its folder.
      const auto shard = name.is_string() ? path_of_utf8(name.get<std::string>()) : std::filesystem::path();
      valid = valid && shard.has_filename() && !shard.has_parent_path();
      if (valid) names.insert(name.get<std::string>());
    }
  if (!valid || names.empty())
    return Failure{
        message(in_quotes(utf8(index)), " has no \"weight_map\" from tensors to files of its folder")};
  std::vector<std::filesystem::path> files;
  for (const std::string& name : names) files.push_back(path / path_of_utf8(name));
  return files;
}

}  // namespace detail

/// The linear modules of a model from a safetensors file or a folder that transformers' save_pretrained
/// wrote: every matrix NAME.weight but embeddings. The layer is the first number in the name, the kind its
/// last component. Which modules read the same x is not in the file: schemes that tie by input need a list
/// with labels. A Failure, naming the file, if one cannot be read or there is no such matrix.
inline Result<ModuleList> try_model_modules(const std::filesystem::path& path,
                                            const ModelModulesOptions& options = {}) {
  using detail::message, detail::in_quotes, detail::utf8;
  const auto files = detail::try_model_files(path);
  if (!files) return files.failure();
  std::vector<Module> found;
  for (const std::filesystem::path& file_path : *files) {
    const Result<safetensors::File> file = safetensors::try_open(file_path);
    if (!file) return file.failure();
    for (const safetensors::Tensor& tensor : file->tensors()) {
      constexpr std::string_view suffix = ".weight";
      if (tensor.shape.size() != 2 || !tensor.name.ends_with(suffix) || tensor.name.size() == suffix.size())
        continue;
      Module module = detail::module_of_name(tensor.name.substr(0, tensor.name.size() - suffix.size()));
      if (detail::is_embedding(module.kind)) continue;
      module.out_features = tensor.shape[0];
      module.in_features = tensor.shape[1];
      if (options.fan_in_fan_out) std::swap(module.out_features, module.in_features);
      found.push_back(std::move(module));
    }
  }
  std::sort(found.begin(), found.end(),
            [](const Module& a, const Module& b) { return detail::natural_less(a.name, b.name); });
  Result<ModuleList> modules = detail::try_list_of(std::move(found));
  if (modules && modules->size() > 0) return modules;
  return Failure{message(in_quotes(utf8(path)), modules ? " has no matrix NAME.weight" : ": ",
                         modules ? std::string() : modules.error())};
}
inline ModuleList model_modules(const std::filesystem::path& path, const ModelModulesOptions& options = {}) {
  return detail::value_or_fail(try_model_modules(path, options));
}

TIEDLORA_END_NAMESPACE
