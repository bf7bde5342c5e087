// GGUF: llama.cpp's files. Metadata, infos of tensors, then their data, each at a multiple of the alignment.
#pragma once

#include <Eigen/Core>  // half, bfloat16

#include <algorithm>    // sort, lower_bound, adjacent_find
#include <bit>          // endian, has_single_bit
#include <cstddef>      // byte, size_t
#include <cstdint>      // int8_t, uint32_t, uint64_t
#include <cstring>      // memcpy
#include <filesystem>   // path
#include <limits>       // numeric_limits
#include <optional>     // optional
#include <span>         // span
#include <string_view>  // string_view
#include <utility>      // move
#include <vector>       // vector

#include "../../adapter/quote.hpp"
#include "../../adapter/result.hpp"
#include "../../views/config.hpp"
#include "../../views/error.hpp"
#include "../file.hpp"
#include "../sniff.hpp"
#include "reader.hpp"
#include "types.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace gguf {

static_assert(std::endian::native == std::endian::little,
              "tiedlora: files are little endian, and their values are used as they stand");

inline constexpr std::string_view magic = "GGUF";        ///< the first four bytes
inline constexpr std::uint32_t version = 3;              ///< what is written; 2 has the same form
inline constexpr std::uint32_t default_alignment = 32;   ///< where general.alignment is absent
inline constexpr std::size_t max_tensor_name = 63;       ///< ggml refuses longer ones
inline constexpr std::size_t max_tensor_dimensions = 4;  ///< likewise

/// A tensor of an open file.
struct Tensor {
  std::string_view name = {};             ///< e.g. "blk.0.attn_q.weight.lora_a"
  Type type = Type::F32;                  ///< how its values are stored
  std::vector<Index> shape = {};          ///< as in the file: the fastest first, {in, out} for a weight
  std::span<const std::byte> bytes = {};  ///< of a type that is not known: up to the next tensor

  /// How many elements.
  Index count() const {
    Index product = 1;
    for (const Index size : shape) product *= size;
    return product;
  }
};

/// A file that was checked as a whole: every value and tensor lies in it, tensors follow each other without
/// holes, and no name is there twice. Names, values and bytes lie in the file; a move keeps them where they
/// are.
class File {
 public:
  /// A key and its value.
  struct Entry {
    std::string_view key;  ///< e.g. "general.architecture"
    Value value;           ///< where it lies in the file
  };

  /// In the order of the file. Not of a temporary: a loop over open(…).tensors() would outlive the file.
  std::span<const Entry> metadata() const& { return metadata_; }
  std::span<const Entry> metadata() const&& = delete;
  std::span<const Tensor> tensors() const& { return tensors_; }
  std::span<const Tensor> tensors() const&& = delete;

  /// Null if there is none.
  const Value* find_value(std::string_view key) const {
    const Entry* entry = find(metadata_, by_key_, &Entry::key, key);
    return entry ? &entry->value : nullptr;
  }
  const Tensor* find_tensor(std::string_view name) const {
    return find(tensors_, by_name_, &Tensor::name, name);
  }

  /// What try_parse and try_open call: the bytes, and the mapping where they are its.
  static Result<File> try_make(std::span<const std::byte> bytes, MappedFile mapping = {});

 private:
  using Order = std::vector<std::size_t>;  // indices, sorted by name

  template <class Item>
  static const Item* find(const std::vector<Item>& items, const Order& order, std::string_view Item::* name,
                          std::string_view wanted) {
    const auto found =
        std::lower_bound(order.begin(), order.end(), wanted,
                         [&](std::size_t i, std::string_view text) { return items[i].*name < text; });
    return found != order.end() && items[*found].*name == wanted ? &items[*found] : nullptr;
  }
  // A Failure where a name is there twice.
  template <class Item>
  static Status sort(const std::vector<Item>& items, Order& order, std::string_view Item::* name,
                     std::string_view what);

  MappedFile mapping_;
  std::vector<Entry> metadata_;
  std::vector<Tensor> tensors_;
  Order by_key_, by_name_;
};

