// Copies adapters out of native files.
#pragma once

#include <cstddef>      // size_t
#include <filesystem>   // path
#include <span>         // span
#include <type_traits>  // is_same
#include <utility>      // move

#include "../../adapter/adapter.hpp"
#include "../../adapter/aligned_array.hpp"
#include "../../adapter/initialize.hpp"
#include "../../adapter/layout.hpp"
#include "../../adapter/result.hpp"
#include "../../views/config.hpp"
#include "../finite.hpp"
#include "../safetensors/file.hpp"
#include "checksum.hpp"
#include "file.hpp"

TIEDLORA_BEGIN_NAMESPACE

namespace detail {
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

TIEDLORA_END_NAMESPACE
