// A folder that PEFT saved, opened: its config, its tensors, and the modules that these tell of.
#pragma once

#include <algorithm>      // any_of, sort
#include <cstddef>        // size_t
#include <cstdint>        // uint64_t
#include <filesystem>     // directory_iterator, exists, path
#include <string>         // string, to_string
#include <system_error>   // error_code
#include <unordered_set>  // unordered_set
#include <utility>        // move
#include <vector>         // vector

#include "../../adapter/modules.hpp"
#include "../../adapter/quote.hpp"
#include "../../adapter/result.hpp"
#include "../../views/config.hpp"
#include "../../views/error.hpp"
#include "../file.hpp"
#include "../module_names.hpp"
#include "../safetensors/file.hpp"
#include "../sniff.hpp"
#include "config.hpp"
#include "match.hpp"
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

/// A Failure where the folder has no config but its subfolders do: PEFT saves adapters of other names than
/// "default" there, Trainer its checkpoints.
inline Status try_find_config(const std::filesystem::path& folder) {
  std::error_code error;
  if (std::filesystem::exists(folder / peft_config_name, error)) return success();
  std::vector<std::string> found;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    std::error_code ignored;
    if (std::filesystem::exists(entry->path() / peft_config_name, ignored))
      found.push_back(utf8(entry->path().filename()));
  }
  if (found.empty()) return success();  // opening says that the file is not there
  std::sort(found.begin(), found.end());
  std::string list;
  for (const std::string& name : found) list += (list.empty() ? "" : ", ") + in_quotes(name);
  return Failure{message(in_quotes(utf8(folder)), " has no ", peft_config_name, ", but adapters in its ",
                         found.size() == 1 ? "subfolder " : "subfolders ", list, "; give the path of ",
                         found.size() == 1 ? "that" : "one of them")};
}

/// Keeps the modules of which `wrong` says nothing. Of the others the reason is a Failure, or with `partial`
/// they are left out; all of them is the Failure `nothing`.
template <class Wrong>
Status try_keep_modules(PeftTensors& tensors, bool partial, const char* nothing, const Wrong& wrong) {
  std::vector<PeftModule> right;
  for (PeftModule& module : tensors.modules) {
    const std::string reason = wrong(module);
    if (reason.empty())
      right.push_back(std::move(module));
    else if (!partial)
      return Failure{reason};
    else
      for (const auto* tensor : {module.inner, module.outer})
        tensors.left_out.emplace_back(tensor->name, reason);
  }
  tensors.modules = std::move(right);
  if (tensors.modules.empty()) return Failure{nothing};
  return success();
}

/// Of all modules' names.
inline std::size_t characters_of(const PeftTensors& tensors) {
  std::size_t characters = 0;
  for (const PeftModule& module : tensors.modules) characters += module.name.size() + 1;
  return characters;
}

/// A Failure, or the module left out, where the tensors' rank is another than the config's for that module:
/// the two files do not belong together.
inline Status try_check_ranks(PeftTensors& tensors, PeftConfig& config, bool partial) {
  if (config.type != PeftConfig::Type::lora) return success();
  const auto patterns = PeftPatterns<Index>::try_make("rank_pattern", config.rank_pattern,
                                                      tensors.modules.size(), characters_of(tensors));
  // The tensors tell the ranks. A pattern that cannot be read costs the comparison, not the adapter.
  if (!patterns) config.notes.push_back(message(patterns.error(), "; ranks were not checked against it"));
  const auto wrong = [&](const PeftModule& module) -> std::string {
    const std::vector<Index>&inner = module.inner->shape, &outer = module.outer->shape;
    if (inner.size() != 2 || outer.size() != 2 || inner[0] != outer[1])
      return {};  // said with the host's shape
    const Index rank = inner[0];
    if (!patterns) {
      bool known = rank == config.rank;
      for (const auto& [pattern, value] : config.rank_pattern) known |= value == rank;
      if (known) return {};
    }
    const Index said = patterns ? patterns->of(module.name, config.rank) : config.rank;
    if (patterns && rank == said) return {};
    return message(
        "module ", in_quotes(module.name), " has rank ", rank, ", but ", peft_config_name,
        " has r = ", config.rank,
        said != config.rank ? message(" and a rank_pattern of ", said, " for it")
                            : " and no rank_pattern of " + std::to_string(rank),
        "; the two files do not belong together",
        inner[1] == said && outer[0] == said ? ", or A and B are stored transposed, as MLX does" : "");
  };
  return try_keep_modules(tensors, partial, "holds only modules whose rank differs from the config's", wrong);
}

/// A Failure, or the module left out, where the config does not target it: PEFT would not apply those
/// tensors.
inline Status try_check_targets(PeftTensors& tensors, PeftConfig& config, bool partial) {
  if (config.targets.empty() || config.targets.all_linear) return success();
  const Result<PeftTargetMatcher> targeted = PeftTargetMatcher::try_make(config, characters_of(tensors));
  if (!targeted) {
    const std::string reason = message("target_modules or exclude_modules ", targeted.error(),
                                       "; it is not known which of the tensors PEFT would apply");
    if (!partial) return Failure{reason};
    config.notes.push_back(reason);
    return success();
  }
  const auto wrong = [&](const PeftModule& module) -> std::string {
    if ((*targeted)(module.name)) return {};
    return message("module ", in_quotes(module.name), " has tensors, but ", peft_config_name,
                   " does not target it (target_modules, exclude_modules, layers_to_transform), so PEFT "
                   "would not apply them; the two files do not belong together");
  };
  return try_keep_modules(tensors, partial, "holds only modules that the config does not target", wrong);
}

