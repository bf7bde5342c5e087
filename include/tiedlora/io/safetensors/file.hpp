// safetensors: named tensors in one file. Header length (u64), JSON header, data.
#pragma once

#include <Eigen/Core>  // half, bfloat16

#include <algorithm>    // copy, sort, lower_bound
#include <bit>          // endian
#include <cstddef>      // byte, size_t
#include <cstdint>      // uint8_t, uint64_t, uintptr_t
#include <cstring>      // memcpy
#include <filesystem>   // path
#include <map>          // map
#include <span>         // span
#include <string>       // string
#include <string_view>  // string_view
#include <type_traits>  // is_same, remove_const
#include <utility>      // move
#include <vector>       // vector

#include "../../adapter/quote.hpp"
#include "../../adapter/result.hpp"
#include "../../views/config.hpp"
#include "../../views/error.hpp"
#include "../file.hpp"
#include "../json/json.hpp"
#include "../sniff.hpp"
#include "header.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace safetensors {

static_assert(std::endian::native == std::endian::little,
              "tiedlora: files are little endian, and their values are used as they stand");

/// Types of values. other: the format has it (I64, U8, F8_E4M3, ...), but this library does not compute with
/// it.
enum class Dtype : std::uint8_t { F64, F32, F16, BF16, other };

/// The Dtype of a C++ type: double, float, Eigen::half, Eigen::bfloat16.
template <class P>
inline constexpr Dtype dtype_of = std::is_same_v<P, double>            ? Dtype::F64
                                  : std::is_same_v<P, float>           ? Dtype::F32
                                  : std::is_same_v<P, Eigen::half>     ? Dtype::F16
                                  : std::is_same_v<P, Eigen::bfloat16> ? Dtype::BF16
                                                                       : Dtype::other;

/// What the file says: "F64", ...; empty for other.
constexpr std::string_view to_string(Dtype dtype) {
  return dtype == Dtype::other ? std::string_view()
                               : detail::safetensors_dtypes[static_cast<std::size_t>(dtype)].name;
}

/// A tensor of an open file: what the header says of it, and its bytes where they lie.
struct Tensor {
  std::string name = {};                  ///< as in the file
  Dtype dtype = Dtype::other;             ///< how its values are stored; `other` for what is not read here
  std::string dtype_name = {};            ///< as in the file, e.g. "F32"
  std::vector<Index> shape = {};          ///< row-major; empty: a single value
  std::span<const std::byte> bytes = {};  ///< valid as long as the File; at any alignment

  /// How many elements.
  Index count() const {
    Index product = 1;
    for (const Index size : shape) product *= size;
    return product;
  }
};

/// A file that was checked as a whole: its tensors fill it without holes or overlaps, every size agrees, and
/// no name is there twice. A move keeps tensors and bytes where they are.
class File {
 public:
  /// In the order of their data. Not of a temporary: a loop over open(…).tensors() would outlive the file.
  std::span<const Tensor> tensors() const& { return tensors_; }
  std::span<const Tensor> tensors() const&& = delete;
  /// Null if no tensor has that name.
  const Tensor* find(std::string_view name) const {
    const auto found = std::lower_bound(
        by_name_.begin(), by_name_.end(), name,
        [this](std::size_t i, std::string_view wanted) { return tensors_[i].name < wanted; });
    return found != by_name_.end() && tensors_[*found].name == name ? &tensors_[*found] : nullptr;
  }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  /// What try_parse and try_open call: the bytes, and the mapping where they are its.
  static Result<File> try_make(std::span<const std::byte> bytes, MappedFile mapping = {});

 private:
  Status take(std::vector<detail::SafetensorsItem> items, std::span<const std::byte> data);

  MappedFile mapping_;
  std::vector<Tensor> tensors_;
  std::vector<std::size_t> by_name_;  // indices of tensors_
  std::map<std::string, std::string> metadata_;
};

/// A tensor to write.
struct Entry {
  std::string name = {};          ///< unique in the file
  Dtype dtype = Dtype::F32;       ///< how the values are stored
  std::vector<Index> shape = {};  ///< row-major; empty: a single value
  const void* data = nullptr;     ///< row-major
  std::string dtype_name = {};    ///< for Dtype::other, e.g. "I64"; else not looked at
};

/// Bytes of its data; 0 for what cannot be written.
inline std::size_t bytes_of(const Entry& entry) {
  const std::string_view dtype =
      entry.dtype == Dtype::other ? std::string_view(entry.dtype_name) : to_string(entry.dtype);
  return static_cast<std::size_t>(detail::safetensors_bytes(dtype, entry.shape).value_or(0));
}

