// The native file: an adapter of any scheme, exactly, as one safetensors file.
//
//   __metadata__["tiedlora"]            JSON (metadata.hpp): format version, scheme, rank, scaling, modules,
//   base model
//   __metadata__["tiedlora_source"]     JSON (provenance.hpp): what else the adapter's source said, where it
//   said it
//   __metadata__["tiedlora_checksum"]   of all of this (checksum.hpp)
//   "trainable"     the trainable parameters, one flat array in layout order
//   "frozen"        the frozen ones, without the factors that the metadata call seeded
//   "padding.N"     bytes between the arrays, so that each begins at a multiple of 64 in the file
#pragma once

#include <filesystem>    // path
#include <span>          // span
#include <string>        // string
#include <string_view>   // string_view
#include <system_error>  // error_code
#include <utility>       // move, pair

#include "../../adapter/layout.hpp"
#include "../../adapter/modules.hpp"
#include "../../adapter/quote.hpp"
#include "../../adapter/result.hpp"
#include "../../views/config.hpp"
#include "../../views/error.hpp"
#include "../safetensors/file.hpp"
#include "../sniff.hpp"
#include "metadata.hpp"

TIEDLORA_BEGIN_NAMESPACE

namespace detail {
/// How many parameters a loader generates from seeds by default, and so the most that a writer leaves out.
inline constexpr Index most_seeded_numbers = Index{1} << 26;
}  // namespace detail

/// What load_adapter expects and checks.
struct NativeLoadOptions {
  /// The host's modules. If given, those of the file must be the same, in the same order: otherwise the file
  /// belongs to another base model.
  const ModuleList* modules = nullptr;
  /// Bounds how many parameters a file may have generated from a seed, since no bytes in the file back them.
  /// What this library writes needs at most the default, 2^26.
  Index max_seeded_numbers = detail::most_seeded_numbers;
  /// Whether to check, of what is copied out of the file, that its checksum is that of its bytes and that all
  /// parameters are finite. A mapped file is not read for this; see MappedAdapter::verify.
  bool check_checksum = true, check_finite = true;
};

/// A native file that is open and was checked: sizes agree with the layout, and nothing unknown is in it. The
/// parameters are still in the file.
struct NativeFile {
  NativeMetadata metadata;          ///< what the file says
  safetensors::File file;           ///< the file itself, open
  std::filesystem::path path = {};  ///< as it was opened, for messages

  /// Modules, scheme, ranks: where each parameter is.
  const Layout& layout() const { return metadata.layout; }
  /// The type in which the parameters are stored.
  safetensors::Dtype dtype() const { return trainable().dtype; }
  /// The two arrays where they lie in the file; of the frozen one, what is not seeded.
  const safetensors::Tensor& trainable() const { return tensor("trainable"); }
  const safetensors::Tensor& frozen() const { return tensor("frozen"); }

 private:
  const safetensors::Tensor& tensor(std::string_view name) const {
    const safetensors::Tensor* found = file.find(name);
    if (!found) detail::fail("this native file was moved from and is no longer open");
    return *found;
  }
};

