// The JSON header of a safetensors file: read with as little trust and memory as possible, and written.
#pragma once

#include <array>              // array
#include <cstddef>            // size_t
#include <cstdint>            // int64_t, uint8_t, uint64_t
#include <cstring>            // memcpy
#include <limits>             // numeric_limits
#include <map>                // map
#include <nlohmann/json.hpp>  // json
#include <optional>           // optional
#include <span>               // span
#include <string>             // string
#include <string_view>        // string_view
#include <utility>            // move
#include <vector>             // vector

#include "../../adapter/quote.hpp"
#include "../../views/config.hpp"
#include "../../views/error.hpp"
#include "../json/json.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace detail {

/// A dtype of the format and its size.
struct SafetensorsDtype {
  std::string_view name;
  std::uint64_t bits;
};
/// Those of safetensors 0.8.
inline constexpr std::array<SafetensorsDtype, 22> safetensors_dtypes = {
    {{"F64", 64},    {"F32", 32},        {"F16", 16},        {"BF16", 16}, {"BOOL", 8},    {"F4", 4},
     {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},    {"F8_E5M2", 8}, {"F8_E4M3", 8},
     {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},  {"U16", 16},    {"I32", 32},
     {"U32", 32},    {"C64", 64},        {"I64", 64},        {"U64", 64}}};

inline constexpr std::size_t max_safetensors_header = 100'000'000;

/// What a header says of one tensor.
struct SafetensorsItem {
  std::string name = {};
  std::string dtype = {};
  std::vector<Index> shape = {};
  std::uint64_t begin = 0, end = 0;  ///< of its data
};

/// Null if the format has no such dtype.
inline const SafetensorsDtype* find_safetensors_dtype(std::string_view name) {
  for (const SafetensorsDtype& dtype : safetensors_dtypes)
    if (dtype.name == name) return &dtype;
  return nullptr;
}

/// Takes the events of a header's parser. Keeps tensors and metadata only, so that memory stays within a
/// small multiple of the text. Fields of a tensor that the format does not name are skipped, as the reference
/// does.
class SafetensorsHeaderHandler : public JsonHandler {
 public:
  std::vector<SafetensorsItem> items = {};
  std::map<std::string, std::string> metadata = {};

  bool null() { return scalar("null"); }
  bool boolean(bool /*value*/) { return scalar("a boolean"); }
  bool number_integer(std::int64_t /*value*/) { return scalar("a negative number"); }
  bool number_float(double /*value*/, const std::string& /*text*/) {
    return scalar("a number that is not an integer");
  }
  bool binary(Json::binary_t& /*value*/) { return scalar("binary data"); }

  bool number_unsigned(std::uint64_t value) {
    if (place_ == Place::shape) {
      if (value > static_cast<std::uint64_t>(std::numeric_limits<Index>::max()))
        return refuse(tensor("has a dimension of ", value, ", which no file can hold"));
      items.back().shape.push_back(static_cast<Index>(value));
      return true;
    }
    if (place_ == Place::offsets) {
      if (offsets_ == 2) return refuse(tensor("has data_offsets that are not [begin, end]"));
      (offsets_++ == 0 ? items.back().begin : items.back().end) = value;
      return true;
    }
    return scalar("a number");
  }
  bool string(std::string& value) {
    if (place_ == Place::metadata) {
      if (!metadata.try_emplace(std::move(key_), std::move(value)).second)
        return refuse("has metadata with one name twice");
      return true;
    }
    if (place_ == Place::tensor && key_ == "dtype") {
      items.back().dtype = std::move(value);
      return true;
    }
    return scalar("a string");
  }

  bool start_object(std::size_t /*size*/) {
    switch (place_) {
      case Place::outside:
        place_ = Place::top;
        return true;
      case Place::top:
        if (key_ == "__metadata__") {
          if (has_metadata_) return refuse("has __metadata__ twice");
          has_metadata_ = true;
          place_ = Place::metadata;
          return true;
        }
        items.push_back({.name = std::move(key_)});
        fields_ = 0;
        place_ = Place::tensor;
        return true;
      default:
        return open("an object");
    }
  }
  bool start_array(std::size_t /*size*/) {
    if (place_ == Place::tensor && key_ == "shape")
      place_ = Place::shape;
    else if (place_ == Place::tensor && key_ == "data_offsets")
      place_ = Place::offsets;
    else
      return open("an array");
    offsets_ = 0;
    return true;
  }
  bool key(std::string& name) {
    if (skipping_ > 0) return true;
    key_ = std::move(name);
    if (place_ != Place::tensor) return true;
    const unsigned field = key_ == "dtype" ? 1 : key_ == "shape" ? 2 : key_ == "data_offsets" ? 4 : 0;
    if (fields_ & field) return refuse(tensor("has ", key_, " twice"));
    fields_ |= field;
    return true;
  }
  bool end_object() {
    if (skipping_ > 0) {
      --skipping_;
      return true;
    }
    if (place_ == Place::tensor) {
      if (fields_ != 7) return refuse(tensor("is missing dtype, shape or data_offsets"));
      place_ = Place::top;
    } else if (place_ == Place::metadata) {
      place_ = Place::top;
    }
    return true;
  }
  bool end_array() {
    if (skipping_ > 0) {
      --skipping_;
      return true;
    }
    if (place_ == Place::offsets && offsets_ != 2)
      return refuse(tensor("has data_offsets that are not [begin, end]"));
    place_ = Place::tensor;
    return true;
  }