inline Result<File> File::try_make(std::span<const std::byte> bytes, MappedFile mapping) {
  using detail::message;
  std::uint64_t length = 0;
  if (bytes.size() < sizeof length)
    return Failure{message("is not a safetensors file: it has ", bytes.size(),
                           " bytes, and the length of the header alone takes 8")};
  std::memcpy(&length, bytes.data(), sizeof length);
  if (length > detail::max_safetensors_header)
    return Failure{message("is not a safetensors file: its header would take ", length,
                           " bytes, where the format allows ", detail::max_safetensors_header)};
  if (length > bytes.size() - sizeof length)
    return Failure{message("is cut short or not a safetensors file: its header takes ", length,
                           " bytes, but only ", bytes.size() - sizeof length, " follow")};
  const std::string_view header(reinterpret_cast<const char*>(bytes.data()) + sizeof length,
                                static_cast<std::size_t>(length));
  // nlohmann's parser would skip a byte order mark.
  const std::size_t first = header.find_first_not_of(" \t\r\n");
  if (first == header.npos || header[first] != '{')
    return Failure{"is not a safetensors file: its header is not a JSON object"};
  detail::SafetensorsHeaderHandler handler;
  if (!Json::sax_parse(header.begin(), header.end(), &handler))
    return Failure{message("is damaged or not a safetensors file: its header ", handler.problem())};

  File file;
  file.mapping_ = std::move(mapping);
  file.metadata_ = std::move(handler.metadata);
  const Status done = file.take(std::move(handler.items), bytes.subspan(sizeof length + header.size()));
  if (!done) return done.failure();
  return file;
}