namespace detail {
/// A Failure that names the first module in which the file's list differs from the host's, with both shapes.
inline Status try_same_modules(const ModuleList& file, const ModuleList& host) {
  const auto shape = [](const Module& module) {
    return message(in_quotes(module.name), " of ", module.out_features, "x", module.in_features,
                   " (out x in), layer ", module.layer, ", kind ", in_quotes(module.kind),
                   module.input.empty() ? std::string() : ", input " + in_quotes(module.input));
  };
  for (Index m = 0; m < file.size() || m < host.size(); ++m) {
    if (m < file.size() && m < host.size() && file[m] == host[m]) continue;
    return Failure{message("belongs to another model (wrong base model?): module ", m, " is ",
                           m < file.size() ? shape(file[m]) : "missing", " in the file, but ",
                           m < host.size() ? shape(host[m]) : "missing", " in the host's list")};
  }
  return success();
}

/// What a native file holds beside trainable and frozen: padding, and what `others` names.
inline Status try_check_tensors(const safetensors::File& file, const Layout& layout, Index stored,
                                std::span<const std::string_view> others) {
  for (const auto& [name, count] : {std::pair("trainable", layout.trainable_count()), {"frozen", stored}}) {
    const safetensors::Tensor* tensor = file.find(name);
    if (!tensor) return Failure{message("is not a native file: it has no tensor \"", name, "\"")};
    if (tensor->dtype == safetensors::Dtype::other)
      return Failure{message("tensor \"", name, "\" has dtype ", tensor->dtype_name,
                             "; F64, F32, F16 and BF16 can be read")};
    if (tensor->dtype != file.find("trainable")->dtype)
      return Failure{"its tensors \"trainable\" and \"frozen\" have different dtypes"};
    if (tensor->count() != count)
      return Failure{message("tensor \"", name, "\" has ", tensor->count(),
                             " values, but the file's scheme, ranks and modules make ", count)};
  }
  for (const safetensors::Tensor& tensor : file.tensors()) {
    bool known = tensor.name == "trainable" || tensor.name == "frozen" || tensor.name.starts_with("padding.");
    for (const std::string_view other : others) known |= tensor.name == other;
    if (!known)
      return Failure{
          message("has the tensor ", in_quotes(tensor.name), ", which does not belong in a native file")};
  }
  return success();
}

/// What is wrong with an open file, named.
inline Failure failure_in(const NativeFile& file, const std::string& reason) {
  return {message(in_quotes(utf8(file.path)), " ", reason)};
}

inline constexpr std::string_view optimizer_tensors[] = {"optimizer.first_moment", "optimizer.second_moment"};

inline Result<NativeFile> try_native_file(safetensors::File file, const NativeLoadOptions& options) {
  const auto text = file.metadata().find("tiedlora");
  if (text == file.metadata().end())
    return Failure{
        "is a safetensors file, but not a native file of tiedlora: its metadata has no \"tiedlora\""};
  Result<NativeMetadata> metadata = try_parse_native_metadata(text->second);
  if (!metadata) return Failure{"its metadata: " + metadata.error()};
  const auto source = file.metadata().find("tiedlora_source");
  if (source != file.metadata().end())
    if (Status read = try_parse_provenance(source->second, metadata->source); !read)
      return Failure{"its metadata: \"tiedlora_source\" " + read.error()};
  const Layout& layout = metadata->layout;
  if (options.modules)
    if (Status same = try_same_modules(layout.modules(), *options.modules); !same) return same.failure();
  Index stored = 0;
  for (const FactorId id : all_factors)
    if (!metadata->is_seeded(id)) stored += layout.frozen_count(id);
  const bool checkpoint = file.metadata().count("tiedlora_checkpoint") > 0;
  const auto others = std::span(optimizer_tensors).first(checkpoint ? 2 : 0);
  if (Status checked = try_check_tensors(file, layout, stored, others); !checked) return checked.failure();

  if (const Index seeded = layout.frozen_count() - stored; seeded > options.max_seeded_numbers)
    return Failure{message("needs ", seeded, " values generated from a seed; the limit is ",
                           options.max_seeded_numbers, " (NativeLoadOptions::max_seeded_numbers)")};
  return NativeFile{.metadata = *std::move(metadata), .file = std::move(file)};
}

}  // namespace detail

/// Opens a native file or a checkpoint and reads its header. A Failure, naming the file, for damaged and
/// truncated files, newer format versions, and a base model whose modules differ from options.modules.
inline Result<NativeFile> try_open_native(const std::filesystem::path& path,
                                          const NativeLoadOptions& options = {}) {
  const auto refused = [&path] {
    return detail::unexpected(path, sniff(path).what, "a native file of tiedlora",
                              "load_peft reads PEFT folders, load_gguf GGUF files");
  };
  if (std::error_code ignored; std::filesystem::is_directory(path, ignored)) return refused();
  Result<safetensors::File> file = safetensors::try_open(path);
  if (!file) return file.failure();
  if (!file->metadata().contains("tiedlora")) return refused();
  Result<NativeFile> native = detail::try_native_file(*std::move(file), options);
  if (!native) return Failure{detail::message(detail::in_quotes(detail::utf8(path)), " ", native.error())};
  native->path = path;
  return native;
}
inline NativeFile open_native(const std::filesystem::path& path, const NativeLoadOptions& options = {}) {
  return detail::value_or_fail(try_open_native(path, options));
}

TIEDLORA_END_NAMESPACE
