// Writes adapters into native files.
#pragma once

#include <algorithm>    // copy_n
#include <cstddef>      // byte, size_t
#include <cstdint>      // uint64_t
#include <cstring>      // memcmp
#include <filesystem>   // path
#include <map>          // map
#include <optional>     // optional
#include <span>         // span
#include <string>       // string
#include <string_view>  // string_view
#include <utility>      // move
#include <vector>       // vector

#include "../../adapter/adapter.hpp"
#include "../../adapter/aligned_array.hpp"
#include "../../adapter/initialize.hpp"
#include "../../adapter/layout.hpp"
#include "../../adapter/quote.hpp"
#include "../../adapter/result.hpp"
#include "../../views/config.hpp"
#include "../../views/error.hpp"
#include "../provenance.hpp"
#include "../safetensors/file.hpp"
#include "checksum.hpp"
#include "file.hpp"
#include "metadata.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// What save_adapter writes besides the parameters.
struct NativeSaveOptions {
  std::string base_model = {};  ///< name of the model that the adapter belongs to, for whoever reads the file
  Provenance source = {};       ///< what a source said (LoadedPeft::config.source()); base_model goes first
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

}  // namespace detail

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

TIEDLORA_END_NAMESPACE