// The checks on what the header says of the tensors, in the order of their data.
inline Status File::take(std::vector<detail::SafetensorsItem> items, std::span<const std::byte> data) {
  using detail::message, detail::in_quotes;
  // Offsets first, so that an empty tensor stands before the one that begins where it ends.
  std::sort(items.begin(), items.end(), [](const auto& a, const auto& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  std::uint64_t end = 0;
  tensors_.reserve(items.size());
  for (detail::SafetensorsItem& item : items) {
    const auto wrong = [&item](const auto&... parts) {
      return Failure{message("tensor ", in_quotes(item.name), " ", parts...)};
    };
    if (!detail::find_safetensors_dtype(item.dtype))
      return wrong("has dtype ", in_quotes(item.dtype), ", which the format does not know");
    const auto size = detail::safetensors_bytes(item.dtype, item.shape);
    if (!size)
      return wrong("has a shape whose size overflows or, in ", item.dtype,
                   ", is not a whole number of bytes");
    if (item.begin != end)
      return wrong("has data_offsets [", item.begin, ", ", item.end, "], but the tensor before it ends at ",
                   end, "; tensors must follow each other without holes or overlaps");
    if (item.end < item.begin || item.end - item.begin != *size)
      return wrong("has data_offsets [", item.begin, ", ", item.end, "], but its dtype and shape take ",
                   *size, " bytes");
    if (item.end > data.size())
      return wrong("ends at byte ", item.end, " of the data, but only ", data.size(),
                   " are there; the file is cut short");
    end = item.end;
    Tensor& tensor = tensors_.emplace_back();
    tensor.bytes = data.subspan(static_cast<std::size_t>(item.begin), static_cast<std::size_t>(*size));
    for (const Dtype dtype : {Dtype::F64, Dtype::F32, Dtype::F16, Dtype::BF16})
      if (item.dtype == to_string(dtype)) tensor.dtype = dtype;
    tensor.name = std::move(item.name);
    tensor.dtype_name = std::move(item.dtype);
    tensor.shape = std::move(item.shape);
  }
  if (end != data.size())
    return Failure{message("has ", data.size(), " bytes of data, but its tensors end at ", end)};

  for (std::size_t i = 0; i < tensors_.size(); ++i) by_name_.push_back(i);
  const auto name = [this](std::size_t i) -> const std::string& { return tensors_[i].name; };
  std::sort(by_name_.begin(), by_name_.end(),
            [&name](std::size_t i, std::size_t j) { return name(i) < name(j); });
  for (std::size_t i = 1; i < by_name_.size(); ++i)
    if (name(by_name_[i - 1]) == name(by_name_[i]))
      return Failure{message("has two tensors named ", in_quotes(name(by_name_[i])))};
  return success();
}

/// Reads the caller's bytes, which must outlive the File. What the header claims is checked before it is
/// used, and nothing is copied but names and shapes. A reason reads as if after the name of the file.
inline Result<File> try_parse(std::span<const std::byte> bytes) { return File::try_make(bytes); }

/// Maps a file (see MappedFile) and reads it. The data are not touched.
inline Result<File> try_open(const std::filesystem::path& path) {
  Result<MappedFile> mapping = detail::try_open_as(FileKind::safetensors, path, "a safetensors file");
  if (!mapping) return mapping.failure();
  const std::span<const std::byte> bytes = mapping->bytes();
  Result<File> file = File::try_make(bytes, *std::move(mapping));
  if (!file) return Failure{detail::message(detail::in_quotes(detail::utf8(path)), " ", file.error())};
  return file;
}
inline File open(const std::filesystem::path& path) { return detail::value_or_fail(try_open(path)); }

/// The values where they lie; empty unless they are of type P and at its alignment.
template <class P>
std::span<const P> in_place(const Tensor& tensor) {
  using Number = std::remove_const_t<P>;
  static_assert(dtype_of<Number> != Dtype::other);
  if (tensor.dtype != dtype_of<Number> ||
      reinterpret_cast<std::uintptr_t>(tensor.bytes.data()) % alignof(Number) != 0)
    return {};
  return {reinterpret_cast<const Number*>(tensor.bytes.data()), tensor.bytes.size() / sizeof(Number)};
}

/// Copies a tensor's values, row-major, each converted once (to and from the narrow types through float). A
/// Failure if out has another length or the dtype is not one of the four.
template <class P>
Status try_read(const Tensor& tensor, std::span<P> out) {
  using detail::message, detail::in_quotes;
  if (tensor.dtype == Dtype::other)
    return Failure{message("tensor ", in_quotes(tensor.name), " has dtype ", tensor.dtype_name,
                           "; F64, F32, F16 and BF16 can be read")};
  if (static_cast<Index>(out.size()) != tensor.count())
    return Failure{message("tensor ", in_quotes(tensor.name), " has ", tensor.count(),
                           " values, but there is room for ", out.size())};
  if (out.empty()) return success();
  if (tensor.dtype == dtype_of<P>) {
    std::memcpy(out.data(), tensor.bytes.data(), tensor.bytes.size());
    return success();
  }
  const auto convert = [&]<class From>(From number) {
    const std::byte* from = tensor.bytes.data();
    for (P& to : out) {
      std::memcpy(&number, from, sizeof number);  // at any alignment
      from += sizeof number;
      if constexpr (std::is_same_v<P, double>)
        to = static_cast<double>(number);
      else
        to = static_cast<P>(static_cast<float>(number));
    }
  };
  if (tensor.dtype == Dtype::F64) convert(double());
  if (tensor.dtype == Dtype::F32) convert(float());
  if (tensor.dtype == Dtype::F16) convert(Eigen::half());
  if (tensor.dtype == Dtype::BF16) convert(Eigen::bfloat16());
  return success();
}

/// What stands in a file before the data of these entries, which follow in their order without gaps: for
/// writers that do not have all data at once. The data begin at a multiple of `alignment` in the file.
inline Result<std::string> try_header(std::span<const Entry> entries,
                                      const std::map<std::string, std::string>& metadata,
                                      std::size_t alignment = 8) {
  using detail::message, detail::in_quotes;
  std::vector<detail::SafetensorsItem> items;
  std::vector<std::string_view> names;
  std::uint64_t end = 0;
  for (const Entry& entry : entries) {
    const std::string dtype(entry.dtype == Dtype::other ? std::string_view(entry.dtype_name)
                                                        : to_string(entry.dtype));
    const auto size = detail::safetensors_bytes(dtype, entry.shape);
    if (!size || entry.name == "__metadata__")
      return Failure{message("tensor ", in_quotes(entry.name), " of dtype ", in_quotes(dtype),
                             " cannot be written: the format does not know the dtype, reserves the "
                             "name, or the size overflows")};
    items.push_back(
        {.name = entry.name, .dtype = dtype, .shape = entry.shape, .begin = end, .end = end + *size});
    end += *size;
    names.push_back(entry.name);
  }
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) return Failure{message("two tensors are named ", in_quotes(*twice))};
  return detail::try_safetensors_header(items, metadata, alignment);
}

/// Writes a file as AtomicFile does, in the order of the entries.
inline Status try_save_in_order(const std::filesystem::path& path, std::span<const Entry> entries,
                                const std::map<std::string, std::string>& metadata,
                                std::size_t alignment = 8) {
  const Result<std::string> header = try_header(entries, metadata, alignment);
  if (!header) return Failure{detail::message(detail::in_quotes(detail::utf8(path)), ": ", header.error())};
  Result<AtomicFile> file = AtomicFile::try_create(path);
  if (!file) return file.failure();
  if (Status done = file->try_append(*header); !done) return done;
  for (const Entry& entry : entries) {
    const std::span bytes(static_cast<const std::byte*>(entry.data), bytes_of(entry));
    if (Status done = file->try_append(bytes); !done) return done;
  }
  return file->try_commit();
}

/// Writes a file as AtomicFile does, in the canonical order: large dtypes first, then by name.
inline Status try_save(const std::filesystem::path& path, std::vector<Entry> entries,
                       const std::map<std::string, std::string>& metadata = {}) {
  const auto bits = [](const Entry& entry) {
    const auto* dtype = detail::find_safetensors_dtype(
        entry.dtype == Dtype::other ? std::string_view(entry.dtype_name) : to_string(entry.dtype));
    return dtype ? dtype->bits : 0;
  };
  std::sort(entries.begin(), entries.end(), [&bits](const Entry& a, const Entry& b) {
    return bits(a) != bits(b) ? bits(a) > bits(b) : a.name < b.name;
  });
  return try_save_in_order(path, entries, metadata);
}
inline void save(const std::filesystem::path& path, std::vector<Entry> entries,
                 const std::map<std::string, std::string>& metadata = {}) {
  detail::value_or_fail(try_save(path, std::move(entries), metadata));
}

}  // namespace safetensors
TIEDLORA_END_NAMESPACE
