// Adapters used in place, in native files that are mapped into memory.
#pragma once

#include <filesystem>  // path
#include <utility>     // move

#include "../../adapter/adapter.hpp"
#include "../../adapter/aligned_array.hpp"
#include "../../adapter/layout.hpp"
#include "../../adapter/quote.hpp"
#include "../../adapter/result.hpp"
#include "../../views/config.hpp"
#include "../../views/error.hpp"
#include "../finite.hpp"
#include "../safetensors/file.hpp"
#include "checksum.hpp"
#include "file.hpp"
#include "load.hpp"
#include "metadata.hpp"

TIEDLORA_BEGIN_NAMESPACE

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