namespace detail {
/// The product of the sizes; nothing if it overflows.
inline std::optional<Index> element_count(std::span<const Index> shape) {
  Index count = 1;
  for (const Index size : shape) {
    if (size < 0 || (size > 0 && count > std::numeric_limits<Index>::max() / size)) return std::nullopt;
    count *= size;
  }
  return count;
}
}  // namespace detail

/// Bytes of a tensor; nothing if that overflows, the type is not known or its rows are not whole blocks.
inline std::optional<std::uint64_t> tensor_bytes(Type type, std::span<const Index> shape) {
  const TypeInfo* info = find_type(type);
  if (!info || (shape.empty() ? 1 : shape[0]) % info->block != 0) return std::nullopt;
  const std::optional<Index> count = detail::element_count(shape);
  if (!count || *count / info->block > std::numeric_limits<Index>::max() / info->bytes) return std::nullopt;
  return static_cast<std::uint64_t>(*count / info->block * info->bytes);
}

namespace detail {
using namespace tiedlora::detail;

/// The head of a file: how many tensors and values follow.
struct Counts {
  std::uint64_t tensors = 0, values = 0;
};
inline Result<Counts> try_read_head(Reader& reader) {
  constexpr std::uint32_t swapped = version << 24;
  const auto begin = reader.take(magic.size());
  if (reader.failed() || std::memcmp(begin.data(), magic.data(), magic.size()) != 0)
    return Failure{"is not a GGUF file: it does not begin with \"GGUF\""};
  const auto file_version = reader.number<std::uint32_t>();
  Counts counts;
  counts.tensors = reader.number<std::uint64_t>();
  counts.values = reader.number<std::uint64_t>();
  if (reader.failed()) return Failure{"is cut short within the first 24 bytes"};
  if (file_version == swapped) return Failure{"is a big-endian GGUF file, which is not supported"};
  if (file_version != version && file_version != 2)
    return Failure{message("is of GGUF version ", file_version, "; versions 2 and 3 are read")};
  // The least that a value takes: the length of its key, its type, one byte. A tensor: the length of its
  // name, the number of dimensions, type, offset.
  if (counts.values > reader.remaining() / 13 || counts.tensors > reader.remaining() / 24)
    return Failure{message("is cut short or damaged: it claims ", counts.values, " values and ",
                           counts.tensors, " tensors, but only ", reader.remaining(), " bytes follow")};
  return counts;
}

inline Result<File::Entry> try_read_entry(Reader& reader) {
  File::Entry entry;
  entry.key = reader.text();
  const std::size_t at = reader.position();
  const std::optional<Value> value = reader.value();
  if (reader.failed())
    return Failure{message(
        "is cut short or damaged: ",
        entry.key.empty() ? "a metadata key" : message("the metadata value of ", in_quotes(entry.key)),
        " does not end within the file")};
  if (!value)
    return Failure{message("has a metadata value ", in_quotes(entry.key), " at byte ", at,
                           " of a type that is not supported")};
  entry.value = *value;
  return entry;
}

/// A tensor without its bytes, and the offset of those.
struct TensorInfo {
  Tensor tensor = {};
  std::uint64_t offset = 0;
};
inline Result<TensorInfo> try_read_info(Reader& reader) {
  TensorInfo info;
  Tensor& tensor = info.tensor;
  tensor.name = reader.text();
  const auto dimensions = reader.number<std::uint32_t>();
  if (!reader.failed() && tensor.name.size() > max_tensor_name)
    return Failure{message("tensor ", in_quotes(tensor.name), " has a name of ", tensor.name.size(),
                           " bytes; the format allows ", max_tensor_name)};
  if (!reader.failed() && dimensions > max_tensor_dimensions)
    return Failure{message("tensor ", in_quotes(tensor.name), " has ", dimensions,
                           " dimensions; the format allows ", max_tensor_dimensions)};
  for (std::uint32_t d = 0; d < dimensions && !reader.failed(); ++d) {
    const auto size = reader.number<std::uint64_t>();
    if (size > static_cast<std::uint64_t>(std::numeric_limits<Index>::max()))
      return Failure{message("tensor ", in_quotes(tensor.name), " has a dimension of ", size,
                             ", which no file can hold (the file is damaged)")};
    tensor.shape.push_back(static_cast<Index>(size));
  }
  tensor.type = Type{reader.number<std::uint32_t>()};
  info.offset = reader.number<std::uint64_t>();
  if (reader.failed())
    return Failure{"is cut short or damaged: the list of tensors does not end within the file"};
  return info;
}

/// Gives tensors their bytes, in the order of the file.
inline Status try_place(std::span<TensorInfo> infos, std::span<const std::byte> data,
                        std::uint64_t alignment) {
  std::uint64_t end = 0;     // of the tensor before
  bool end_is_known = true;  // its type is
  for (std::size_t i = 0; i < infos.size(); ++i) {
    Tensor& tensor = infos[i].tensor;
    const std::uint64_t offset = infos[i].offset;
    const auto wrong = [&tensor](const auto&... parts) {
      return Failure{message("tensor ", in_quotes(tensor.name), " ", parts...)};
    };
    const std::uint64_t begin = (end + alignment - 1) / alignment * alignment;
    if (offset % alignment != 0 || offset < end || (end_is_known && offset != begin))
      return wrong("is at offset ", offset, ", but the tensor before it ends at ", end,
                   "; tensors must follow each other, each at a multiple of ", alignment);
    if (offset > data.size())
      return wrong("begins at byte ", offset, " of the data, but only ", data.size(),
                   " are there; the file is cut short");
    const std::uint64_t rest = data.size() - offset;
    std::uint64_t size = i + 1 < infos.size() && infos[i + 1].offset >= offset
                             ? std::min(infos[i + 1].offset - offset, rest)
                             : rest;
    end_is_known = find_type(tensor.type) != nullptr;
    if (!element_count(tensor.shape)) return wrong("has a shape whose size overflows");
    if (end_is_known) {
      const auto exact = tensor_bytes(tensor.type, tensor.shape);
      if (!exact)
        return wrong("has a shape whose size overflows or, in ", to_string(tensor.type),
                     ", whose rows are not a whole number of blocks");
      if (*exact > rest)
        return wrong("takes ", *exact, " bytes, but only ", rest, " are there; the file is cut short");
      size = *exact;
    }
    tensor.bytes = data.subspan(static_cast<std::size_t>(offset), static_cast<std::size_t>(size));
    end = offset + (end_is_known ? size : 0);
  }
  if (end_is_known && data.size() - end >= alignment)
    return Failure{message("has ", data.size() - end, " bytes after its last tensor")};
  return success();
}

}  // namespace detail

