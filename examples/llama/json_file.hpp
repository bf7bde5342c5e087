// A JSON file that is read by its fields, with errors that say where what is wrong.
#pragma once

#include <cmath>        // nan
#include <cstddef>      // ptrdiff_t, size_t
#include <cstdint>      // int32_t, uint64_t
#include <filesystem>   // path
#include <stdexcept>    // runtime_error
#include <string>       // string
#include <string_view>  // string_view
#include <utility>      // move

#include <fmt/format.h>
#include <tiedlora/io/file.hpp>       // MappedFile
#include <tiedlora/io/json/json.hpp>  // Json, try_parse_json
#include <tiedlora/io/sniff.hpp>      // try_open_as

namespace llama {

using tiedlora::Json;

/// The whole of a file. Throws std::runtime_error.
inline std::string read_file(const std::filesystem::path& path) {
  const auto file = tiedlora::MappedFile::try_open(path);
  if (!file) throw std::runtime_error(file.error());
  const auto bytes = file->bytes();
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// A value in a file, and how to get there: "model.merges".
class JsonNode {
 public:
  JsonNode(const Json* value, std::string file, std::string where)
      : value_(value), file_(std::move(file)), where_(std::move(where)) {}

  /// Of an object; a node without a value if it has no such field, or null there.
  JsonNode operator[](const char* name) const {
    const Json* found = nullptr;
    if (value_ && value_->is_object())
      if (const auto at = value_->find(name); at != value_->end() && !at->is_null()) found = &*at;
    return {found, file_, where_.empty() ? name : where_ + "." + name};
  }
  JsonNode element(std::size_t i) const { return {&(*value_)[i], file_, fmt::format("{}[{}]", where_, i)}; }
  explicit operator bool() const { return value_ != nullptr; }
  /// Whether an object has the field, null or not.
  bool has(const char* name) const { return value_ && value_->is_object() && value_->contains(name); }
  bool is_text() const { return value_ && value_->is_string(); }
  bool is_array() const { return value_ && value_->is_array(); }
  bool is_object() const { return value_ && value_->is_object(); }

  const std::string& text() const {
    if (!is_text()) fail("is not a string");
    return value_->get_ref<const std::string&>();
  }
  bool boolean(bool otherwise) const {
    if (!value_) return otherwise;
    if (!value_->is_boolean()) fail("is neither true nor false");
    return value_->get<bool>();
  }
  double number(double least, double most) const {
    const double number = value_ && value_->is_number() ? value_->get<double>() : std::nan("");
    if (!(number >= least && number <= most))
      fail(fmt::format("must be a number from {} to {}", least, most));
    return number;
  }
  /// A whole number of at least 1.
  std::ptrdiff_t count(std::ptrdiff_t most) const {
    const double number = value_ && value_->is_number_unsigned() ? value_->get<double>() : 0;
    if (!(number >= 1 && number <= static_cast<double>(most)))
      fail(fmt::format("must be a whole number from 1 to {}", most));
    return static_cast<std::ptrdiff_t>(number);
  }
  const Json::array_t& array() const {
    if (!is_array()) fail("is not a list");
    return value_->get_ref<const Json::array_t&>();
  }
  const Json::object_t& object() const {
    if (!is_object()) fail("is not an object");
    return value_->get_ref<const Json::object_t&>();
  }
  /// The number of a token.
  std::int32_t natural() const { return natural(value_); }
  std::int32_t natural(const Json* value) const {
    if (!value || !value->is_number_unsigned() || value->get<std::uint64_t>() >= max_tokens)
      fail(fmt::format("has something that is not a token id from 0 to {}", max_tokens - 1));
    return value->get<std::int32_t>();
  }
  [[noreturn]] void fail(std::string_view what) const {
    throw std::runtime_error(fmt::format("{}: {} {}", tiedlora::detail::in_quotes(file_),
                                         where_.empty() ? "it" : tiedlora::detail::in_quotes(where_),
                                         tiedlora::detail::escaped(what)));
  }

 private:
  static constexpr std::uint64_t max_tokens = std::uint64_t{1}
                                              << 24;  // what a file claims is not to fill the memory

  const Json* value_;
  std::string file_, where_;
};

class JsonFile {
 public:
  explicit JsonFile(const std::filesystem::path& path) : path_(path) {
    const auto file = tiedlora::detail::try_open_as(tiedlora::FileKind::json, path, "JSON");
    if (!file) throw std::runtime_error(file.error());
    const auto bytes = file->bytes();
    auto json = tiedlora::try_parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, 64);
    if (!json)
      throw std::runtime_error(
          fmt::format("{} {}", tiedlora::detail::in_quotes(path.string()), json.error()));
    json_ = *std::move(json);
  }
  JsonNode root() const { return {&json_, path_.string(), ""}; }

 private:
  std::filesystem::path path_;
  Json json_;
};

}  // namespace llama
