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

#include <cstddef>       // byte, size_t
#include <cstdint>       // uint64_t
#include <cstring>       // memcmp
#include <filesystem>    // path
#include <map>           // map
#include <span>          // span
#include <string>        // string
#include <string_view>   // string_view
#include <system_error>  // error_code
#include <utility>       // move
#include <vector>        // vector

#include "../../adapter/adapter.hpp"
#include "../../adapter/aligned_array.hpp"
#include "../../adapter/initialize.hpp"
#include "../../adapter/layout.hpp"
#include "../../adapter/modules.hpp"
#include "../../adapter/quote.hpp"
#include "../../adapter/result.hpp"
#include "../../views/config.hpp"
#include "../../views/error.hpp"
#include "../finite.hpp"
#include "../provenance.hpp"
#include "../safetensors/file.hpp"
#include "../sniff.hpp"
#include "checksum.hpp"
#include "metadata.hpp"

TIEDLORA_BEGIN_NAMESPACE

namespace detail {
/// How many parameters a loader generates from seeds by default, and so the most that a writer leaves out.
inline constexpr Index most_seeded_numbers = Index{1} << 26;
}  // namespace detail

/// What save_adapter writes besides the parameters.
struct NativeSaveOptions {
  std::string base_model = {};  ///< name of the model that the adapter belongs to, for whoever reads the file
  Provenance source = {};       ///< what a source said (LoadedPeft::config.source()); base_model goes first
};

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
inline constexpr std::size_t native_alignment = 64;

/// Adds an array of n elements, and before it as many bytes of padding as it needs to begin at a multiple of
/// 64.
inline void append_aligned(std::vector<safetensors::Entry>& entries, std::string_view name,
                           safetensors::Dtype dtype, const void* data, Index n) {
  static constexpr std::byte zeros[native_alignment] = {};
  std::uint64_t end = 0;
  int paddings = 0;
  for (const safetensors::Entry& entry : entries) {
    const bool padding = entry.dtype == safetensors::Dtype::other;
    paddings += padding;
    end += padding ? static_cast<std::uint64_t>(entry.shape[0])
                   : safetensors_bytes(to_string(entry.dtype), entry.shape).value_or(0);
  }
  if (end % native_alignment != 0)
    entries.push_back({.name = message("padding.", paddings),
                       .dtype = safetensors::Dtype::other,
                       .shape = {static_cast<Index>(native_alignment - end % native_alignment)},
                       .data = zeros,
                       .dtype_name = "U8"});
  entries.push_back({.name = std::string(name), .dtype = dtype, .shape = {n}, .data = data});
}

/// Whether a frozen factor's values are, bit for bit, those that its init gives.
template <class P>
bool equals_its_seed(const Layout& layout, FactorId id, std::optional<std::uint64_t> seed,
                     std::span<const P> frozen, std::span<P> scratch) {
  const Factor* factor = layout.scheme().find(id);
  if (!factor || factor->trained || layout.segment(id).count == 0) return false;
  const Init::Kind kind = factor->init.kind;
  if (kind == Init::Kind::given || (kind == Init::Kind::torch_vera && id != FactorId::A && id != FactorId::B))
    return false;
  if (!seed && (kind == Init::Kind::kaiming || kind == Init::Kind::normal)) return false;
  fill_factor(layout, id, seed.value_or(0), scratch.data());
  const auto offset = static_cast<std::size_t>(layout.segment(id).offset);
  const auto count = static_cast<std::size_t>(layout.segment(id).count);
  return std::memcmp(frozen.data() + offset, scratch.data() + offset, count * sizeof(P)) == 0;
}

/// An adapter as entries of a file, with what the entries point to.
template <class P>
struct NativeEntries {
  std::vector<safetensors::Entry> entries = {};
  std::map<std::string, std::string> metadata = {};
  AlignedArray<P> stored = {};  // the frozen factors that are not seeded, where some are
};