template <class Item>
Status File::sort(const std::vector<Item>& items, Order& order, std::string_view Item::* name,
                  std::string_view what) {
  for (std::size_t i = 0; i < items.size(); ++i) order.push_back(i);
  std::sort(order.begin(), order.end(),
            [&](std::size_t i, std::size_t j) { return items[i].*name < items[j].*name; });
  const auto twice = std::adjacent_find(order.begin(), order.end(), [&](std::size_t i, std::size_t j) {
    return items[i].*name == items[j].*name;
  });
  if (twice == order.end()) return success();
  return Failure{detail::message("has two ", what, " named ", detail::in_quotes(items[*twice].*name))};
}

inline Result<File> File::try_make(std::span<const std::byte> bytes, MappedFile mapping) {
  File file;
  file.mapping_ = std::move(mapping);
  detail::Reader reader(bytes);
  const auto counts = detail::try_read_head(reader);
  if (!counts) return counts.failure();
  for (std::uint64_t i = 0; i < counts->values; ++i) {
    const auto entry = detail::try_read_entry(reader);
    if (!entry) return entry.failure();
    file.metadata_.push_back(*entry);
  }
  if (Status done = sort(file.metadata_, file.by_key_, &Entry::key, "metadata values"); !done)
    return done.failure();
  std::uint64_t alignment = default_alignment;
  if (const Value* value = file.find_value("general.alignment")) {
    alignment = value->type == ValueType::u32 ? value->natural().value_or(0) : 0;
    if (!std::has_single_bit(alignment))
      return Failure{"has a general.alignment that is not a 32-bit power of two"};
  }

  std::vector<detail::TensorInfo> infos;
  for (std::uint64_t i = 0; i < counts->tensors; ++i) {
    auto info = detail::try_read_info(reader);
    if (!info) return info.failure();
    infos.push_back(*std::move(info));
  }
  const std::uint64_t padding = (alignment - reader.position() % alignment) % alignment;
  const auto data = bytes.subspan(reader.position() + std::min<std::uint64_t>(padding, reader.remaining()));
  if (Status done = detail::try_place(infos, data, alignment); !done) return done.failure();
  for (detail::TensorInfo& info : infos) file.tensors_.push_back(std::move(info.tensor));
  if (Status done = sort(file.tensors_, file.by_name_, &Tensor::name, "tensors"); !done)
    return done.failure();
  return file;
}