/// Notes the names in target_modules that no tensor of the file belongs to: an adapter that lost a part, or a
/// list for several models. Where exclude_modules is set, it may be what took them out: PEFT writes the names
/// that "all-linear" stands for before it excludes any.
inline void note_targets_without_tensors(const PeftTensors& tensors, PeftConfig& config) {
  if (!config.excluded.empty() || config.targets.names.empty()) return;
  std::unordered_set<std::string_view> suffixes;
  for (const PeftModule& module : tensors.modules)
    any_suffix(module.name, [&](std::string_view suffix) { return suffixes.insert(suffix), false; });
  std::uint64_t characters = 0, searched = 0;
  for (const auto& left : tensors.left_out) characters += left.first.size();
  // Of a file that names more than can be looked up the rest is left in doubt.
  const auto was_left_out = [&](const std::string& target) {
    if ((searched += characters) > most_matching_steps) return true;
    return std::any_of(tensors.left_out.begin(), tensors.left_out.end(), [&](const auto& left) {
      return left.first.find("." + target + ".") != left.first.npos;
    });
  };
  for (const std::string& target : config.targets.names)
    if (!suffixes.contains(target) && !was_left_out(target))
      config.notes.push_back(message("target_modules names ", in_quotes(target),
                                     ", but the file has no tensors of such a module"));
}

inline Result<PeftConfig> try_read_peft_config(const std::filesystem::path& folder,
                                               const PeftConfigOptions& options) {
  if (Status found = try_find_config(folder); !found) return found.failure();
  if (const SniffedFile kind = sniff(folder); kind.kind != FileKind::peft_folder)
    return kind.kind == FileKind::missing || kind.what.empty()
               ? Failure{message("there is no folder ", in_quotes(utf8(folder)))}
               : unexpected(folder, kind.what, "a PEFT folder");
  const std::filesystem::path path = folder / peft_config_name;
  const Result<MappedFile> text = try_open_as(FileKind::json, path, "JSON");
  if (!text) return text.failure();
  const auto bytes = text->bytes();
  constexpr std::size_t most = std::size_t{16} << 20;
  if (bytes.size() > most)
    return Failure{
        message(in_quotes(utf8(path)), " has ", bytes.size(), " bytes; at most ", most, " are read")};
  Result<PeftConfig> config =
      try_parse_peft_config({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, options);
  if (!config) return Failure{message(in_quotes(utf8(path)), " ", config.error())};
  return config;
}

inline Result<PeftFolder> try_open_peft(const std::filesystem::path& folder,
                                        const PeftConfigOptions& options) {
  Result<PeftConfig> config = try_read_peft_config(folder, options);
  if (!config) return config.failure();
  const std::filesystem::path path = folder / peft_weights_name;
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored) &&
      std::filesystem::exists(folder / "adapter_model.bin", ignored))
    return Failure{
        message(in_quotes(utf8(folder)),
                " has its weights in adapter_model.bin, a Python pickle, which can run code when it "
                "is read; save it as safetensors with PEFT (save_pretrained)")};
  Result<safetensors::File> file = safetensors::try_open(path);
  if (!file) return file.failure();
  Result<PeftTensors> tensors = try_peft_tensors(*file, *config, options);
  if (!tensors) return Failure{message(in_quotes(utf8(path)), " ", tensors.error())};
  if (Status same = try_check_ranks(*tensors, *config, options.partial); !same)
    return Failure{message(in_quotes(utf8(path)), ": ", same.error())};
  if (Status same = try_check_targets(*tensors, *config, options.partial); !same)
    return Failure{message(in_quotes(utf8(path)), ": ", same.error())};
  note_targets_without_tensors(*tensors, *config);
  return PeftFolder{*std::move(config), *std::move(file), *std::move(tensors)};
}

/// The modules that a LoRA's tensors tell of: the layer is the first number in the name, the kind its last
/// component. Which modules read the same x is not known.
inline Result<ModuleList> try_infer_modules(const PeftFolder& folder) {
  if (folder.config.type != PeftConfig::Type::lora)
    return Failure{
        "is a VeRA adapter, whose tensors do not give the shapes of the modules; pass the host's module list "
        "(model_modules reads it from the base model)"};
  std::vector<Module> found;
  for (const PeftModule& tensors : folder.tensors.modules) {
    if (tensors.inner->shape.size() != 2 || tensors.outer->shape.size() != 2)
      return Failure{message("module ", in_quotes(tensors.name), " has ", in_quotes(tensors.inner->name),
                             " of ", shape_text(*tensors.inner), " and ", in_quotes(tensors.outer->name),
                             " of ", shape_text(*tensors.outer), "; only matrices can be read")};
    if (tensors.inner->shape[0] != tensors.outer->shape[1])
      return Failure{message("module ", in_quotes(tensors.name), " has ", in_quotes(tensors.inner->name),
                             " of ", shape_text(*tensors.inner), " and ", in_quotes(tensors.outer->name),
                             " of ", shape_text(*tensors.outer),
                             ", which do not fit each other; rank x in and out x rank "
                             "are expected",
                             tensors.inner->shape[1] == tensors.outer->shape[0]
                                 ? " (stored transposed, as MLX and ONNX Runtime do?)"
                                 : "")};
    Module module = module_of_name(tensors.name);
    module.in_features = tensors.inner->shape[1];
    module.out_features = tensors.outer->shape[0];
    found.push_back(std::move(module));
  }
  return try_list_of(std::move(found));
}

}  // namespace detail
TIEDLORA_END_NAMESPACE