/// Factors are stored as their seed only while those together have at most `most_seeded` numbers: a file must
/// load without options.
template <class P>
Result<NativeEntries<P>> try_native_entries(const Adapter<P>& adapter, const NativeSaveOptions& options,
                                            Index most_seeded = most_seeded_numbers) {
  static_assert(safetensors::dtype_of<P> != safetensors::Dtype::other,
                "tiedlora: files hold double, float, Eigen::half or Eigen::bfloat16");
  const Layout& layout = adapter.layout();
  NativeMetadata metadata{.layout = layout,
                          .base_model = first_said(options.base_model, options.source.base_model),
                          .seed = adapter.seed()};
  AlignedArray<P> scratch(layout.frozen_count());
  Index stored = 0;
  for (const FactorId id : all_factors) {
    const Index count = layout.frozen_count(id);
    const bool seeded =
        count <= most_seeded && equals_its_seed(layout, id, adapter.seed(), adapter.frozen(), scratch.span());
    metadata.seeded[static_cast<std::size_t>(id)] = seeded;
    if (seeded)
      most_seeded -= count;
    else
      stored += count;
  }
  Result<std::string> text = try_native_metadata_text(metadata);
  if (!text) return text.failure();

  Result<std::string> source = try_provenance_text(options.source);
  if (!source) return source.failure();

  NativeEntries<P> result;
  result.metadata["tiedlora"] = *std::move(text);
  if (!source->empty()) result.metadata["tiedlora_source"] = *std::move(source);
  const P* frozen = adapter.frozen().data();
  if (stored < layout.frozen_count()) {
    result.stored = AlignedArray<P>(stored);
    P* to = result.stored.begin();
    for (const FactorId id : all_factors)
      if (!metadata.is_seeded(id))
        to = std::copy_n(frozen + layout.segment(id).offset, layout.frozen_count(id), to);
    frozen = result.stored.data();
  }
  constexpr safetensors::Dtype dtype = safetensors::dtype_of<P>;
  append_aligned(result.entries, "trainable", dtype, adapter.trainable().data(), layout.trainable_count());
  append_aligned(result.entries, "frozen", dtype, frozen, stored);
  return result;
}

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

/// Fills the frozen array: from the file, and the seeded factors from their init, made in the file's type.
template <class Stored, class P>
void fill_frozen_from(const NativeFile& native, std::span<P> frozen) {
  const Layout& layout = native.layout();
  AlignedArray<Stored> made(std::is_same_v<Stored, P> ? 0 : layout.frozen_count());
  std::size_t read = 0;
  for (const FactorId id : all_factors) {
    const Layout::Segment segment = layout.segment(id);
    if (layout.is_trained(id) || segment.count == 0) continue;
    const auto part =
        frozen.subspan(static_cast<std::size_t>(segment.offset), static_cast<std::size_t>(segment.count));
    if (!native.metadata.is_seeded(id)) {
      safetensors::Tensor tensor = native.frozen();
      tensor.shape = {segment.count};
      tensor.bytes = tensor.bytes.subspan(read * sizeof(Stored), part.size() * sizeof(Stored));
      read += part.size();
      (void)safetensors::try_read(tensor, part);
    } else if constexpr (std::is_same_v<Stored, P>) {
      fill_factor(layout, id, native.metadata.seed.value_or(0), frozen.data());
    } else {
      fill_factor(layout, id, native.metadata.seed.value_or(0), made.data());
      for (std::size_t i = 0; i < part.size(); ++i)
        part[i] = static_cast<P>(made.data()[segment.offset + static_cast<Index>(i)]);
    }
  }
}

template <class P>
AlignedArray<P> read_frozen(const NativeFile& native) {
  auto frozen = AlignedArray<P>::for_overwrite(native.layout().frozen_count());
  if (native.dtype() == safetensors::Dtype::F64) fill_frozen_from<double>(native, frozen.span());
  if (native.dtype() == safetensors::Dtype::F32) fill_frozen_from<float>(native, frozen.span());
  if (native.dtype() == safetensors::Dtype::F16) fill_frozen_from<Eigen::half>(native, frozen.span());
  if (native.dtype() == safetensors::Dtype::BF16) fill_frozen_from<Eigen::bfloat16>(native, frozen.span());
  return frozen;
}

/// What try_read_adapter does; reasons read as if after the file's name.
template <class P>
Result<Adapter<P>> try_copy_adapter(const NativeFile& file, const NativeLoadOptions& options) {
  if (options.check_checksum)
    if (Status whole = try_check_checksum(file.file); !whole) return whole.failure();
  auto trainable = AlignedArray<P>::for_overwrite(file.layout().trainable_count());
  (void)safetensors::try_read(file.trainable(), trainable.span());  // the size was checked
  Adapter<P> adapter(file.layout(), std::move(trainable), read_frozen<P>(file));
  if (file.metadata.seed) adapter.set_seed(*file.metadata.seed);
  if (options.check_finite) {
    const Adapter<P>& read = adapter;
    const Status finite = try_check_finite<P>({read.trainable(), read.frozen()}, file.file.tensors(),
                                              ShapeOrder::slowest_first);
    if (!finite) return finite.failure();
  }
  return adapter;
}

}  // namespace detail

/// An adapter whose parameters stay in the file, mapped into memory: opening it reads only the header, and
/// processes that serve the same file share its pages. Only seeded factors are generated in its own memory.
/// Views die with it; a move keeps them.
template <class P>
class MappedAdapter {
 public:
  using Scalar = P;

  /// map_adapter makes it: from an open file, and the seeded factors.
  MappedAdapter(NativeFile file, AlignedArray<P> frozen) : file_(std::move(file)), made_(std::move(frozen)) {}

