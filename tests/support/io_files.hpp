// Folders for files, and failures by what they say.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <tiedlora/adapter/result.hpp>

namespace tiedlora_test {

/// Part of the system's reason where there is no such file. Windows: "File not found", "cannot find the
/// path", as the version has it.
#ifdef _WIN32
inline constexpr std::string_view not_there = "ound";
#else
inline constexpr std::string_view not_there = "No such file";
#endif

/// A folder of the test's own, gone at its end.
class Folder {
 public:
  Folder() {
    std::random_device random;
    path_ = std::filesystem::temp_directory_path() /
            ("tiedlora-test-" + std::to_string(random()) + std::to_string(random()));
    std::filesystem::create_directories(path_);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }
  /// How many files and folders are in it.
  std::ptrdiff_t entries() const {
    return std::distance(std::filesystem::directory_iterator(path_), std::filesystem::directory_iterator());
  }

 private:
  std::filesystem::path path_;
};

inline std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}
inline void write_text(const std::filesystem::path& path, std::string_view text) {
  std::ofstream(path, std::ios::binary) << text;
}

/// There must be no value, and the reason must hold each of these parts.
template <class T>
void expect_failure(const tiedlora::Result<T>& result, std::initializer_list<std::string_view> parts) {
  if (result) {
    ADD_FAILURE() << "no failure; expected one with \"" << *parts.begin() << "\"";
    return;
  }
  for (const std::string_view part : parts)
    EXPECT_NE(result.error().find(part), std::string::npos) << "no \"" << part << "\" in: " << result.error();
}

}  // namespace tiedlora_test