/// Reads the caller's bytes, which must outlive the File. What the file claims is checked before it is used;
/// nothing of values and data is copied. A reason reads as if after the name of the file.
inline Result<File> try_parse(std::span<const std::byte> bytes) { return File::try_make(bytes); }

/// Maps a file (see MappedFile) and reads it: adapters and whole models, with tensors of any type. The data
/// are not touched.
inline Result<File> try_open(const std::filesystem::path& path) {
  Result<MappedFile> mapping = tiedlora::detail::try_open_as(FileKind::gguf, path, "a GGUF file");
  if (!mapping) return mapping.failure();
  const std::span<const std::byte> bytes = mapping->bytes();
  Result<File> file = File::try_make(bytes, *std::move(mapping));
  if (!file) return Failure{detail::message(detail::in_quotes(detail::utf8(path)), " ", file.error())};
  return file;
}
inline File open(const std::filesystem::path& path) { return detail::value_or_fail(try_open(path)); }

/// A Failure if the file is one part of a model that llama.cpp has split; such a part may look complete.
inline Status check_whole(const File& file) {
  const Value* parts = file.find_value("split.count");
  if (!parts || parts->number().value_or(0) <= 1) return success();
  return Failure{
      detail::message("is one of ", parts->number().value_or(0),
                      " parts of a split file; join them with llama.cpp's llama-gguf-split --merge")};
}

/// Copies a tensor's values in the order of the file, each converted once (through float). A Failure if out
/// has another length or the type is not F32, F16, BF16 or Q8_0.
template <class P>
Status try_read(const Tensor& tensor, std::span<P> out) {
  using detail::message, detail::in_quotes;
  if (static_cast<Index>(out.size()) != tensor.count())
    return Failure{message("tensor ", in_quotes(tensor.name), " has ", tensor.count(),
                           " values, but there is room for ", out.size())};
  const std::byte* from = tensor.bytes.data();
  const auto convert = [&]<class From>(From number) {
    for (P& to : out) {
      std::memcpy(&number, from, sizeof number);  // at any alignment
      from += sizeof number;
      to = static_cast<P>(static_cast<float>(number));
    }
  };
  switch (tensor.type) {
    case Type::F32:
      convert(float());
      return success();
    case Type::F16:
      convert(Eigen::half());
      return success();
    case Type::BF16:
      convert(Eigen::bfloat16());
      return success();
    case Type::Q8_0:
      // Blocks of a half, the scale, and 32 signed bytes.
      for (std::size_t i = 0; i < out.size(); i += 32) {
        Eigen::half scale;
        std::memcpy(&scale, from, sizeof scale);
        from += sizeof scale;
        for (std::size_t j = 0; j < 32; ++j)
          out[i + j] = static_cast<P>(static_cast<float>(scale) *
                                      static_cast<float>(static_cast<std::int8_t>(*from++)));
      }
      return success();
  }
  return Failure{message("tensor ", in_quotes(tensor.name), " is of type ", to_string(tensor.type), " (",
                         static_cast<std::uint32_t>(tensor.type), "); F32, F16, BF16 and Q8_0 can be read")};
}

}  // namespace gguf
TIEDLORA_END_NAMESPACE
