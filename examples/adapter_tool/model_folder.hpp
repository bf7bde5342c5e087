// The folder of a merged model: what goes into it beside the weights, and which folders are refused.
#pragma once

#include <filesystem>    // create_directories, directory_iterator, equivalent, path
#include <ostream>       // ostream
#include <set>           // set
#include <string>        // string
#include <system_error>  // error_code
#include <utility>       // move
#include <vector>        // vector

#include <tiedlora/io.hpp>

#include "refuse.hpp"

namespace adapter_tool {

using tiedlora::detail::in_quotes;

/// A copy of a file, to be committed.
inline tiedlora::AtomicFile write_copy(const std::filesystem::path& from, const std::filesystem::path& to) {
  const auto file = value_of(tiedlora::MappedFile::try_open(from));
  auto out = value_of(tiedlora::AtomicFile::try_create(to));
  value_of(out.try_append(file.bytes()));
  return out;
}

/// A folder that is made where it is not there, and then removed again unless something was put into it.
struct NewFolder {
  std::filesystem::path path;
  bool is_new;
  explicit NewFolder(std::filesystem::path folder)
      : path(std::move(folder)), is_new(std::filesystem::create_directories(path)) {}
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;
  ~NewFolder() {
    if (!is_new) return;
    std::error_code not_empty;
    std::filesystem::remove(path, not_empty);
  }
};

/// Whether a file of a model's folder holds its weights in another format.
inline bool holds_weights(const std::filesystem::path& file) {
  const std::string extension = file.extension().string();
  for (const char* known : {".bin", ".gguf", ".ggml", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx",
                            ".onnx_data", ".tflite", ".npz"})
    if (extension == known) return true;
  return false;
}

/// What else of the base's folder belongs to the merged model.
struct CopiedFiles {
  std::vector<std::filesystem::path> files = {};  ///< tokenizer and the like
  std::vector<std::filesystem::path> last = {};   ///< config, and index: without them nothing is loaded
};

/// The index only where the weights are in several files.
inline CopiedFiles files_to_copy(const std::filesystem::path& base, bool has_index, std::ostream& err) {
  CopiedFiles copied;
  for (const auto& entry : std::filesystem::directory_iterator(base)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_directory())
      err << "note: not copied, since it is a folder; copy it if the model needs it: " << in_quotes(name)
          << '\n';
    // With an adapter's config, transformers would load that on top.
    if (!entry.is_regular_file() || entry.path().extension() == ".safetensors" ||
        name.starts_with("adapter_"))
      continue;
    const bool is_index = name == "model.safetensors.index.json" && has_index;
    if (holds_weights(entry.path()) || (name.ends_with(".index.json") && !is_index))
      err << "note: not copied, since it looks like weights without the adapter: " << in_quotes(name) << '\n';
    else
      (is_index || name == "config.json" ? copied.last : copied.files).push_back(entry.path());
  }
  return copied;
}

/// Refuses a target in which the merged model would not be what is loaded, or that is the base itself.
inline void check_target(const std::filesystem::path& target, const std::filesystem::path& base,
                         const std::vector<std::filesystem::path>& written) {
  const auto is_base = [](const std::filesystem::path& to, const std::filesystem::path& from) {
    return std::filesystem::exists(to) && std::filesystem::equivalent(to, from);
  };
  const bool is_folder = std::filesystem::is_directory(base);
  if (is_base(target, base))
    refuse(in_quotes(target.string()) + " is the base model itself; give another " +
           (is_folder ? "folder" : "file"));
  if (!is_folder || !std::filesystem::is_directory(target)) return;
  if (std::filesystem::exists(target / "adapter_config.json"))
    refuse(in_quotes(target.string()) + " is the folder of an adapter; give another one");
  std::set<std::string> names;
  for (const auto& file : written) {
    names.insert(file.filename().string());
    if (is_base(target / file.filename(), file))
      refuse(in_quotes((target / file.filename()).string()) +
             " is a file of the base model itself; give another folder");
  }
  for (const auto& entry : std::filesystem::directory_iterator(target)) {
    const std::string name = entry.path().filename().string();
    const bool is_model = (name.starts_with("model") && name.ends_with(".safetensors")) ||
                          name.ends_with(".safetensors.index.json");
    if (is_model && !names.contains(name))
      refuse(in_quotes(target.string()) + " holds another model, with " + in_quotes(name) +
             ", which would stay beside the merged one; give another folder, or remove that model from it");
  }
}

}  // namespace adapter_tool
