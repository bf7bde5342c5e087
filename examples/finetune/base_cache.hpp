// The pre-trained base, kept in a file so that it is made once.
#pragma once

#include <cstdint>     // uint64_t
#include <cstring>     // memcpy
#include <filesystem>  // path, exists
#include <optional>    // optional
#include <span>        // span
#include <string>      // string

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "files.hpp"  // read_file, write_atomically
#include "hash.hpp"   // fnv1a

namespace finetune {

/// A file of float32 numbers under a name that is the hash of what they depend on. Format: one line of JSON
/// (key, notes, count, checksum), a newline, the numbers as they lie in memory.
class BaseCache {
 public:
  /// `key`: everything the numbers depend on.
  BaseCache(const std::filesystem::path& folder, nlohmann::ordered_json key)
      : key_(std::move(key)), path_(folder / fmt::format("base-{:016x}.f32", fnv1a(key_.dump()))) {}

  const std::filesystem::path& path() const { return path_; }

  /// Fills `values` and returns the notes saved with them; nothing, and values untouched, if there is no such
  /// file or it is damaged (then `problem` says how).
  std::optional<nlohmann::ordered_json> load(std::span<float> values, std::string& problem) const {
    problem.clear();
    if (!std::filesystem::exists(path_)) return std::nullopt;
    const std::string bytes = read_file(path_);
    const std::size_t newline = bytes.find('\n');
    const auto header =
        nlohmann::ordered_json::parse(bytes.substr(0, newline), nullptr, /*allow_exceptions=*/false);
    if (newline == std::string::npos || !header.contains("key") || header["key"] != key_) {
      problem = "its header is not the expected one";
      return std::nullopt;
    }
    const std::string_view payload = std::string_view(bytes).substr(newline + 1);
    if (payload.size() != values.size_bytes()) {
      problem =
          fmt::format("it holds {} bytes of numbers instead of {}", payload.size(), values.size_bytes());
      return std::nullopt;
    }
    if (!header.contains("checksum") || header["checksum"] != checksum(payload)) {
      problem = "its checksum does not fit its numbers";
      return std::nullopt;
    }
    std::memcpy(values.data(), payload.data(), payload.size());
    return header.contains("notes") ? header["notes"] : nlohmann::ordered_json::object();
  }

  void save(std::span<const float> values, const nlohmann::ordered_json& notes) const {
    const std::string_view payload(reinterpret_cast<const char*>(values.data()), values.size_bytes());
    const nlohmann::ordered_json header = {
        {"key", key_}, {"notes", notes}, {"count", values.size()}, {"checksum", checksum(payload)}};
    write_atomically(path_, header.dump() + '\n' + std::string(payload));
  }

 private:
  static std::string checksum(std::string_view payload) { return fmt::format("{:016x}", fnv1a(payload)); }

  nlohmann::ordered_json key_;
  std::filesystem::path path_;
};

}  // namespace finetune
