// Text that is on every machine that can build this program: the compiler's standard library and Eigen.
#pragma once

#include <algorithm>     // sort
#include <filesystem>    // path
#include <stdexcept>     // runtime_error
#include <string>        // string
#include <string_view>   // string_view
#include <system_error>  // error_code
#include <vector>        // vector

// Both are lists of folders separated by ':', which CMake writes.
#ifndef FINETUNE_CXX_INCLUDE_DIRECTORIES
#define FINETUNE_CXX_INCLUDE_DIRECTORIES ""
#endif
#ifndef FINETUNE_EIGEN_INCLUDE_DIRECTORIES
#define FINETUNE_EIGEN_INCLUDE_DIRECTORIES ""
#endif

namespace finetune {

inline std::vector<std::filesystem::path> separated(std::string_view paths) {
  std::vector<std::filesystem::path> list;
  while (!paths.empty()) {
    const std::size_t colon = std::min(paths.find(':'), paths.size());
    if (colon > 0) list.emplace_back(paths.substr(0, colon));
    paths.remove_prefix(std::min(colon + 1, paths.size()));
  }
  return list;
}

/// The C++ standard library headers of the compiler that built this program, else the newest in
/// /usr/include/c++.
inline std::vector<std::filesystem::path> default_base_text() {
  namespace fs = std::filesystem;
  std::vector<fs::path> folders = separated(FINETUNE_CXX_INCLUDE_DIRECTORIES);
  std::vector<fs::path> others;
  std::error_code none;
  for (const fs::directory_entry& entry : fs::directory_iterator("/usr/include/c++", none))
    others.push_back(entry.path());
  std::sort(others.begin(), others.end(), [](const fs::path& a, const fs::path& b) {
    const std::string x = a.filename().string(), y = b.filename().string();
    return x.size() != y.size() ? x.size() > y.size() : x > y;  // 12 before 9
  });
  folders.insert(folders.end(), others.begin(), others.end());
  for (const fs::path& folder : folders)
    if (fs::exists(folder / "vector") && fs::exists(folder / "cstddef")) return {folder};
  throw std::runtime_error(
      "the C++ standard library headers, which are the default base text, were not found; name other text "
      "with --base-text PATH");
}

/// Eigen's own headers. Its src/misc holds LAPACK's C interface, a megabyte of one repeated pattern: leave
/// that out.
inline std::vector<std::filesystem::path> default_task_text() {
  namespace fs = std::filesystem;
  for (const fs::path& folder : separated(FINETUNE_EIGEN_INCLUDE_DIRECTORIES ":/usr/include/eigen3")) {
    std::vector<fs::path> found;
    for (const fs::path& part : {folder / "Eigen", folder / "unsupported" / "Eigen"})
      if (fs::exists(part)) found.push_back(part);
    if (!found.empty()) return found;
  }
  throw std::runtime_error(
      "Eigen's headers, which are the default task text, were not found; name other text with --task-text "
      "PATH");
}
inline const std::vector<std::string>& left_out_of_task_text() {
  static const std::vector<std::string> names = {"misc"};
  return names;
}

}  // namespace finetune