  /// What the file says; its parameters as a view; module m's share of them, for the calls.
  const Layout& layout() const { return file_.layout(); }
  const NativeMetadata& metadata() const { return file_.metadata; }
  AdapterView<const P> view() const {
    const auto in_file = safetensors::in_place<P>(file_.frozen());
    return {layout(), safetensors::in_place<P>(file_.trainable()), made_.size() > 0 ? made_.span() : in_file};
  }
  Factors<const P> factors(Index m) const { return view().factors(m); }

  /// Reads the whole file, which mapping does not: a Failure, naming the file, if its checksum is not that of
  /// its bytes, or a parameter is not finite.
  Status try_verify() const {
    Status good = detail::try_check_checksum(file_.file);
    if (good)
      good = detail::try_check_finite<P>({view().trainable(), view().frozen()}, file_.file.tensors(),
                                         detail::ShapeOrder::slowest_first);
    if (!good) return detail::failure_in(file_, good.error());
    return good;
  }
  void verify() const { (void)detail::value_or_fail(try_verify()); }

 private:
  NativeFile file_;
  AlignedArray<P> made_;  // the frozen parameters, if some of them are seeded
};

/// Writes the adapter as a native file, in its own type P: double, float, Eigen::half or Eigen::bfloat16.
/// Frozen factors that still equal what their init and Adapter::seed() give are stored as that seed, up to
/// the 2^26 numbers that a loader generates by default. Whatever happens, the path holds the old file or the
/// new one (see AtomicFile).
template <class P>
Status try_save_adapter(const std::filesystem::path& path, const Adapter<P>& adapter,
                        const NativeSaveOptions& options = {}) {
  auto native = detail::try_native_entries(adapter, options);
  if (!native) return Failure{detail::message(detail::in_quotes(detail::utf8(path)), ": ", native.error())};
  native->metadata[detail::checksum_name] = detail::checksum_of(native->entries, native->metadata);
  return safetensors::try_save_in_order(path, native->entries, native->metadata, detail::native_alignment);
}
template <class P>
void save_adapter(const std::filesystem::path& path, const Adapter<P>& adapter,
                  const NativeSaveOptions& options = {}) {
  (void)detail::value_or_fail(try_save_adapter(path, adapter, options));
}

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

/// Copies the parameters of an open file into an adapter, converted if P is not the file's type. A Failure,
/// naming the file, if the bytes are not those that were written or a parameter is not finite.
template <class P>
Result<Adapter<P>> try_read_adapter(const NativeFile& file, const NativeLoadOptions& options = {}) {
  Result<Adapter<P>> adapter = detail::try_copy_adapter<P>(file, options);
  if (!adapter) return detail::failure_in(file, adapter.error());
  return adapter;
}
template <class P>
Adapter<P> read_adapter(const NativeFile& file, const NativeLoadOptions& options = {}) {
  return detail::value_or_fail(try_read_adapter<P>(file, options));
}

/// Loads an adapter from a native file or a checkpoint: try_open_native, try_read_adapter.
template <class P>
Result<Adapter<P>> try_load_adapter(const std::filesystem::path& path,
                                    const NativeLoadOptions& options = {}) {
  const Result<NativeFile> file = try_open_native(path, options);
  if (!file) return file.failure();
  return try_read_adapter<P>(*file, options);
}
template <class P>
Adapter<P> load_adapter(const std::filesystem::path& path, const NativeLoadOptions& options = {}) {
  return detail::value_or_fail(try_load_adapter<P>(path, options));
}

/// Maps an adapter of type P from a native file or a checkpoint, of which only the header is read: checksum
/// and parameters are not checked. A Failure also if the file holds another type.
template <class P>
Result<MappedAdapter<P>> try_map_adapter(const std::filesystem::path& path,
                                         const NativeLoadOptions& options = {}) {
  Result<NativeFile> file = try_open_native(path, options);
  if (!file) return file.failure();
  const auto usable = [](const safetensors::Tensor& tensor) {
    return tensor.bytes.empty() || !safetensors::in_place<P>(tensor).empty();
  };
  if (file->dtype() != safetensors::dtype_of<P> || !usable(file->trainable()) || !usable(file->frozen()))
    return Failure{detail::message(detail::in_quotes(detail::utf8(path)), " holds ", to_string(file->dtype()),
                                   ", which cannot be used in place as ", to_string(safetensors::dtype_of<P>),
                                   "; load_adapter converts it")};
  AlignedArray<P> made;
  if (file->layout().frozen_count() != file->frozen().count()) made = detail::read_frozen<P>(*file);
  return MappedAdapter<P>(*std::move(file), std::move(made));
}
template <class P>
MappedAdapter<P> map_adapter(const std::filesystem::path& path, const NativeLoadOptions& options = {}) {
  return detail::value_or_fail(try_map_adapter<P>(path, options));
}

TIEDLORA_END_NAMESPACE
