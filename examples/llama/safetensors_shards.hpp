// The tensors of a Hugging Face folder, in one file or in several.
#pragma once

#include <cstddef>      // size_t
#include <filesystem>   // path, exists
#include <map>          // map
#include <stdexcept>    // runtime_error
#include <string>       // string
#include <string_view>  // string_view
#include <utility>      // move
#include <vector>       // vector

#include <fmt/format.h>
#include <tiedlora/io/safetensors.hpp>

#include "json_file.hpp"

namespace llama {

/// Mapped, so that only what is used is read. A move keeps tensors where they are.
class SafetensorsShards {
 public:
  /// model.safetensors of the folder or else what model.safetensors.index.json lists. Throws
  /// std::runtime_error where neither is there, a file is damaged, or a tensor is not in the file that the
  /// index names, or two files have the same tensor.
  explicit SafetensorsShards(const std::filesystem::path& folder) {
    const auto index = folder / "model.safetensors.index.json";
    if (std::filesystem::exists(folder / "model.safetensors"))
      open(folder / "model.safetensors");
    else if (std::filesystem::exists(index))
      open_all(folder, index);
    else
      throw std::runtime_error(
          fmt::format("{} has neither model.safetensors nor model.safetensors.index.json; if its weights "
                      "are in another format (pytorch_model.bin), save it with transformers' "
                      "save_pretrained",
                      tiedlora::detail::in_quotes(folder.string())));
  }

  /// Null if none has that name.
  const tiedlora::safetensors::Tensor* find(std::string_view name) const {
    for (const tiedlora::safetensors::File& file : files_)
      if (const auto* tensor = file.find(name)) return tensor;
    return nullptr;
  }
  /// Of the file that a tensor found here is in.
  const std::filesystem::path& path_of(const tiedlora::safetensors::Tensor& tensor) const {
    std::size_t i = 0;
    while (files_[i].find(tensor.name) != &tensor) ++i;
    return paths_[i];
  }
  /// Calls visit(tensor, path of its file).
  template <class Visit>
  void for_each(const Visit& visit) const {
    for (std::size_t i = 0; i < files_.size(); ++i)
      for (const tiedlora::safetensors::Tensor& tensor : files_[i].tensors()) visit(tensor, paths_[i]);
  }

 private:
  void open(const std::filesystem::path& path) {
    auto file = tiedlora::safetensors::try_open(path);
    if (!file) throw std::runtime_error(file.error());
    files_.push_back(*std::move(file));
    paths_.push_back(path);
  }

  void open_all(const std::filesystem::path& folder, const std::filesystem::path& index) {
    const JsonFile json(index);
    const JsonNode map = json.root()["weight_map"];
    std::map<std::string, std::size_t> opened;  // which of files_, by name
    for (const auto& [tensor, value] : map.object()) {
      const JsonNode entry = map[tensor.c_str()];
      const std::string& file = entry.text();
      // A name from the file is not to lead out of the folder.
      if (file.empty() || std::filesystem::path(file).filename() != file)
        entry.fail(fmt::format("is \"{}\"; the name of a file beside it is expected", file));
      if (opened.try_emplace(file, files_.size()).second) open(folder / file);
      if (!files_[opened.at(file)].find(tensor))
        entry.fail(fmt::format("names \"{}\", which has no such tensor (files of different models?)", file));
    }
    std::map<std::string_view, std::size_t> file_of;
    for (std::size_t i = 0; i < files_.size(); ++i)
      for (const tiedlora::safetensors::Tensor& tensor : files_[i].tensors())
        if (const auto [other, is_new] = file_of.try_emplace(tensor.name, i); !is_new)
          throw std::runtime_error(
              fmt::format("{}: {} and {} both have the tensor {} (files of different models?)",
                          tiedlora::detail::in_quotes(folder.string()),
                          tiedlora::detail::in_quotes(paths_[other->second].filename().string()),
                          tiedlora::detail::in_quotes(paths_[i].filename().string()),
                          tiedlora::detail::in_quotes(tensor.name)));
  }

  std::vector<tiedlora::safetensors::File> files_;
  std::vector<std::filesystem::path> paths_;
};

}  // namespace llama
