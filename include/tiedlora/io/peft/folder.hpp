// A folder that PEFT saved, opened: its config, its tensors, and the modules that these tell of.
#pragma once

#include <cstddef>       // size_t
#include <filesystem>    // exists, path
#include <system_error>  // error_code
#include <utility>       // move
#include <vector>        // vector

#include "../../adapter/modules.hpp"
#include "../../adapter/result.hpp"
#include "../../views/config.hpp"
#include "../../views/error.hpp"
#include "../file.hpp"
#include "../module_names.hpp"
#include "../quote.hpp"
#include "../safetensors/file.hpp"
#include "config.hpp"
#include "tensors.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace detail {

/// An open folder: its config, and its tensors where they lie in the mapped file.
struct PeftFolder {
  PeftConfig config;
  safetensors::File file;
  PeftTensors tensors;
};

inline constexpr const char* peft_config_name = "adapter_config.json";
inline constexpr const char* peft_weights_name = "adapter_model.safetensors";

inline Result<PeftFolder> try_open_peft(const std::filesystem::path& folder,
                                        const PeftConfigOptions& options) {
  const std::filesystem::path config_path = folder / peft_config_name, path = folder / peft_weights_name;
  const Result<MappedFile> text = MappedFile::try_open(config_path);
  if (!text) return text.failure();
  const auto bytes = text->bytes();
  constexpr std::size_t most = std::size_t{16} << 20;
  if (bytes.size() > most)
    return Failure{message(in_quotes(config_path.string()), " has ", bytes.size(), " bytes; at most ", most,
                           " are read")};
  Result<PeftConfig> config =
      try_parse_peft_config({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, options);
  if (!config) return Failure{message(in_quotes(config_path.string()), " ", config.error())};

  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored) &&
      std::filesystem::exists(folder / "adapter_model.bin", ignored))
    return Failure{
        message(in_quotes(folder.string()),
                " has its weights in adapter_model.bin, a Python pickle, which can run code when it "
                "is read; save it as safetensors with PEFT (save_pretrained)")};
  Result<safetensors::File> file = safetensors::try_open(path);
  if (!file) return file.failure();
  Result<PeftTensors> tensors = try_peft_tensors(*file, *config);
  if (!tensors) return Failure{message(in_quotes(path.string()), " ", tensors.error())};
  return PeftFolder{*std::move(config), *std::move(file), *std::move(tensors)};
}

/// The modules that a LoRA's tensors tell of: the layer is the first number in the name, the kind its last
/// component. Which modules read the same x is not known.
inline Result<ModuleList> try_infer_modules(const PeftFolder& folder) {
  if (folder.config.type != PeftConfig::Type::lora)
    return Failure{"is a VeRA, whose tensors do not tell the modules' shapes: give the host's module list"};
  std::vector<Module> found;
  for (const PeftModule& tensors : folder.tensors.modules) {
    if (tensors.inner->shape.size() != 2 || tensors.outer->shape.size() != 2)
      return Failure{message("module ", in_quotes(tensors.name), " has ", in_quotes(tensors.inner->name),
                             " of ", shape_text(*tensors.inner), " and ", in_quotes(tensors.outer->name),
                             " of ", shape_text(*tensors.outer), "; only matrices can be read")};
    Module module = module_of_name(tensors.name);
    module.in_features = tensors.inner->shape[1];
    module.out_features = tensors.outer->shape[0];
    found.push_back(std::move(module));
  }
  return try_list_of(std::move(found));
}

}  // namespace detail
TIEDLORA_END_NAMESPACE