 private:
  enum class Place : std::uint8_t { outside, top, metadata, tensor, shape, offsets };
  static constexpr int max_skipped_depth = 32;

  template <class... Parts>
  std::string tensor(const Parts&... parts) const {
    return message("is not that of a safetensors file: tensor ", in_quotes(items.back().name), " ", parts...);
  }
  bool skips() const {
    return skipping_ > 0 ||
           (place_ == Place::tensor && key_ != "dtype" && key_ != "shape" && key_ != "data_offsets");
  }
  // A value that is only in place in a field to be skipped.
  bool scalar(const char* what) {
    if (skips()) return true;
    if (place_ == Place::outside || place_ == Place::top)
      return refuse(message("is not that of a safetensors file: it has ", what, " where an object belongs"));
    if (place_ == Place::metadata)
      return refuse(message("has metadata ", in_quotes(key_), " with ", what, " where a string belongs"));
    return refuse(tensor("has ", what, " in the wrong place"));
  }
  bool open(const char* what) {
    if (!skips()) return scalar(what);
    if (skipping_ == max_skipped_depth) return refuse("is nested too deeply");
    ++skipping_;
    return true;
  }

  Place place_ = Place::outside;
  std::string key_;      // the last one
  unsigned fields_ = 0;  // of the tensor: 1 dtype, 2 shape, 4 data_offsets
  int offsets_ = 0;      // how many of the tensor's data_offsets were read
  int skipping_ = 0;     // how many arrays and objects are open in a field that is skipped
  bool has_metadata_ = false;
};

/// Bytes of a tensor; nothing if that overflows, is not a whole number of bytes or its dtype is unknown.
inline std::optional<std::uint64_t> safetensors_bytes(std::string_view dtype, std::span<const Index> shape) {
  const SafetensorsDtype* found = find_safetensors_dtype(dtype);
  if (!found) return std::nullopt;
  // In the order of the shape: as the reference does, an overflow counts even before a size of zero.
  std::uint64_t count = 1;
  constexpr std::uint64_t most = static_cast<std::uint64_t>(std::numeric_limits<Index>::max());
  for (const Index size : shape) {
    if (size < 0 || (size > 0 && count > most / static_cast<std::uint64_t>(size))) return std::nullopt;
    count *= static_cast<std::uint64_t>(size);
  }
  if (count > most / found->bits || count * found->bits % 8 != 0) return std::nullopt;
  return count * found->bits / 8;
}

/// The header for tensors that stand in this order, with the eight bytes of its length: compact JSON,
/// metadata first, spaces after it so that the data begin at a multiple of `alignment` (a multiple of 8) in
/// the file.
inline Result<std::string> try_safetensors_header(std::span<const SafetensorsItem> items,
                                                  const std::map<std::string, std::string>& metadata,
                                                  std::size_t alignment) {
  std::string header(8, '\0');
  header += '{';
  if (!metadata.empty()) {
    const Result<std::string> text = try_dump_json(Json(metadata));
    if (!text) return Failure{"the metadata " + text.error()};
    header += "\"__metadata__\":" + *text;
  }
  for (const SafetensorsItem& item : items) {
    const Result<std::string> name = try_dump_json(Json(item.name));
    if (!name) return Failure{message("tensor name ", in_quotes(item.name), " ", name.error())};
    if (header.size() > 9) header += ',';
    header += message(*name, ":{\"dtype\":\"", item.dtype, "\",\"shape\":[");
    for (std::size_t i = 0; i < item.shape.size(); ++i) header += message(i ? "," : "", item.shape[i]);
    header += message("],\"data_offsets\":[", item.begin, ",", item.end, "]}");
  }
  header += '}';
  header.append((alignment - header.size() % alignment) % alignment, ' ');
  if (header.size() - 8 > max_safetensors_header)
    return Failure{message("the header would take ", header.size() - 8, " bytes; the format allows ",
                           max_safetensors_header)};
  const std::uint64_t length = header.size() - 8;
  std::memcpy(header.data(), &length, 8);
  return header;
}

}  // namespace detail
TIEDLORA_END_NAMESPACE
